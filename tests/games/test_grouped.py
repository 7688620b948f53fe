"""Groups as players: their game is that of their points, and every estimator plays it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.games import Game, by_row, group_game, ridge_game, utility
from tsds_jax.valuation import source_game

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(24, 3)), RNG.normal(size=(50, 3))
Y, Y_VAL = (X[:, 0] > 0).astype(int), (X_VAL[:, 0] > 0).astype(int)
GROUPS = np.array([0, 3, 1, 2, 1, 4, 5, 4, 4, 0, 2, 5, 3, 1, 4, 4, 0, 0, 5, 2, 1, 3, 4, 4])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["logistic", "ridge"])
def test_a_coalition_of_groups_is_the_coalition_of_all_their_points(source):
    game = source_game(X, Y, X_VAL, Y_VAL, source=source, utility="probability")
    grouped = group_game(game, GROUPS)
    assert isinstance(grouped, Game)
    assert grouped.players == 6
    order = jnp.asarray(RNG.permutation(6))
    found = jax.jit(type(grouped).prefix_utilities)(grouped, order, jnp.arange(7)).utility
    for size in range(7):
        members = np.isin(GROUPS, np.asarray(order)[:size])
        assert found[size] == pytest.approx(float(utility(game, jnp.asarray(members))), abs=1e-5)


@pytest.mark.slow
def test_what_a_group_adds_is_the_difference_of_two_such_coalitions():
    game = source_game(X, Y, X_VAL, Y_VAL, utility="probability")
    for played in (group_game(game, GROUPS), group_game(by_row(game, np.arange(50) % 3), GROUPS)):
        for size in (0, 2, 5):
            order = jnp.asarray(RNG.permutation(6)[:5])
            fitted = jax.jit(type(played).fit)(played, order, jnp.int32(size))
            outside = np.setdiff1d(np.arange(6), np.asarray(order)[:size])
            # As many every time, the first ones again, and it is compiled once.
            added = jax.jit(type(played).add_one_marginals)(played, fitted.model, jnp.asarray(np.resize(outside, 6)))
            found = np.asarray(added.marginal)
            found = found if found.ndim == 1 else found.sum(1)
            before = np.isin(GROUPS, np.asarray(order)[:size])
            for place, group in enumerate(outside):
                change = [float(utility(game, jnp.asarray(some))) for some in (before, before | (group == GROUPS))]
                assert found[place] == pytest.approx(change[1] - change[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["add_one", "permutation"])
def test_every_estimator_finds_the_groups_exact_shapley_values(estimator):
    how = {"groups": GROUPS, "utility": "probability"}
    exact = tsds.value(X, Y, X_VAL, Y_VAL, estimator="exact", **how)
    assert exact.values.shape == (6,)
    game = source_game(X, Y, X_VAL, Y_VAL, utility="probability")
    whole = utility(game, jnp.ones(24, bool)) - utility(game, jnp.zeros(24, bool))
    assert exact.values.sum() == pytest.approx(float(whole), abs=1e-5)
    sampled = tsds.value(X, Y, X_VAL, Y_VAL, estimator=estimator, samples=300, subset_size=6, truncation=0, **how)
    assert np.abs((sampled.values - exact.values) / sampled.stderr).max() < 4


@pytest.mark.slow
def test_groups_of_one_point_are_the_points():
    how = {"samples": 16, "utility": "probability", "estimator": "permutation", "subset_size": 10}
    alone = tsds.value(X, Y, X_VAL, Y_VAL, groups=np.arange(24), **how)
    np.testing.assert_allclose(alone.values, tsds.value(X, Y, X_VAL, Y_VAL, **how).values, atol=1e-5)


def test_a_points_value_is_its_groups():
    v = tsds.value(X, Y, X_VAL, Y_VAL, groups=GROUPS, samples=8, row_groups=np.arange(50) % 2)
    each = v.for_members(GROUPS)
    np.testing.assert_array_equal(each.values, v.values[GROUPS])
    assert each.by_row.shape == (24, 2)
    np.testing.assert_array_equal(each.semivalue("banzhaf").values, v.semivalue("banzhaf").values[GROUPS])
    assert v.split_half < 1
    assert each.split_half < 1


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["exact", "add_one"])
def test_large_groups_play_in_coalitions_of_several_by_default(estimator):
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(800, 3)), np.arange(800) // 100
    y = np.where(groups < 2, groups, x[:, 0] > 0)  # two of the groups have one class alone
    v = tsds.value(x, y, X_VAL, Y_VAL, groups=groups, estimator=estimator, utility="probability", samples=32)
    assert v.subset_size == 8
    whole = tsds.value(x, y, X_VAL, Y_VAL, groups=groups, estimator="exact", utility="probability", subset_size=8)
    np.testing.assert_allclose(v.values, whole.values, atol=1e-6 if estimator == "exact" else 0.1)


@pytest.mark.slow
def test_groups_of_any_whole_numbers_type_are_the_same():
    how = {"samples": 8, "utility": "probability", "subset_size": 4}
    values = [tsds.value(X, Y, X_VAL, Y_VAL, groups=GROUPS.astype(kind), **how).values for kind in ("int64", "uint64")]
    np.testing.assert_array_equal(*values)


def test_each_contribution_of_a_group_counts_as_the_fit_that_it_is():
    v = tsds.value(X, Y, X_VAL, Y_VAL, source="ridge", groups=GROUPS, samples=8)
    assert v.fits == 8 + v.counts.sum()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (GROUPS[:-1], "one whole number for each of the 24 points"),
        (GROUPS.astype(float), "one whole number"),
        ([[0], [1, 2]], "one whole number"),
        (GROUPS - 1, "from 0 without a gap"),
        (GROUPS * 2, "from 0 without a gap"),
        (GROUPS + 10**12, "from 0 without a gap.*return_inverse"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(groups, words):
    with pytest.raises(tsds.InputError, match=words):
        tsds.value(X, Y, X_VAL, Y_VAL, groups=groups)


def test_a_utility_of_each_points_own_class_has_no_groups():
    game = ridge_game(X, Y, X_VAL, Y_VAL, classes=2, utility="class_wise")
    with pytest.raises(tsds.InputError, match="use another with groups"):
        group_game(game, GROUPS)
