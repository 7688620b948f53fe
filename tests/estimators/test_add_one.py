"""Add-one marginals against exact values, exact refits, and what must not change them."""

import sys
from collections import deque
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t as student

from tsds_jax.estimators import add_one, enumerate_coalitions, semivalue_weights
from tsds_jax.estimators.add_one import _first_of_a_shuffle, add_one_rounds, fit_at_once, size_chance, spread_sizes
from tsds_jax.games import LogisticGame, TableGame, by_row, logistic_game, ridge_game


def last(estimates):
    return deque(estimates, maxlen=1).pop()


def random_table(players=8, seed=0):
    return TableGame(jnp.asarray(np.random.default_rng(seed).normal(size=2**players), jnp.float32))


def crowd(points=120, classes=2, utility="probability", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + 60, 5))
    y = np.argmax(x[:, :classes] + 0.7 * rng.gumbel(size=(points + 60, classes)), 1)
    return logistic_game(x[:points], y[:points], x[points:], y[points:], classes=classes, utility=utility)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_rounds_estimate_the_size_truncated_value_within_their_standard_errors(size):
    game = random_table()
    exact = semivalue_weights("truncated", 8, size=size) @ enumerate_coalitions(game).by_size
    mean, error = last(add_one(game, subset_size=size, samples=4000, seed=1)).moments.mean()
    if size == 1:
        np.testing.assert_allclose(mean, exact, atol=1e-6)
    else:
        assert np.abs((mean - exact) / error).max() < 4


@pytest.mark.parametrize(("kind", "how"), [("shapley", {}), ("beta", {"alpha": 16, "beta": 1}), ("banzhaf", {})])
def test_one_run_gives_every_semivalue(kind, how):
    game = random_table()
    weights = semivalue_weights(kind, 8, **how)
    mean, error = last(add_one(game, subset_size=8, samples=4000, seed=1)).moments.mean(weights)
    assert np.abs((mean - weights @ enumerate_coalitions(game).by_size) / error).max() < 4


_utilities = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes).utility)
_added = jax.jit(lambda game, order, size, points: game.add_one_marginals(game.fit(order, size).model, points).marginal)


def brute(game, order, size, points):
    """Every ``U(S + i) - U(S)``, each fitted from scratch."""
    sizes = jnp.array([size, size + 1])
    found = [_utilities(game, order.at[size].set(point), sizes) for point in points]
    return np.array([utility[1] - utility[0] for utility in found])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "size", "tolerance"),
    [
        (2, 0, 1e-5),
        (2, 1, 1e-5),
        (2, 16, 1e-5),
        (2, 17, 1e-3),
        (2, 40, 3e-4),
        (2, 90, 3e-4),
        (3, 1, 1e-5),
        (3, 16, 1e-5),
        (3, 40, 1e-3),
        (3, 90, 5e-4),
    ],
)
def test_logistic_marginals_are_those_of_exact_refits(classes, size, tolerance):
    game = crowd(classes=classes)
    order = jnp.asarray(np.random.default_rng(3).permutation(120))
    points = order[size:][:25]
    found = _added(game, order[:100], size, points)
    np.testing.assert_allclose(found, brute(game, order, size, points), atol=tolerance)


def test_a_large_coalition_of_one_class_is_refitted_exactly():
    game = crowd()
    order = jnp.asarray(np.argsort(np.asarray(game.y), kind="stable"))
    size = 30
    assert len(set(np.asarray(game.y[order[:size]]))) == 1
    points = jnp.concatenate([order[size : size + 12], order[-13:]])
    found = _added(game, order[:100], size, points)
    np.testing.assert_allclose(found, brute(game, order, size, points), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "C", "features"), [(100, 1.0, 32), (400, 10.0, 32), (8, 1.0, 4)])
def test_the_first_point_of_the_other_class_is_valued_as_by_a_refit_however_many_there_are_of_one(members, C, features):
    rng = np.random.default_rng(members)
    x, x_val = rng.normal(size=(members + 12, features)), rng.normal(size=(100, features))
    y, y_val = np.arange(members + 12) >= members, x_val[:, 0] > 0
    weight = np.where(y, 1.0, 1e3 if members == 8 else 1.0)  # few of large weight are as many
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", C=C, sample_weight=weight)
    order, points = jnp.arange(members + 12), jnp.arange(members, members + 12)
    found = _added(game, order[: members + 1], members, points)
    exact = brute(game, order, members, points)
    np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.slow
def test_the_first_point_of_an_absent_class_is_valued_as_by_a_refit():
    rng = np.random.default_rng(4)
    x, x_val = rng.normal(size=(124, 6)), rng.normal(size=(100, 6))
    y, y_val = np.append(np.arange(100) % 5, np.arange(24) % 8), np.arange(100) % 8
    for C in (1.0, 10.0):
        game = logistic_game(x, y, x_val, y_val, classes=8, utility="log_likelihood", C=C)
        order, points = jnp.arange(124), jnp.arange(100, 124)
        exact = brute(game, order, 100, points)
        found = _added(game, order[:101], 100, points)
        np.testing.assert_allclose(found, exact, atol=2e-3 * np.abs(exact).max())


@pytest.mark.slow
def test_the_estimate_does_not_depend_on_the_chunk_and_a_run_compiles_once():
    game = crowd(points=50)
    before = add_one_rounds._cache_size()
    whole = last(add_one(game, subset_size=20, samples=30, seed=3)).moments.mean()[0]
    assert add_one_rounds._cache_size() == before + 1
    chunked = last(add_one(game, subset_size=20, samples=30, seed=3, chunk=7)).moments.mean()[0]
    np.testing.assert_allclose(chunked, whole, atol=1e-6)


@pytest.mark.slow
def test_where_there_are_many_points_a_call_has_fewer_rounds_and_the_estimate_is_the_same(monkeypatch):
    game, sizes = crowd(points=50), []
    whole = last(add_one(game, subset_size=20, samples=10, seed=3)).moments

    def counted(game, key, numbers, *rest, **how):
        sizes.append(len(numbers))
        return add_one_rounds(game, key, numbers, *rest, **how)

    # Its package has a function of the module's name.
    module = sys.modules["tsds_jax.estimators.add_one"]
    monkeypatch.setattr(module, "numbers_at_once", lambda: 200)
    monkeypatch.setattr(module, "add_one_rounds", counted)
    few = last(add_one(game, subset_size=20, samples=10, seed=3)).moments
    assert sizes == [4, 4, 4]
    np.testing.assert_allclose(few.mean()[0], whole.mean()[0], atol=1e-6)
    np.testing.assert_array_equal(few.drawn, whole.drawn)


def test_calls_made_at_a_time_give_the_bits_of_one_after_another(monkeypatch):
    game, found = crowd(points=50), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(sys.modules["tsds_jax.estimators.add_one"], "_CPU_CALLS", threads)
        estimates = list(add_one(game, subset_size=20, samples=150, seed=3, chunk=50))
        assert [estimate.rounds for estimate in estimates] == [*range(16, 150, 16), 150]
        found.append(estimates[-1].state)
    assert jax.device_count() == 1  # of several, each has one call after another
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_rounds_are_the_same_where_all_coalitions_are_fitted_first(classes):
    game, key = crowd(classes=classes), jax.random.key(5)
    how = {"subset_size": 40, "chunk": 20}
    one, other = (add_one_rounds(game, key, jnp.arange(12), 12, **how, fits_ahead=ahead)[0] for ahead in (False, True))
    for name in ("size", "member", "checked", "unconverged"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    outside = ~np.asarray(one.member)
    np.testing.assert_allclose(one.marginals[outside], other.marginals[outside], atol=1e-5)
    np.testing.assert_allclose(one.exact, other.exact, atol=1e-5)


def test_whether_fits_find_room_together_is_asked_of_arrays_of_numpy_too():
    game = crowd(points=30)
    on_host = LogisticGame(**{**vars(game), "x": np.asarray(game.x)})
    assert fit_at_once(on_host, 20, 16) is fit_at_once(game, 20, 16) is True
    assert not fit_at_once(on_host, 20, 10**6)


def test_sizes_are_spread_in_proportion_and_members_are_as_many_as_the_size():
    rounds, _ = add_one_rounds(random_table(6), jax.random.key(0), jnp.arange(60), 60, subset_size=6, chunk=6)
    assert np.array_equal(rounds.member.sum(1), rounds.size)
    assert np.abs(np.bincount(rounds.size, minlength=6) - 10 * size_chance(6)).max() < 2


@pytest.mark.parametrize("sizes", [1, 12, 512])
@pytest.mark.parametrize("first", [0, 10**6, 2**31 - 70_000])
def test_sizes_keep_to_their_chances_however_many_rounds_went_before(first, sizes):
    drawn = spread_sizes(jnp.uint32(12345), jnp.arange(first, first + 2**16, dtype=jnp.int32), sizes)
    share = np.bincount(drawn, minlength=sizes) / 2**16 * sizes
    np.testing.assert_allclose(share, size_chance(sizes), rtol=0.05)


@pytest.mark.slow
def test_intervals_of_banzhaf_values_hold_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4))
    y = (x[:, 0] + rng.normal(size=120) > 0).astype(int)
    game = ridge_game(x[:60], y[:60], x[60:], y[60:], classes=2, utility="probability")
    exact = last(add_one(game, subset_size=60, samples=10_000, seed=99, half=True)).moments.mean()[0]
    held = []
    for seed in range(60):
        known = last(add_one(game, subset_size=60, samples=64, seed=seed, half=True)).moments.known()
        held.append(np.abs(known.mean - exact) < student.ppf(0.975, known.freedom) * known.stderr)
        assert (known.freedom >= 1).all()
    assert 0.925 < np.mean(held) < 0.965


def test_with_half_of_the_players_the_mean_is_the_banzhaf_value():
    game = random_table()
    exact = semivalue_weights("banzhaf", 8) @ enumerate_coalitions(game).by_size
    mean, error = last(add_one(game, subset_size=8, samples=4000, seed=2, half=True)).moments.mean()
    assert np.abs((mean - exact) / error).max() < 4


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_checked_contributions_are_those_of_exact_refits(classes):
    estimate = last(add_one(crowd(classes=classes), subset_size=40, samples=40, seed=0))
    size, difference, _ = estimate.checks.T
    assert len(size) == 40
    assert size.max() < 40
    assert np.abs(difference).max() < 3e-3
    assert np.abs(difference[size <= 16]).max() < 2e-5
    assert np.abs(difference[size > 16]).max() > 0  # approximate they are
    assert estimate.unconverged == 0


def test_a_bias_of_the_game_shows_in_the_checked_contributions():
    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class Biased(LogisticGame):
        by: float = field(default=0.25, metadata={"static": True})

        def add_one_marginals(self, model, points):
            found = super().add_one_marginals(model, points)
            return found._replace(marginal=found.marginal + self.by)

    honest = crowd()
    biased = Biased(**{name: getattr(honest, name) for name in honest.__dataclass_fields__})
    checks = last(add_one(biased, subset_size=40, samples=20, seed=0)).checks
    np.testing.assert_allclose(checks[:, 1], -0.25, atol=2e-3)


def test_an_exact_game_is_not_checked():
    estimate = last(add_one(random_table(), subset_size=8, samples=5, seed=0))
    assert estimate.checks is None
    assert estimate.fits == 5


def test_a_contribution_by_row_to_nearly_everybody_has_the_weight_that_the_value_gives_it():
    points = 5000
    x, y = np.random.default_rng(0).normal(size=(points, 2)), np.arange(points) % 2
    game, key = by_row(ridge_game(x, y, x[:3], y[:3], classes=2)), jax.random.key(0)
    start = jax.random.bits(jax.random.fold_in(key, 2**31 - 1), dtype=jnp.uint32)
    numbers = jnp.arange(100_000)
    (some, *_) = np.flatnonzero(np.asarray(spread_sizes(start, numbers, points)) == points - 1)
    found, split = add_one_rounds(game, key, numbers[some : some + 1], 10**6, subset_size=points, chunk=points)
    weight = 1 / (size_chance(points)[-1] * (1 - (points - 1) / points))
    outside = ~np.asarray(found.member[0])
    assert outside.sum() == 1
    np.testing.assert_allclose(split[0].sum(1)[outside], weight * found.marginals[0][outside], rtol=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_contributions_by_row_add_up_to_the_values(half):
    game = crowd(points=40)
    size = 40 if half else 20
    plain = last(add_one(game, subset_size=size, samples=20, seed=3, half=half))
    split = last(add_one(by_row(game), subset_size=size, samples=20, seed=3, half=half, chunk=7))
    assert split.by_row.shape == (40, 60)
    np.testing.assert_allclose(split.moments.mean()[0], plain.moments.mean()[0], atol=1e-5)
    np.testing.assert_allclose(split.by_row.sum(1), split.moments.mean()[0], atol=1e-6)


def test_class_wise_contributions_are_in_the_utility_of_the_points_own_class():
    game = crowd(points=10, utility="class_wise")
    exact = semivalue_weights("shapley", 10) @ enumerate_coalitions(game).by_size
    mean, error = last(add_one(game, subset_size=10, samples=1500, seed=0)).moments.mean()
    assert np.abs((mean - exact) / error).max() < 4


def test_coalitions_of_few_among_many_players_are_uniform():
    drawn = jax.vmap(lambda key: _first_of_a_shuffle(key, 40, 5))(jax.random.split(jax.random.key(0), 4000))
    assert all(len(set(order)) == 5 for order in np.asarray(drawn)[:100])
    for position in range(5):
        counts = np.bincount(np.asarray(drawn)[:, position], minlength=40)
        assert np.abs(counts - 100).max() < 50  # five standard deviations


def test_intervals_cover_the_value_in_about_95_percent_of_runs():
    game = random_table()
    exact = semivalue_weights("truncated", 8, size=6) @ enumerate_coalitions(game).by_size
    inside = []
    for seed in range(50):
        mean, error = last(add_one(game, subset_size=6, samples=240, seed=seed)).moments.mean()
        inside.append(np.abs(mean - exact) < 1.96 * error)
    assert 0.92 < np.mean(inside) < 0.98
