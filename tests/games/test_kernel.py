"""The kernel game against scikit-learn, prefix by prefix, against refits, and against the ridge game it generalises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import laplacian_kernel

from tsds_jax.errors import InputError
from tsds_jax.estimators import enumerate_coalitions
from tsds_jax.estimators.permutation import walk_chains
from tsds_jax.games import Game, utility
from tsds_jax.games.kernel import kernel_game
from tsds_jax.games.ridge import ridge_game


def problem(points=45, rows=30, classes=2, seed=0):
    """Kernels and labels: of a linear model, or with no classes its noisy values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + rows, 4))
    if classes:
        y = np.argmax(x @ rng.normal(size=(4, classes)) + 0.5 * rng.gumbel(size=(points + rows, classes)), 1)
    else:
        y = x @ rng.normal(size=4) + rng.normal(size=points + rows)
    gram = laplacian_kernel(x)
    return gram[:points, :points], y[:points], gram[points:, :points], y[points:]


_scores = jax.jit(lambda game, order, sizes: game.running(order, jnp.max(sizes))[0](sizes))
_prefixes = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes))
_fit = jax.jit(lambda game, order, size: game.fit(order, size))
_add = jax.jit(lambda game, fit, points: game.add_one_marginals(fit.model, points).marginal)


@pytest.mark.parametrize("C", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 3, 0])
def test_scores_of_every_prefix_are_scikit_learns(classes, C):
    k_train, y, k_val, y_val = problem(classes=classes)
    name = "accuracy" if classes else "r2"
    game = kernel_game(k_train, y, k_val, y_val, classes=classes, utility=name, C=C)
    order = np.random.default_rng(1).permutation(45)
    ours = np.asarray(_scores(game, jnp.asarray(order), jnp.arange(46)), np.float64)
    target = np.eye(classes)[y] if classes else y[:, None]
    for size in range(1, 46):
        first = order[:size]
        model = KernelRidge(alpha=1 / C, kernel="precomputed").fit(k_train[np.ix_(first, first)], target[first])
        theirs = model.predict(k_val[:, first]).T
        if classes == 2:
            theirs = theirs[1:] - theirs[:1]
        np.testing.assert_allclose(ours[size], theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "name"), [(2, "accuracy"), (3, "log_likelihood"), (0, "neg_mean_squared_error")])
@pytest.mark.parametrize("features", [3, 60])
def test_a_linear_kernel_is_the_ridge_without_intercept(classes, name, features):
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(40, features)).astype(np.float32), rng.normal(size=(21, features)).astype(np.float32)
    y, y_val = (rng.integers(0, classes or 9, size) for size in (40, 21))
    kernel = kernel_game(x @ x.T, y, x_val @ x.T, y_val, classes=classes, utility=name)
    ridge = ridge_game(x, y, x_val, y_val, classes=classes, utility=name, intercept="none")
    order, sizes = jnp.asarray(rng.permutation(40)), jnp.arange(41)
    np.testing.assert_allclose(
        _prefixes(kernel, order, sizes).utility, _prefixes(ridge, order, sizes).utility, rtol=1e-5, atol=1e-5
    )
    both = [_add(game, _fit(game, order, jnp.int32(17)), order[17:]) for game in (kernel, ridge)]
    np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "name"), [(2, "log_likelihood"), (3, "probability"), (0, "neg_mean_squared_error")]
)
def test_adding_a_point_equals_fitting_anew(classes, name):
    k_train, y, k_val, y_val = problem(classes=classes)
    game = kernel_game(k_train, y, k_val, y_val, classes=classes, utility=name)
    for seed, size in enumerate([0, 1, 2, 20, 41]):
        order = np.random.default_rng(seed).permutation(45)
        fit = _fit(game, jnp.asarray(order[:41]), jnp.int32(size))
        added = np.asarray(_add(game, fit, jnp.arange(45)))
        for i in order[size : size + 3]:
            next_is_i = np.concatenate([order[:size], [i], np.setdiff1d(order[size:], i)])
            before, after = _prefixes(game, jnp.asarray(next_is_i), jnp.array([size, size + 1])).utility
            assert float(game.worth(game.fitted_outcome(fit.model))) == pytest.approx(float(before), abs=1e-5)
            assert added[i] == pytest.approx(float(after - before), abs=1e-5)


def test_duplicated_points_get_equal_values_and_a_point_of_no_kernel_gets_zero():
    k_train, y, k_val, y_val = problem(points=7, rows=9)
    k_train[1], k_train[:, 1] = k_train[0], k_train[:, 0]
    k_train[1, 1], k_val[:, 1], y[1] = k_train[0, 0], k_val[:, 0], y[0]
    k_train[4] = k_train[:, 4] = k_val[:, 4] = 0
    game = kernel_game(k_train, y, k_val, y_val, classes=2, utility="log_likelihood")
    by_size = enumerate_coalitions(game).by_size
    assert by_size.mean(0)[0] == pytest.approx(by_size.mean(0)[1], abs=1e-6)
    np.testing.assert_allclose(by_size[:, 4], 0, atol=1e-7)


def test_a_chains_marginals_sum_to_what_the_whole_chain_is_worth():
    game = kernel_game(*problem(), classes=2, utility="log_likelihood")
    order = jnp.asarray(np.random.default_rng(0).permutation(45)[:13])
    walk = walk_chains(game, order[None], jnp.float32(0), block=5, lanes=1)
    worth_of = jax.jit(utility)
    worth = worth_of(game, jnp.zeros(45, bool).at[order].set(True)) - worth_of(game, jnp.zeros(45, bool))
    assert float(walk.marginals.sum()) == pytest.approx(float(worth), abs=1e-5)
    assert isinstance(game, Game)


def test_a_kernel_that_is_none_damps_no_prefix_for_the_players_behind_it():
    k_train, y, k_val, y_val = problem()
    k_train[40, 40] = -0.9  # no Gram matrix has a negative diagonal
    broken = kernel_game(k_train, y, k_val, y_val, classes=2, utility="log_likelihood", C=10.0)
    sound = kernel_game(np.abs(k_train), y, k_val, y_val, classes=2, utility="log_likelihood", C=10.0)
    order = jnp.arange(45)
    found, wanted = (_prefixes(game, order, jnp.array([30, 40])) for game in (broken, sound))
    np.testing.assert_array_equal(found.utility, wanted.utility)
    assert int(found.unconverged) == 0
    assert int(_prefixes(broken, order, jnp.array([30, 41])).unconverged) == 2


def test_float32_agrees_with_float64():
    data = problem(classes=3)

    def found():
        game = kernel_game(*data, classes=3, utility="log_likelihood")
        fit = _fit(game, jnp.arange(45), jnp.int32(20))
        return _prefixes(game, jnp.arange(45), jnp.arange(46)).utility, _add(game, fit, jnp.arange(20, 45))

    single = found()
    with jax.enable_x64(True):
        double = found()
    assert double[0].dtype == jnp.float64
    for one, two in zip(single, double, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_orders_and_sizes_of_one_shape_compile_once():
    game = kernel_game(*problem(points=31), classes=2)
    before = _prefixes._cache_size(), _fit._cache_size(), _add._cache_size()
    for seed in range(3):
        order = jnp.asarray(np.random.default_rng(seed).permutation(31)[:20])
        _prefixes(game, order, jnp.arange(seed, seed + 9))
        _add(game, _fit(game, order, jnp.int32(seed)), order)
    assert (_prefixes._cache_size(), _fit._cache_size(), _add._cache_size()) == tuple(count + 1 for count in before)


def test_work_done_in_parts_gives_the_same(monkeypatch):
    game = kernel_game(*problem(classes=3), classes=3, utility="log_likelihood")
    order, sizes = jnp.arange(45), jnp.arange(46)
    whole = _prefixes(game, order, sizes).utility, _add(game, _fit(game, order, jnp.int32(5)), order)
    monkeypatch.setattr("tsds_jax.games.chunks._CPU", 700)
    parts = (
        jax.jit(lambda game: game.prefix_utilities(order, sizes).utility)(game),
        jax.jit(lambda game: game.add_one_marginals(game.fit(order, jnp.int32(5)).model, order).marginal)(game),
    )
    for one, two in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_matrix_that_is_no_kernel_is_damped_and_counted_never_nan():
    rng = np.random.default_rng(0)
    k_train = rng.normal(size=(20, 20))
    k_train = 5 * (k_train + k_train.T)
    game = kernel_game(k_train, np.arange(20) % 2, rng.normal(size=(9, 20)), np.arange(9) % 2, classes=2)
    found = _prefixes(game, jnp.arange(20), jnp.arange(21))
    assert np.isfinite(found.utility).all()
    assert int(found.unconverged) == 20
    assert int(_fit(game, jnp.arange(20), jnp.int32(20)).unconverged) == 1


@jax.jit
def _everything(game, order):
    """Outcomes and utilities of every prefix of one order, and some add-one marginals."""
    sizes = jnp.arange(order.shape[0] + 1)
    added = jax.lax.map(
        lambda size: game.add_one_marginals(game.fit(order, size).model, order).marginal, sizes[:: len(sizes) // 3]
    )
    return game.prefix_outcomes(order, sizes)[0], game.prefix_utilities(order, sizes).utility, added


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rank=st.sampled_from([0, 1, 3, 20]),
    classes=st.sampled_from([0, 2, 50]),
    scale=st.sampled_from([1e-30, 1e-4, 1.0, 1e6, 1e30]),
    rows=st.sampled_from([1, 7]),
    spread=st.sampled_from([None, 1, 12]),
    seed=st.integers(0, 5),
)
def test_no_input_gives_a_nan(rank, classes, scale, rows, spread, seed):
    rng = np.random.default_rng(seed)
    x, x_val = rng.normal(size=(12, rank)), rng.normal(size=(rows, rank))
    y, y_val = (rng.integers(0, classes or 9, size) for size in (12, rows))
    name = "log_likelihood" if classes else "neg_mean_squared_error"
    weight = None if spread is None else 10 ** rng.uniform(-spread, spread, 12) * rng.integers(0, 2, 12)
    given = {"sample_weight": weight if np.any(weight) else None, "weight_val": 10 ** rng.uniform(-9, 9, rows)}
    game = kernel_game(scale * x @ x.T, y, scale * x_val @ x.T, y_val, classes=classes, utility=name, **given)
    outcome, utilities, added = _everything(game, jnp.arange(12))
    for found in (*outcome, utilities, added):
        assert np.isfinite(found).all()


def test_kernels_that_do_not_fit_are_refused_by_shape_and_place():
    k_train, y, k_val, y_val = problem()
    with pytest.raises(InputError, match=r"k_train has shape \[45, 44\] for 45 points"):
        kernel_game(k_train[:, 1:], y, k_val, y_val, classes=2)
    with pytest.raises(InputError, match=r"k_val has shape \[45, 30\] for 30 rows"):
        kernel_game(k_train, y, k_val.T, y_val, classes=2)
    k_train[2, 7] += 1
    with pytest.raises(InputError, match="at row 2, column 7"):
        kernel_game(k_train, y, k_val, y_val, classes=2)


@pytest.mark.parametrize("far", [1e9, 1e20, 1e30])
@pytest.mark.parametrize(
    ("classes", "name"), [(0, "neg_mean_squared_error"), (0, "r2"), (2, "log_likelihood"), (3, "log_likelihood")]
)
def test_kernels_with_rows_far_beyond_those_among_points_give_finite_utilities(classes, name, far):
    k_train, y, k_val, y_val = problem(12, 7, classes)
    scale = 1.0 if classes else 1e15
    game = kernel_game(k_train, scale * y, far * k_val, scale * y_val, classes=classes, utility=name, C=1e6)
    outcome, utilities, added = _everything(game, jnp.arange(12))
    for found in (*outcome, utilities, added):
        assert np.isfinite(found).all()


def test_distances_taken_for_a_kernel_are_damped_by_their_own_size():
    k_train, y, k_val, y_val = problem(12, 7, 0)
    found = _everything(
        kernel_game(1e25 * (k_train - 1), y, 1e25 * k_val, y_val, classes=None, utility="r2"), jnp.arange(12)
    )
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(found))
