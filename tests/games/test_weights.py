"""Weights of validation rows against means taken by hand, and of training points against scikit-learn's fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import laplacian_kernel

from tsds_jax.errors import InputError
from tsds_jax.games import kernel_game, logistic_game, ridge_game, utility
from tsds_jax.games.utilities import row_weights

SHAPES = {"tall": (60, 5), "square": (40, 13), "wide": (25, 40)}


@jax.jit
def _prefix_scores(game, order):
    length = order.shape[0]
    return game.running(order, jnp.int32(length))[0](jnp.arange(length + 1))


@jax.jit
def _added_scores(game, order, size, points):
    return game.added(game.fit(order, size).model, points)


_prefixes = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes).utility)
_marginals = jax.jit(lambda game, order, size: game.add_one_marginals(game.fit(order, size).model, order).marginal)


def problem(points, features, classes, rows=20, seed=0):
    """Features, labels and uneven weights, some of them zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + rows, features)).astype(np.float32)
    if classes:
        y = np.argmax(x @ rng.normal(size=(features, classes)) + rng.gumbel(size=(points + rows, classes)), 1)
    else:
        y = x @ rng.normal(size=features) + rng.normal(size=points + rows) + 3
    weight = rng.choice([0.0, 0.2, 1.0, 3.0], points) * rng.uniform(0.5, 1.5, points)
    return x[:points], y[:points], x[points:], y[points:], weight


def in_columns(scores, classes):
    """scikit-learn's predictions ``[rows, targets]`` as our scores; of two classes only the difference is kept."""
    scores = scores.reshape(len(scores), -1).T
    return scores[1:] - scores[:1] if classes == 2 else scores


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def ridge_scores(x, y, x_val, classes, intercept, weight, C):
    target = np.eye(classes)[y] if classes else y[:, None]
    x, x_val = x.astype(np.float64), x_val.astype(np.float64)
    if intercept == "penalised":
        x, x_val = (np.column_stack([some, np.ones(len(some))]) for some in (x, x_val))
    model = Ridge(alpha=1 / C, fit_intercept=intercept == "free", solver="cholesky").fit(x, target, weight)
    return in_columns(model.predict(x_val), classes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "C", "intercept"), [(2, 1.0, "free"), (3, 0.1, "penalised"), (0, 3.0, "free"), (2, 1.0, "none")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_ridge_scores_of_prefixes_and_added_points_are_scikit_learns(shape, classes, C, intercept):
    points, features = SHAPES[shape]
    x, y, x_val, y_val, weight = problem(points, features, classes)
    name = "accuracy" if classes else "r2"
    given = {"utility": name, "C": C, "intercept": intercept, "sample_weight": weight}
    game = ridge_game(x, y, x_val, y_val, classes=classes, **given)
    order = np.random.default_rng(1).permutation(points)
    shift = np.average(y, weights=weight) if not classes and intercept == "free" else 0.0

    def theirs(members):
        return ridge_scores(x[members], y[members], x_val, classes, intercept, weight[members], C)

    ours = np.asarray(_prefix_scores(game, jnp.asarray(order)), np.float64)
    for size in range(1, points + 1):
        if weight[order[:size]].any():
            close(ours[size] + shift, theirs(order[:size]))
        else:
            assert not ours[size].any()
    for size in (0, 1, features, points - 2):
        found = _added_scores(game, jnp.asarray(order), jnp.int32(size), jnp.asarray(order))
        for place in range(size, min(size + 6, points)):
            members = np.append(order[:size], order[place])
            if weight[members].any():
                close(np.asarray(found[place], np.float64) + shift, theirs(members))
            else:
                assert not found[place].any()


@pytest.mark.parametrize(("classes", "C"), [(2, 1.0), (3, 0.1), (0, 10.0)])
def test_weighted_kernel_scores_of_prefixes_and_added_points_are_scikit_learns(classes, C):
    x, y, x_val, y_val, weight = problem(40, 4, classes)
    gram, across = laplacian_kernel(x), laplacian_kernel(x_val, x)
    name = "accuracy" if classes else "neg_mean_squared_error"
    game = kernel_game(gram, y, across, y_val, classes=classes, utility=name, C=C, sample_weight=weight)
    order = np.random.default_rng(1).permutation(40)
    target = np.eye(classes)[y] if classes else y[:, None]

    def theirs(members):
        members = members[weight[members] > 0]
        model = KernelRidge(alpha=1 / C, kernel="precomputed")
        model.fit(gram[np.ix_(members, members)].astype(np.float64), target[members], weight[members])
        return in_columns(model.predict(across[:, members].astype(np.float64)), classes)

    ours = _prefix_scores(game, jnp.asarray(order))
    for size in range(4, 41):
        close(ours[size], theirs(order[:size]))
    for size in (4, 20, 38):
        found = _added_scores(game, jnp.asarray(order), jnp.int32(size), jnp.asarray(order))
        for place in range(size, min(size + 6, 40)):
            close(found[place], theirs(np.append(order[:size], order[place])))


def weighted_games(x, y, x_val, y_val, classes, **given):
    for intercept in ("free", "penalised", "none"):
        yield ridge_game(x, y, x_val, y_val, classes=classes, intercept=intercept, **given)
    x, x_val = x.astype(np.float64), x_val.astype(np.float64)
    yield kernel_game(x @ x.T, y, x_val @ x.T, y_val, classes=classes, **given)


@pytest.mark.parametrize("features", [3, 9])
def test_a_point_of_weight_zero_changes_nothing(features):
    x, y, x_val, y_val, _ = problem(8, features, 2)
    weight = np.array([1, 2, 0, 1, 0.5, 1, 0, 3])
    order = jnp.asarray([0, 2, 6, 3, 1, 4, 5, 7])
    for game in weighted_games(x, y, x_val, y_val, 2, utility="log_likelihood", sample_weight=weight):
        np.testing.assert_allclose(np.diff(_prefixes(game, order, jnp.arange(9)))[1:3], 0, atol=1e-7)
        for size in (0, 1):
            np.testing.assert_allclose(_marginals(game, order, jnp.int32(size))[1:3], 0, atol=3e-8)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-20, 0.5, 1e20])
def test_equal_weights_are_a_change_of_the_penalty(scale):
    x, y, x_val, y_val, _ = problem(30, 5, 3)
    order = jnp.arange(30)
    weighted = weighted_games(
        x, y, x_val, y_val, 3, utility="probability", C=1 / scale, sample_weight=np.full(30, scale)
    )
    for one, two in zip(weighted, weighted_games(x, y, x_val, y_val, 3, utility="probability"), strict=True):
        np.testing.assert_allclose(*(_prefixes(game, order, jnp.arange(31)) for game in (one, two)), atol=1e-6)
        np.testing.assert_allclose(*(_marginals(game, order, jnp.int32(9)) for game in (one, two)), atol=1e-6)


@pytest.mark.slow
def test_a_point_of_weight_two_is_two_points():
    x, y, x_val, y_val, _ = problem(20, 5, 2)
    twice = np.append(np.arange(20), 3)
    weight = np.ones(20)
    weight[3] = 2
    heavy = weighted_games(x, y, x_val, y_val, 2, utility="log_likelihood", sample_weight=weight)
    doubled = weighted_games(x[twice], y[twice], x_val, y_val, 2, utility="log_likelihood")
    for one, two in zip(heavy, doubled, strict=True):
        whole = _prefixes(one, jnp.arange(20), jnp.array([20])), _prefixes(two, jnp.arange(21), jnp.array([21]))
        np.testing.assert_allclose(*whole, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (3, ["accuracy", "balanced_accuracy", "probability", "log_likelihood", "class_wise"]),
        (0, ["r2", "neg_mean_squared_error"]),
    ],
)
def test_rows_of_double_weight_count_as_two_in_every_utility(classes, names):
    x, y, x_val, y_val, _ = problem(20, 5, classes)
    weight, twice = np.ones(20), np.r_[np.arange(20), 4, 4, 9]
    weight[[4, 9]] = 3, 2
    for name in names:
        weighted = ridge_game(x, y, x_val, y_val, classes=classes, utility=name, weight_val=weight * 7)
        repeated = ridge_game(x, y, x_val[twice], y_val[twice], classes=classes, utility=name)
        found = [_prefixes(game, jnp.arange(20), jnp.arange(21)) for game in (weighted, repeated)]
        np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)


def test_balanced_accuracy_weighs_classes_alike_and_rows_in_them_as_given():
    labels = np.array([0, 0, 0, 1, 2, 2])
    np.testing.assert_allclose(row_weights("balanced_accuracy", labels), np.array([1, 1, 1, 3, 1.5, 1.5]) / 9)
    weight = np.array([1.0, 3.0, 0.0, 100.0, 0.0, 0.0])  # class 2 weighs nothing, so it counts as absent
    np.testing.assert_allclose(row_weights("balanced_accuracy", labels, weight), [1 / 8, 3 / 8, 0, 1 / 2, 0, 0])
    np.testing.assert_allclose(row_weights("accuracy", labels, weight), weight / 104)
    assert row_weights("accuracy", labels, np.full(6, 1e-310)).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1, 2], r"has shape \[2\] for 20 rows"),
        ([1] * 19 + [-0.5], "is -0.5 at row 19: give finite numbers that are not negative"),
        ([1, np.nan] + [1] * 18, "is nan at row 1"),
        ([np.inf] + [1] * 19, "is inf at row 0"),
        ([0] * 20, "is zero everywhere"),
        (["heavy"] * 20, "holds no numbers"),
    ],
)
@pytest.mark.parametrize("name", ["weight_val", "sample_weight"])
def test_weights_that_cannot_be_used_are_named(name, weight, words):
    x, y, x_val, y_val, _ = problem(20, 3, 2)
    for build in (
        lambda: ridge_game(x, y, x_val, y_val, classes=2, **{name: weight}),
        lambda: kernel_game(x @ x.T, y, x_val @ x.T, y_val, classes=2, **{name: weight}),
    ):
        with pytest.raises(InputError, match=f"^{name} {words}"):
            build()


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1.0] * 7 + [1e39] + [1.0] * 12, "is 1e[+]39 at row 7: give 0, or from 1e-06 to 10000"),
        ([0.0] * 3 + [1e-7] + [1.0] * 16, "is 1e-07 at row 3: give 0, or from 1e-06 to 10000"),
    ],
)
def test_weights_that_float32_does_not_hold_are_named(weight, words):
    x, y, x_val, y_val, _ = problem(20, 3, 2)
    with pytest.raises(InputError, match=f"^sample_weight {words}"):
        logistic_game(x, y, x_val, y_val, classes=2, sample_weight=weight)


def test_r2_needs_two_values_among_the_rows_that_count():
    x, y, x_val, y_val, _ = problem(20, 3, 0)
    weight = np.zeros(20)
    weight[2] = 1
    with pytest.raises(InputError, match="y_val has one value only"):
        ridge_game(x, y, x_val, y_val, classes=None, utility="r2", weight_val=weight)
    with pytest.raises(InputError, match="rounds to 0 from"):
        ridge_game(x, y, x_val, y_val * 1e-25, classes=None, utility="r2")


def test_regression_targets_that_cannot_be_squared_are_named():
    x, y, x_val, y_val, _ = problem(20, 3, 0)
    for name, row, value in (("y", 4, 1e30), ("y_val", 0, np.nan)):
        given = {"y": y.copy(), "y_val": y_val.copy()}
        given[name][row] = value
        with pytest.raises(InputError, match=rf"^{name} is {value:.6g}".replace("+", r"\+") + f" at row {row}"):
            ridge_game(x, given["y"], x_val, given["y_val"], classes=None, utility="neg_mean_squared_error")
    with pytest.raises(InputError, match=r"^y and y_val reach .*e-25 only, whose squared errors round to 0"):
        ridge_game(x, y * 1e-25, x_val, y_val * 1e-25, classes=None, utility="neg_mean_squared_error")
    # Of targets that are all the same no error is one, nor is what rounding leaves of them.
    ridge_game(x, np.full(20, 0.3), x_val, np.full(20, 0.1 + 0.2), classes=None, utility="neg_mean_squared_error")
    same = ridge_game(x, np.full(20, 0.1), x_val, np.full(20, 0.1), classes=None, utility="neg_mean_squared_error")
    assert float(jax.jit(utility)(same, np.arange(20) < 9)) == 0
