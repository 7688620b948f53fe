"""Of arrays: the values and the cut that the stages give one by one, and refusals before the work."""

import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.games.held_out import stratified_folds
from tsds_jax.selection import Limits, crossed_curve, wanted_cuts
from tsds_jax.valuation import source_game

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(120, 3)), RNG.normal(size=(100, 3))
NAMES = np.array(["left", "right"])
TRUTH, Y_VAL = (NAMES[(some[:, 0] > 0).astype(int)] for some in (X, X_VAL))
WRONG = np.arange(0, 120, 6)
Y = TRUTH.copy()
Y[WRONG] = np.where(TRUTH[WRONG] == "left", "right", "left")
HOW = {"samples": 64, "seed": 3}


def test_the_default_cut_is_that_of_the_stages_one_by_one():
    values, choice = tsds.select_points(X, Y, X_VAL, Y_VAL, **HOW)
    labels, rows = (np.unique(some, return_inverse=True)[1] for some in (Y, Y_VAL))
    folds = stratified_folds(rows, 2, 3)
    alone = tsds.value(X, Y, X_VAL, Y_VAL, row_groups=folds, utility="log_likelihood", **HOW)
    np.testing.assert_array_equal(values.values, alone.values)
    limits = Limits.none(labels)
    crossed = [limits.removal_order(alone.by_row[:, 1 - fold], 3) for fold in range(2)]
    game = source_game(X, Y, X_VAL, Y_VAL, utility="log_likelihood")
    curve = crossed_curve(game, limits.removal_order(alone.values, 3), folds, crossed, wanted_cuts(120, 0.02, 0.5))
    np.testing.assert_array_equal(choice.curve.score, curve.score)
    assert choice.removal_index == tsds.removal_index(curve) == tsds.removal_index(curve, "cross_fitted")
    assert choice.removed_points.tolist() == alone.ranking[: choice.removal_index].tolist()
    assert sorted([*choice.removed_points, *choice.kept_points]) == list(range(120))
    assert choice.removal_index > 0
    assert np.isin(choice.removed_points, WRONG).mean() > 0.5


def test_a_curve_that_is_not_cross_fitted_is_read_by_one_standard_error():
    game = source_game(X, Y, X_VAL, Y_VAL)
    curve = tsds.removal_curve(game, tsds.value(X, Y, X_VAL, Y_VAL, **HOW).ranking)
    assert tsds.removal_index(curve) == tsds.removal_index(curve, "one_se")


def test_options_given_together_are_those_given_one_by_one_and_the_latter_win():
    some = (X, Y, X_VAL, Y_VAL)
    together = tsds.select_points(*some, options=tsds.SelectOptions(**HOW, rule="argmax"), rule="one_se")
    apart = tsds.select_points(*some, rule="one_se", **HOW)
    np.testing.assert_array_equal(together[0].values, apart[0].values)
    assert (together[1].rule, together[1].removal_index) == ("one_se", apart[1].removal_index)


def test_units_go_together_and_classes_keep_their_floor():
    units = np.arange(120) // 3
    _, choice = tsds.select_points(X, Y, X_VAL, Y_VAL, units=units, remove_count=30, class_floor=0.5, **HOW)
    assert len(choice.removed_points) == 30
    assert set(np.bincount(units[choice.removed_points], minlength=40)) == {0, 3}
    kept = [np.mean(np.isin(np.flatnonzero(name == Y), choice.kept_points)) for name in NAMES]
    assert min(kept) >= 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pca": 3}, "select_points has no option 'pca': use source, utility"),
        ({"options": tsds.SelectOptions(pca=3)}, "select_points has no option 'pca': use source, utility"),
        ({"options": {"samples": 3}}, r"options is a dict: give SelectOptions\(...\)"),
        ({"rule": "elbow"}, "rule 'elbow' is unknown"),
        ({"utility": "r2"}, "utility 'r2' is unknown"),
        ({"remove_count": 3, "remove_share": 0.1}, "both say how many rows to remove"),
        ({"seed": -1}, "seed is -1"),
        ({"samples": 0}, "samples is 0"),
        ({"class_floor": 1.0}, "no point may be removed: loosen class_floor or units"),
        ({"row_units": np.zeros(100, int)}, "100 validation rows cannot judge: .*or use rule 'one_se'"),
        ({"by_class": True, "units": np.zeros(120, int)}, "class"),
        ({"units": [1, 2]}, r"units has shape \[2\] for 120 rows"),
        ({"row_units": [1, 2]}, r"row_units has shape \[2\] for 100 rows"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    with pytest.raises(tsds.InputError, match=words):
        tsds.select_points(X, Y, X_VAL, Y_VAL, **change)
