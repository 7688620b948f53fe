"""The ridge game against scikit-learn, prefix by prefix, and its one-point updates against fits made anew."""

from itertools import permutations
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from tsds_jax.errors import InputError
from tsds_jax.estimators import enumerate_coalitions
from tsds_jax.estimators.permutation import walk_chains
from tsds_jax.games import Game, utility
from tsds_jax.games.outcomes import INTERCEPTS
from tsds_jax.games.ridge import ridge_game
from tsds_jax.games.utilities import REGRESSION_UTILITIES, UTILITIES

SHAPES = {"tall": (60, 5), "square": (40, 13), "wide": (25, 40)}


def problem(points=60, features=5, rows=30, classes=2, seed=0, shift=0.0):
    """Classes of a linear model, or with no classes its noisy values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + rows, features))
    if classes:
        y = np.argmax(x @ rng.normal(size=(features, classes)) + rng.gumbel(size=(points + rows, classes)), 1)
    else:
        y = x @ rng.normal(size=features) + rng.normal(size=points + rows) + 7
    x = (x + shift).astype(np.float32)
    return x[:points], y[:points], x[points:], y[points:]


def sklearn_scores(x, y, x_val, classes, C, intercept, weight=None):
    """Scores ``[classes, rows]`` in float64, of all columns, one for regression."""
    target = np.eye(classes)[y] if classes else y[:, None]
    x, x_val = x.astype(np.float64), x_val.astype(np.float64)
    if intercept == "penalised":
        x, x_val = (np.column_stack([some, np.ones(len(some))]) for some in (x, x_val))
    model = Ridge(alpha=1 / C, fit_intercept=intercept == "free", solver="cholesky").fit(x, target, weight)
    return model.predict(x_val).reshape(len(x_val), -1).T


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


_scores = jax.jit(lambda game, order, sizes: game.running(order, jnp.max(sizes))[0](sizes))
_prefixes = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes))
_fit = jax.jit(lambda game, order, size: game.fit(order, size))
_add = jax.jit(lambda game, fit, points: game.add_one_marginals(fit.model, points).marginal)


def in_columns(scores, classes):
    """Our scores as scikit-learn's columns; of two classes only the difference is kept."""
    return scores[1:] - scores[:1] if classes == 2 else scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("C", "intercept"), [(0.01, "free"), (1.0, "free"), (10.0, "free"), (1.0, "penalised"), (10.0, "none")]
)
@pytest.mark.parametrize("classes", [2, 3, 0])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_of_every_prefix_are_scikit_learns(shape, classes, C, intercept):
    points, features = SHAPES[shape]
    x, y, x_val, y_val = problem(points, features, classes=classes)
    name = "accuracy" if classes else "r2"
    game = ridge_game(x, y, x_val, y_val, classes=classes, utility=name, C=C, intercept=intercept)
    order = np.random.default_rng(1).permutation(points)
    ours = np.asarray(_scores(game, jnp.asarray(order), jnp.arange(points + 1)), np.float64)
    shift = y.mean() if not classes and intercept == "free" else 0.0  # which the game takes off the targets
    assert not ours[0].any()
    for size in range(1, points + 1):
        first = order[:size]
        theirs = in_columns(sklearn_scores(x[first], y[first], x_val, classes, C, intercept), classes)
        close(ours[size] + shift, theirs)


@pytest.mark.parametrize("intercept", ["free", "none"])
@pytest.mark.parametrize("points", [100, 32])
def test_prefixes_of_as_many_points_as_features_keep_their_digits_under_a_small_penalty(points, intercept):
    x, y, x_val, y_val = problem(points, 32, classes=3)
    game = ridge_game(x, y, x_val, y_val, classes=3, C=100.0, intercept=intercept)
    ours = np.asarray(_scores(game, jnp.arange(points), jnp.arange(points + 1)), np.float64)
    for size in range(1, points + 1):
        close(ours[size], sklearn_scores(x[:size], y[:size], x_val, 3, 100.0, intercept))


@pytest.mark.parametrize("shift", [3.0, 100.0])
def test_an_intercept_takes_up_any_shift_of_the_features(shift):
    x, y, x_val, y_val = problem(shift=shift)
    game = ridge_game(x, y, x_val, y_val, classes=2)
    ours = np.asarray(_scores(game, jnp.arange(60), jnp.arange(61)))
    for size in (1, 2, 5, 6, 7, 30, 60):
        close(ours[size], in_columns(sklearn_scores(x[:size], y[:size], x_val, 2, 1.0, "free"), 2))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_classification_utilities_are_those_of_the_scores(classes):
    x, y, x_val, y_val = problem(classes=classes, seed=3)
    sizes = (20, 45, 60)
    scores = [sklearn_scores(x[:size], y[:size], x_val, classes, 1.0, "free").T for size in sizes]
    probability = [np.exp(2 * s) / np.exp(2 * s).sum(1, keepdims=True) for s in scores]
    true = [p[np.arange(len(y_val)), y_val] for p in probability]
    hits = [np.argmax(s, 1) == y_val for s in scores]
    expected = {
        "accuracy": [h.mean() for h in hits],
        "balanced_accuracy": [np.mean([h[y_val == c].mean() for c in range(classes)]) for h in hits],
        "probability": [p.mean() for p in true],
        "log_likelihood": [np.log(p).mean() for p in true],
    }
    assert {*expected, "class_wise"} == set(UTILITIES)  # which has a file of its own
    for name, values in expected.items():
        game = ridge_game(x, y, x_val, y_val, classes=classes, utility=name)
        np.testing.assert_allclose(_prefixes(game, jnp.arange(60), jnp.array(sizes)).utility, values, atol=1e-5)


def test_regression_utilities_are_those_of_the_predictions_and_r2_is_clipped_at_minus_one():
    x, y, x_val, y_val = problem(classes=0)
    error = {
        size: ((sklearn_scores(x[:size], y[:size], x_val, 0, 1.0, "free")[0] - y_val) ** 2).mean() for size in (8, 60)
    }
    error[0] = ((y.mean() - y_val) ** 2).mean()
    for name in REGRESSION_UTILITIES:
        game = ridge_game(x, y, x_val, y_val, classes=None, utility=name)
        ours = _prefixes(game, jnp.arange(60), jnp.array([0, 8, 60])).utility
        expected = [-error[k] if name == "neg_mean_squared_error" else 1 - error[k] / y_val.var() for k in (0, 8, 60)]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    far = ridge_game(x, y + 100, x_val, y_val, classes=None, utility="r2")
    assert float(_prefixes(far, jnp.arange(60), jnp.array([60])).utility[0]) == -1.0


@pytest.mark.parametrize("classes", [2, 4])
def test_the_empty_coalition_knows_nothing_and_one_class_alone_is_predicted(classes):
    x, _, x_val, y_val = problem(classes=classes)
    y = np.ones(60, int)

    def at(name, size):
        game = ridge_game(x, y, x_val, y_val, classes=classes, utility=name)
        return float(_prefixes(game, jnp.arange(60), jnp.array([size])).utility[0])

    assert at("accuracy", 0) == pytest.approx(1 / classes)
    assert at("log_likelihood", 0) == pytest.approx(-np.log(classes))
    assert at("accuracy", 3) == pytest.approx(np.mean(y_val == 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "name", "intercept"),
    [
        (2, "log_likelihood", "free"),
        (2, "log_likelihood", "none"),
        (2, "log_likelihood", "penalised"),
        (3, "probability", "free"),
        (0, "r2", "free"),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_adding_a_point_equals_fitting_anew(shape, classes, name, intercept):
    points, features = SHAPES[shape]
    x, y, x_val, y_val = problem(points, features, classes=classes, seed=2)
    game = ridge_game(x, y, x_val, y_val, classes=classes, utility=name, intercept=intercept)
    length = points - 4
    for seed, size in enumerate([0, 1, 2, 7, features, length]):
        size = min(size, length)
        order = np.random.default_rng(seed).permutation(points)
        fit = _fit(game, jnp.asarray(order[:length]), jnp.int32(size))
        added = np.asarray(_add(game, fit, jnp.arange(points)))
        for i in order[size : size + 3]:
            next_is_i = np.concatenate([order[:size], [i], np.setdiff1d(order[size:], i)])
            before, after = _prefixes(game, jnp.asarray(next_is_i), jnp.array([size, size + 1])).utility
            assert float(game.worth(game.fitted_outcome(fit.model))) == pytest.approx(float(before), abs=1e-5)
            assert added[i] == pytest.approx(float(after - before), abs=1e-5)


def test_the_marginal_of_a_chain_is_that_of_its_next_point_in_accuracy_too():
    x, y, x_val, y_val = problem(points=30, rows=101)
    game = ridge_game(x, y, x_val, y_val, classes=2)
    order = jnp.asarray(np.random.default_rng(0).permutation(30))
    utilities = np.asarray(_prefixes(game, order, jnp.arange(31)).utility)
    for size in range(30):
        fit = _fit(game, order, jnp.int32(size))
        assert float(_add(game, fit, order[size : size + 1])[0]) == pytest.approx(np.diff(utilities)[size], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("intercept", INTERCEPTS)
def test_duplicated_points_get_equal_values_and_the_average_over_all_orders_is_the_enumeration(intercept):
    x, y, x_val, y_val = problem(points=5, rows=9)
    x[1], y[1] = x[0], y[0]
    game = ridge_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", intercept=intercept)
    exact = enumerate_coalitions(game).by_size.mean(0)
    assert exact[0] == pytest.approx(exact[1], abs=1e-6)
    orders = jnp.asarray(list(permutations(range(5))))
    marginals = np.diff(jax.jit(jax.vmap(lambda o: game.prefix_utilities(o, jnp.arange(6)).utility))(orders))
    values = np.zeros(5)
    np.add.at(values, np.asarray(orders), marginals)
    np.testing.assert_allclose(values / factorial(5), exact, atol=1e-6)


def test_a_zero_row_changes_nothing_without_an_intercept():
    x, y, x_val, y_val = problem(points=8, rows=9)
    x[3] = 0
    game = ridge_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", intercept="none")
    np.testing.assert_allclose(enumerate_coalitions(game).by_size[:, 3], 0, atol=1e-7)
    fit = _fit(game, jnp.array([0, 5, 6]), jnp.int32(2))
    assert float(_add(game, fit, jnp.array([3]))[0]) == pytest.approx(0, abs=1e-8)


@pytest.mark.slow
def test_a_chains_marginals_sum_to_what_the_whole_chain_is_worth():
    x, y, x_val, y_val = problem()
    game = ridge_game(x, y, x_val, y_val, classes=2, utility="log_likelihood")
    order = jnp.asarray(np.random.default_rng(0).permutation(60)[:13])
    walk = walk_chains(game, order[None], jnp.float32(0), block=5, lanes=1)
    worth_of = jax.jit(utility)
    worth = worth_of(game, jnp.zeros(60, bool).at[order].set(True)) - worth_of(game, jnp.zeros(60, bool))
    assert float(walk.marginals.sum()) == pytest.approx(float(worth), abs=1e-5)
    assert isinstance(game, Game)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [2, 3, 0])
def test_float32_agrees_with_float64(shape, classes):
    data = problem(*SHAPES[shape], classes=classes, seed=5)
    name = "log_likelihood" if classes else "r2"
    points = len(data[0])

    def found():
        game = ridge_game(*data, classes=classes, utility=name)
        order, sizes = jnp.arange(points), jnp.arange(points + 1)
        fit = _fit(game, order, jnp.int32(points // 2))
        return _prefixes(game, order, sizes).utility, _add(game, fit, order[points // 2 :])

    single = found()
    with jax.enable_x64(True):
        double = found()
    assert single[0].dtype == jnp.float32
    assert double[0].dtype == jnp.float64
    for one, two in zip(single, double, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_orders_and_sizes_of_one_shape_compile_once():
    x, y, x_val, y_val = problem(points=31)
    game = ridge_game(x, y, x_val, y_val, classes=2)
    before = _prefixes._cache_size(), _fit._cache_size(), _add._cache_size()
    for seed in range(3):
        order = jnp.asarray(np.random.default_rng(seed).permutation(31)[:20])
        _prefixes(game, order, jnp.arange(seed, seed + 9))
        _add(game, _fit(game, order, jnp.int32(seed)), order)
    assert (_prefixes._cache_size(), _fit._cache_size(), _add._cache_size()) == tuple(count + 1 for count in before)


def test_fifty_classes_and_one_validation_row():
    x, y, x_val, y_val = problem(points=120, features=6, rows=1, classes=50)
    game = ridge_game(x, y, x_val, y_val, classes=50, utility="log_likelihood")
    close(_scores(game, jnp.arange(120), jnp.array([120]))[0], sklearn_scores(x, y, x_val, 50, 1.0, "free"))


@pytest.mark.slow
@pytest.mark.parametrize("features", [20, 1300])
def test_a_thousand_classes_are_fitted_as_by_a_direct_solve_in_bounded_memory(features):
    points, rows, classes = 1200, 40, 1000
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(points, features)).astype(np.float32), rng.normal(size=(rows, features))
    y, y_val = np.append(rng.permutation(classes), rng.integers(0, classes, 200)), rng.integers(0, classes, rows)
    game = ridge_game(x, y, x_val, y_val, classes=classes, utility="log_likelihood")
    order = rng.permutation(points)

    def log_likelihood(members):
        taken, target = x[members].astype(np.float64), np.eye(classes)[y[members]]
        mean, level = taken.mean(0), target.mean(0)
        rows_about, target_about = taken - mean, target - level
        dual = np.linalg.solve(rows_about @ rows_about.T + np.eye(len(members)), target_about)
        scores = 2 * (level + (x_val - mean) @ rows_about.T @ dual)
        return np.mean(scores[np.arange(rows), y_val] - np.log(np.exp(scores).sum(1)))

    prefixes = _prefixes.lower(game, jnp.asarray(order), jnp.arange(1201)).compile()
    fit, add = (
        step.lower(*given).compile()
        for step, given in (
            (_fit, (game, jnp.asarray(order[:200]), jnp.int32(150))),
            (_add, (game, jax.eval_shape(_fit, game, jnp.asarray(order[:200]), jnp.int32(150)), jnp.asarray(order))),
        )
    )
    # The scores of all prefixes at once would be 190 MB.
    assert all(step.memory_analysis().temp_size_in_bytes < 120e6 for step in (prefixes, fit, add))
    found = prefixes(game, jnp.asarray(order), jnp.arange(1201)).utility
    assert float(found[0]) == pytest.approx(-np.log(classes), abs=1e-5)
    for size in (1, 150, 1200):
        assert float(found[size]) == pytest.approx(log_likelihood(order[:size]), abs=1e-5)
    added = add(game, fit(game, jnp.asarray(order[:200]), jnp.int32(150)), jnp.asarray(order))
    before = log_likelihood(order[:150])
    for place in (150, 1199):
        change = log_likelihood(np.append(order[:150], order[place])) - before
        assert float(added[place]) == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_marginal_of_the_last_point_is_that_of_the_leverage_formula(shape):
    points, features = SHAPES[shape]
    x, y, _, _ = problem(points, features, classes=0)
    # The point left out is the one validation row, so its marginal is what its squared error falls by.
    design = np.column_stack([x.astype(np.float64), np.ones(points)])
    penalty = np.diag(np.append(np.ones(features), 0.0))
    hat = design @ np.linalg.solve(design.T @ design + penalty, design.T)
    residual = y - hat @ y
    expected = (residual / (1 - np.diag(hat))) ** 2 - residual**2
    for i in (0, 7, points - 1):
        game = ridge_game(x, y, x[i : i + 1], y[i : i + 1], classes=None, utility="neg_mean_squared_error")
        others = jnp.asarray(np.delete(np.arange(points), i))
        marginal = _add(game, _fit(game, others, jnp.int32(points - 1)), jnp.array([i]))
        np.testing.assert_allclose(marginal, expected[i], rtol=2e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 700])
@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_work_done_in_parts_gives_the_same(shape, limit, monkeypatch):
    x, y, x_val, y_val = problem(*SHAPES[shape], classes=3)
    game = ridge_game(x, y, x_val, y_val, classes=3, utility="log_likelihood")
    order, sizes = jnp.arange(len(x)), jnp.arange(len(x) + 1)
    whole = _prefixes(game, order, sizes).utility, _add(game, _fit(game, order, jnp.int32(5)), order)
    monkeypatch.setattr("tsds_jax.games.chunks._CPU", limit)
    parts = (
        jax.jit(lambda game: game.prefix_utilities(order, sizes).utility)(game),
        jax.jit(lambda game: game.add_one_marginals(game.fit(order, jnp.int32(5)).model, order).marginal)(game),
    )
    for one, two in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    outcome, _ = jax.jit(lambda game: game.prefix_outcomes(order, sizes))(game)
    np.testing.assert_allclose(outcome.log_probability.mean(1), whole[0], atol=1e-5)


@jax.jit
def _everything(game, order):
    """Outcomes and utilities of every prefix of one order, and some add-one marginals."""
    sizes = jnp.arange(order.shape[0] + 1)
    added = jax.lax.map(
        lambda size: game.add_one_marginals(game.fit(order, size).model, order).marginal, sizes[:: len(sizes) // 3]
    )
    return game.prefix_outcomes(order, sizes)[0], game.prefix_utilities(order, sizes).utility, added


WEIGHTS = {
    "equal": lambda rng, size: None,
    "some zero": lambda rng, size: np.append(rng.choice([0.0, 1.0, 2.5], size - 2), [0.7, 1.0]),
    "far apart": lambda rng, size: 10 ** rng.uniform(-12, 12, size),
    "hardly any": lambda rng, size: np.append(np.zeros(size - 2), [1e-300, 1e-299]),
}


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    features=st.sampled_from([1, 20]),
    classes=st.sampled_from([0, 2, 4]),
    scale=st.sampled_from([1e-30, 1e-4, 1.0, 1e3, 1e30]),
    kind=st.sampled_from(["random", "duplicates", "constant", "collinear", "zero"]),
    intercept=st.sampled_from(INTERCEPTS),
    weights=st.sampled_from(sorted(WEIGHTS)),
    seed=st.integers(0, 5),
)
def test_no_input_gives_a_nan_and_every_hit_is_in_range(features, classes, scale, kind, intercept, weights, seed):
    x, y, x_val, y_val = problem(12, features, 7, classes, seed)
    if kind == "duplicates":
        x[:] = x[0]
    elif kind == "constant":
        x[:, 0] = x_val[:, 0] = 1
    elif kind == "collinear":
        x[:, -1], x_val[:, -1] = 2 * x[:, 0], 2 * x_val[:, 0]
    elif kind == "zero":
        x[:] = 0
    x, x_val = x * np.float32(scale), x_val * np.float32(scale)
    name = "log_likelihood" if classes else "r2"
    weight = WEIGHTS[weights](np.random.default_rng(seed), 12)
    weight_val = WEIGHTS[weights](np.random.default_rng(seed), 7)
    given = {"intercept": intercept, "sample_weight": weight, "weight_val": weight_val}
    game = ridge_game(x, y, x_val, y_val, classes=classes, utility=name, **given)
    outcome, utilities, added = _everything(game, jnp.arange(12))
    for found in (*outcome, utilities, added):
        assert np.isfinite(found).all()
    if classes:
        assert ((outcome.hit >= 0) & (outcome.hit <= 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("far", [1e9, 1e14, 1e40])
@pytest.mark.parametrize(
    ("classes", "name"), [(0, "neg_mean_squared_error"), (0, "r2"), (2, "log_likelihood"), (3, "log_likelihood")]
)
def test_validation_rows_far_beyond_the_points_give_finite_utilities(classes, name, far):
    x, y, x_val, y_val = problem(12, 4, 7, classes)
    scale = 1.0 if classes else 1e15
    game = ridge_game(x, scale * y, far * x_val.astype(float), scale * y_val, classes=classes, utility=name, C=1e6)
    outcome, utilities, added = _everything(game, jnp.arange(12))
    for found in (*outcome, utilities, added):
        assert np.isfinite(found).all()


def test_a_penalty_lost_in_rounding_is_raised_and_counted():
    x, y, x_val, y_val = problem()
    game = ridge_game(x, y, x_val, y_val, classes=2, C=1e12)
    found = _prefixes(game, jnp.arange(60), jnp.array([0, 3, 60]))
    assert int(found.unconverged) == 2  # the empty coalition has no fit
    assert np.isfinite(found.utility).all()
    assert int(_fit(game, jnp.arange(60), jnp.int32(9)).unconverged) == 1
    theirs = in_columns(sklearn_scores(x, y, x_val, 2, 1e12, "free"), 2)
    close(_scores(game, jnp.arange(60), jnp.array([60]))[0], theirs)  # enough points: the penalty no longer matters


def test_a_utility_of_the_wrong_kind_is_refused():
    x, y, x_val, y_val = problem(classes=0)
    with pytest.raises(InputError, match="'accuracy' is not one for regression"):
        ridge_game(x, y, x_val, y_val, classes=None)
    with pytest.raises(InputError, match="'r2' is not one for 2 classes"):
        ridge_game(x, y > 7, x_val, y_val > 7, classes=2, utility="r2")
    with pytest.raises(InputError, match="y_val has one value only"):
        ridge_game(x, y, x_val, np.ones(30), classes=None, utility="r2")


@pytest.mark.parametrize("intercept", [True, "fixed"])
def test_an_intercept_of_no_known_kind_is_refused(intercept):
    with pytest.raises(InputError, match=f"intercept {intercept!r} is unknown: use one of free, penalised, none"):
        ridge_game(*problem(), classes=2, intercept=intercept)
