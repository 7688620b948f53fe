"""The removal curve."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from tsds_jax.errors import InputError, TsdsError
from tsds_jax.games import LogisticGame
from tsds_jax.options import SelectOptions
from tsds_jax.selection import Limits, crossed_curve, ordered_curve, removal_curve, suspected_labels, wanted_cuts
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.selection.curve import _paired_error
from tsds_jax.valuation import source_game, value

RNG = np.random.default_rng(1)
X = RNG.normal(size=(100, 3))
Y = (X[:, 0] + 0.5 * RNG.normal(size=100) > 0).astype(int)
X_VAL = RNG.normal(size=(80, 3))
Y_VAL = (X_VAL[:, 0] > 0).astype(int)


def test_each_cut_is_scikit_learns_score_on_what_is_left_and_its_error_is_paired():
    ranking = RNG.permutation(100)
    curve = removal_curve(source_game(X, Y, X_VAL, Y_VAL), ranking, grid=0.1, largest_cut=0.5)
    assert curve.removed.tolist() == [0, 10, 20, 30, 40, 50]
    full = LogisticRegression().fit(X, Y).predict(X_VAL) == Y_VAL
    for i, cut in enumerate(curve.removed):
        rest = ranking[cut:]
        right = LogisticRegression().fit(X[rest], Y[rest]).predict(X_VAL) == Y_VAL
        change = right.astype(float) - full
        assert curve.score[i] == pytest.approx(right.mean(), abs=1e-6)
        assert curve.difference[i] == pytest.approx(change.mean(), abs=1e-6)
        assert curve.stderr[i] == pytest.approx(change.std(ddof=1) / np.sqrt(80), abs=1e-6)
        assert curve.accuracy_stderr[i] == pytest.approx(change.std(ddof=1) / np.sqrt(80), abs=1e-6)


def test_class_by_class_a_curve_is_one_of_accuracy_and_says_so():
    ranking = RNG.permutation(100)
    found, plain = (
        removal_curve(source_game(X, Y, X_VAL, Y_VAL, utility=utility), ranking, grid=0.25, largest_cut=0.5)
        for utility in ("class_wise", "accuracy")
    )
    assert found.utility == "accuracy"
    np.testing.assert_allclose(found.score, plain.score, atol=1e-6)


@pytest.mark.parametrize(("grid", "largest"), [(0.3, 0.5), (0.66, 0.99), (0.02, 0.5), (0.07, 0.3), (0.5, 0.5)])
def test_no_cut_is_larger_than_the_largest(grid, largest):
    curve = removal_curve(source_game(X, Y, X_VAL, Y_VAL), np.arange(100), grid=grid, largest_cut=largest)
    assert curve.removed[0] == 0
    assert curve.removed.max() <= largest * 100
    assert curve.removed.max() > (largest - grid) * 100 - 1


def test_the_curve_ends_before_the_last_point_of_a_class_goes():
    y = (np.arange(100) < 10).astype(int)
    curve = removal_curve(source_game(X, y, X_VAL, Y_VAL), np.arange(100), grid=0.01)
    assert curve.removed.tolist() == list(range(10))


def test_the_error_of_balanced_accuracy_is_that_of_a_mean_of_class_means():
    y_val = (X_VAL[:, 0] > 1.0).astype(int)
    ranking = RNG.permutation(100)
    game = source_game(X, Y, X_VAL, y_val, utility="balanced_accuracy")
    curve = removal_curve(game, ranking, grid=0.4, largest_cut=0.4)
    hits = [
        (LogisticRegression().fit(X[rest], Y[rest]).predict(X_VAL) == y_val).astype(float)
        for rest in (ranking, ranking[40:])
    ]
    change = hits[1] - hits[0]
    expected = np.sqrt(sum(np.var(change[y_val == c], ddof=1) / np.sum(y_val == c) for c in (0, 1))) / 2
    assert curve.stderr[1] == pytest.approx(expected, rel=1e-5)


def test_a_class_of_one_validation_row_has_the_spread_of_the_others_in_the_error_of_balanced_accuracy():
    x, y, y_val = np.r_[X, 5 + X[:5]], np.r_[Y, np.full(5, 2)], Y_VAL.copy()
    y_val[7] = 2
    ranking = RNG.permutation(105)
    curve = removal_curve(
        source_game(x, y, X_VAL, y_val, utility="balanced_accuracy"), ranking, grid=0.3, largest_cut=0.3
    )
    hits = [
        (LogisticRegression().fit(x[rest], y[rest]).predict(X_VAL) == y_val).astype(float)
        for rest in (ranking, ranking[31:])
    ]
    change = hits[1] - hits[0]
    own = [change[y_val == c] for c in (0, 1)]
    pooled = sum(np.sum((part - part.mean()) ** 2) for part in own) / (len(own[0]) + len(own[1]) - 2)
    expected = np.sqrt(pooled + sum(np.var(part, ddof=1) / len(part) for part in own)) / 3
    assert pooled > 0
    assert curve.stderr[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_a_class_of_few_validation_rows_that_change_alike_is_no_surer_than_the_others(rows):
    rng = np.random.default_rng(0)
    y_val = np.repeat([0, 1, 2], [rows, 30, 30])
    game = source_game(np.r_[X, X[:1]], np.r_[Y, 2], X_VAL[: len(y_val)], y_val, utility="balanced_accuracy")
    gains = rng.normal(size=(1, len(y_val)))
    gains[:, :rows] = 1.0
    others = [gains[0, y_val == c] for c in (1, 2)]
    pooled = sum(np.sum((part - part.mean()) ** 2) for part in others) / (rows - 1 + 58)
    expected = np.sqrt(pooled / rows + sum(part.var(ddof=1) / 30 for part in others)) / 3
    np.testing.assert_allclose(_paired_error(gains, game), [expected], rtol=1e-6)


def test_errors_of_balanced_accuracy_hold_whatever_the_sizes_of_classes():
    """By simulation, of rows that mostly change nothing, as hits do."""
    rng = np.random.default_rng(0)
    for few in range(1, 9):
        y_val = np.repeat(np.arange(4), [few, few, few, 60 - 3 * few])
        game = source_game(np.r_[X, X[:2]], np.r_[Y, 2, 3], X_VAL[:60], y_val, utility="balanced_accuracy")
        gains = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=(4000, 60))
        error = np.sqrt(np.mean(_paired_error(gains, game) ** 2))
        assert 0.97 < error / (gains @ np.asarray(game.row_weight)).std() < 1.25, few


def test_classes_of_one_validation_row_each_have_their_common_spread_in_the_error_of_balanced_accuracy():
    rows = np.array([np.argmax(c == Y_VAL) for c in (0, 1)])
    game = source_game(X, Y, X_VAL[rows], Y_VAL[rows], utility="balanced_accuracy")
    paired = np.array([[0.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(_paired_error(paired, game), [0, 0.5])
    one = source_game(X, Y, X_VAL[:1], Y_VAL[:1])
    assert _paired_error(paired[:, :1], one).tolist() == [0, 0]


@pytest.mark.parametrize("utility", ["accuracy", "balanced_accuracy", "log_likelihood"])
def test_validation_rows_that_stand_twice_make_no_curve_surer(utility):
    rng = np.random.default_rng(0)
    y, y_val = ((x[:, :3] + 0.5).argmax(1) for x in (X, X_VAL))
    y_val[:] = np.where(y_val == 2, 0, y_val)
    y_val[7] = 2  # a class of one row, and of one unit
    twice, limits, folds = np.repeat(np.arange(80), 2), Limits.none(y), np.arange(80) % 2
    orders = [limits.removal_order(rng.normal(size=100)) for _ in range(3)]
    cuts = wanted_cuts(100, 0.1, 0.3)

    def curves(rows, units):
        game = source_game(X, y, X_VAL[rows], y_val[rows], utility=utility)
        yield ordered_curve(game, orders[0], cuts, units=units)
        yield crossed_curve(game, orders[0], folds[rows], orders[1:], cuts, units=units)

    for once, copied, apart in zip(
        curves(np.arange(80), None), curves(twice, 1000 - twice), curves(twice, None), strict=True
    ):
        for name in ("score", "difference", "stderr", "accuracy", "accuracy_stderr"):
            np.testing.assert_allclose(getattr(copied, name), getattr(once, name), atol=1e-6)
        assert apart.stderr.sum() < 0.8 * once.stderr.sum()
        assert apart.accuracy_stderr.sum() <= 0.8 * once.accuracy_stderr.sum()


@pytest.mark.parametrize("utility", ["accuracy", "balanced_accuracy"])
def test_errors_hold_what_the_rows_of_a_document_have_in_common(utility):
    """By simulation: documents of five rows, of several classes, whose rows gain together."""
    rng = np.random.default_rng(0)
    document, y_val = np.arange(300) // 5, (np.arange(300) % 3 == 0).astype(int)
    game = source_game(X, Y, np.zeros((300, 3)), y_val, utility=utility)
    shared = rng.normal(size=(1000, 60))[:, document]
    gains = shared + rng.normal(size=(1000, 300))
    found = gains @ np.asarray(game.row_weight)
    for units, low, high in ((document, 0.94, 1.06), (None, 0.4, 0.65)):
        error = np.sqrt(np.mean(_paired_error(gains, game, units) ** 2))
        assert low < error / found.std() < high


def test_rows_of_one_unit_alone_are_taken_each_by_itself():
    rng = np.random.default_rng(0)
    game = source_game(X, Y, X_VAL, Y_VAL)
    gains = rng.normal(size=(3, 80))
    np.testing.assert_allclose(_paired_error(gains, game, np.zeros(80, int)), _paired_error(gains, game))


@pytest.mark.parametrize(
    ("ranking", "how", "words"),
    [
        (np.arange(99), {}, "ranking is no order of the 100 training points"),
        (np.zeros(100, int), {}, "ranking is no order"),
        (np.arange(100), {"grid": 0}, "grid is 0"),
        (np.arange(100), {"largest_cut": 1.0}, "largest_cut is 1.0"),
    ],
)
def test_a_curve_that_cannot_be_drawn_is_refused(ranking, how, words):
    with pytest.raises(InputError, match=words):
        removal_curve(source_game(X, Y, X_VAL, Y_VAL), ranking, **how)


def test_a_regression_has_no_curve():
    with pytest.raises(InputError, match="one of r2 has no classes"):
        removal_curve(source_game(X, X[:, 0], X_VAL, X_VAL[:, 0], source="ridge", utility="r2"), np.arange(100))


def scores(order, cut, rows):
    """Whether scikit-learn's regression on what the cut leaves is right about each of the rows."""
    rest = order[cut:]
    return (LogisticRegression().fit(X[rest], Y[rest]).predict(X_VAL[rows]) == Y_VAL[rows]).astype(float)


def test_each_row_of_a_cross_fitted_curve_is_scored_by_the_order_of_the_other_rows():
    game, limits, folds = source_game(X, Y, X_VAL, Y_VAL), Limits.none(Y), np.arange(80) % 2
    orders = [limits.removal_order(RNG.normal(size=100)) for _ in range(3)]
    curve = crossed_curve(game, orders[0], folds, orders[1:], wanted_cuts(100, 0.1, 0.3))
    assert curve.cross_fitted
    assert curve.removed.tolist() == [0, 10, 20, 30]
    for place, cut in enumerate(curve.removed):
        right = np.empty(80)
        for fold in (0, 1):
            rows = np.flatnonzero(folds == fold)
            right[rows] = scores(orders[1 + fold].points, cut, rows)
        change = right - scores(orders[0].points, 0, np.arange(80))
        assert curve.score[place] == pytest.approx(right.mean(), abs=1e-6)
        assert curve.difference[place] == pytest.approx(change.mean(), abs=1e-6)
        assert curve.stderr[place] == pytest.approx(change.std(ddof=1) / np.sqrt(80), abs=1e-6)


def test_a_unit_that_fits_a_cut_is_among_what_a_half_removes_wherever_few_points_stand_before_it():
    # Of all rows the unit goes first. In a half a few single points do, which are less than half of the cut.
    limits = Limits(np.arange(100) % 2, np.maximum(np.arange(100) - 39, 0), np.zeros(100, bool))
    half = limits.removal_order(np.r_[np.full(40, -1.0), np.arange(-6.0, -1.0), np.arange(55.0)])
    assert half.near(40).tolist() == [*range(40, 45), *range(40)]
    assert half.near(10).tolist() == list(range(40, 45))  # which is half as many
    assert half.near(12).tolist() == list(range(40, 52))
    assert half.near(45).tolist() == half.points[:45].tolist()


def test_a_unit_too_large_for_a_cut_is_passed_over_by_the_order_that_has_it_first():
    game, folds = source_game(X, Y, X_VAL, Y_VAL, utility="probability"), np.arange(80) % 2
    units = np.maximum(np.arange(100) - 39, 0)
    limits = Limits(Y, units, np.zeros(100, bool))
    first, last = np.arange(100.0), np.r_[np.full(40, 99.0), np.arange(60.0)]  # where forty rows that go together go
    orders = [limits.removal_order(values) for values in (last, first, last)]
    curve = crossed_curve(game, orders[0], folds, orders[1:], wanted_cuts(100, 0.1, 0.5))
    assert curve.removed.tolist() == [0, 10, 20, 30, 40, 50]
    for place, gone in enumerate([[], range(40, 50), range(40, 60), range(40, 70), range(40), range(50)]):
        kept = (np.setdiff1d(np.arange(100), gone), orders[2].points[curve.removed[place] :])
        fits = (LogisticRegression(tol=1e-8).fit(X[rest], Y[rest]).predict_proba(X_VAL) for rest in kept)
        own, other = (probability[np.arange(80), Y_VAL] for probability in fits)
        assert curve.score[place] == pytest.approx(np.where(folds == 0, own, other).mean(), abs=1e-5)


@pytest.mark.slow
def test_each_half_of_the_validation_rows_is_crossed_with_the_order_that_the_other_half_alone_gives():
    game, limits, options = source_game(X, Y, X_VAL, Y_VAL, utility="log_likelihood"), Limits.none(Y), SelectOptions()
    folds = validation_folds(options, Y_VAL)
    how = {"utility": "log_likelihood", "subset_size": 20, "samples": 64, "correct": False}
    choice = choose(game, value(X, Y, X_VAL, Y_VAL, row_groups=folds, **how), limits, folds, options)
    for fold in (0, 1):
        others = folds != fold
        alone = value(X, Y, X_VAL[others], Y_VAL[others], **how).values
        of_own = value(X, Y, X_VAL[~others], Y_VAL[~others], **how).values
        place = np.argsort(choice.crossed[fold].points)
        assert spearmanr(place, alone).statistic > 0.97
        assert spearmanr(place, of_own).statistic < 0.9


@pytest.mark.slow
def test_points_that_no_sample_says_anything_of_go_last_by_either_half_too():
    game, limits, options = source_game(X, Y, X_VAL, Y_VAL, utility="log_likelihood"), Limits.none(Y), SelectOptions()
    folds = validation_folds(options, Y_VAL)
    how = {"utility": "log_likelihood", "subset_size": 40, "samples": 1}
    found = value(X, Y, X_VAL, Y_VAL, row_groups=folds, **how)
    known = np.isfinite(found.values)
    assert 0 < known.sum() < len(Y)
    for order in choose(game, found, limits, folds, options).crossed:
        assert known[order.points[: known.sum() - 2]].all()  # the last of each class stays


@pytest.mark.slow
def test_points_of_one_value_are_removed_in_an_order_that_the_seed_draws():
    game, limits = source_game(X, Y, X_VAL, Y_VAL, utility="log_likelihood"), Limits.none(Y)
    folds = validation_folds(SelectOptions(), Y_VAL)
    found = value(X, Y, X_VAL, Y_VAL, utility="log_likelihood", row_groups=folds, subset_size=20, samples=16)
    alike = dataclasses.replace(found, values=np.zeros(100), by_row=np.zeros((100, 2)))
    chosen = [choose(game, alike, limits, folds, SelectOptions(seed=seed)) for seed in (1, 1, 2)]
    orders = [[order.points.tolist() for order in (one.order, *one.crossed)] for one in chosen]
    assert orders[0] == orders[1] != orders[2]
    assert np.arange(100).tolist() not in orders[0] + orders[2]


def test_rows_of_one_unit_are_in_one_half():
    units = np.arange(80) // 4
    folds = validation_folds(SelectOptions(), Y_VAL, units)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(20))
    assert np.bincount(folds).tolist() == [40, 40]
    np.testing.assert_array_equal(
        validation_folds(SelectOptions(), Y_VAL, np.arange(80)), validation_folds(SelectOptions(), Y_VAL)
    )


def test_a_doubtful_row_is_not_judged_by_its_own_copies():
    x = np.concatenate([X, *[X[:1]] * 6])
    flipped = np.append(np.where(np.arange(100) == 0, 1 - Y, Y), [1 - Y[0]] * 6)
    copies = np.append(np.arange(100), [0] * 6)
    by_copies, by_others = (suspected_labels(x, flipped, C=100.0, units=units) for units in (None, copies))
    own = [
        dict(zip(found.points.tolist(), found.own.tolist(), strict=True)).get(0, 1.0)
        for found in (by_copies, by_others)
    ]
    assert own[1] < own[0]


def test_a_class_of_one_unit_is_not_asked_about():
    labels = np.where(np.arange(100) < 5, 2, Y)
    found = suspected_labels(X, labels, units=np.maximum(np.arange(100) - 4, 0))
    assert not set(found.points.tolist()) & set(range(5))


def test_rows_that_stand_four_times_say_as_much_of_the_accuracy_as_they_do_once():
    order, cuts, times = (
        Limits.none(Y).removal_order(RNG.normal(size=100)),
        np.array([0, 5]),
        np.repeat(np.arange(80), 4),
    )
    game = source_game(X, Y, X_VAL[times], Y_VAL[times])
    assert ordered_curve(game, order, cuts).independent_rows is None
    assert ordered_curve(game, order, cuts, units=times).independent_rows == pytest.approx(80, abs=1)
    assert ordered_curve(game, order, cuts, units=np.arange(320)).independent_rows == 320


def test_a_curve_cuts_between_units_alone():
    limits = Limits(Y, np.arange(100) // 8, np.zeros(100, bool))
    order = limits.removal_order(RNG.normal(size=100))
    curve = ordered_curve(source_game(X, Y, X_VAL, Y_VAL), order, wanted_cuts(100, 0.05, 0.5))
    assert set(curve.removed) <= set(order.ends)
    assert curve.removed.max() > 40
    for cut in curve.removed:
        assert not set(limits.units[order.points[:cut]]) & set(limits.units[order.points[cut:]])


def test_a_curve_that_was_cut_goes_on_after_the_last_order_that_it_finished():
    game, limits, folds = source_game(X, Y, X_VAL, Y_VAL), Limits.none(Y), np.arange(80) % 2
    orders = [limits.removal_order(RNG.normal(size=100)) for _ in range(3)]
    given, kept, computed = (game, orders[0], folds, orders[1:], wanted_cuts(100, 0.1, 0.3)), {}, []

    def keep(name, compute):
        if name not in kept:
            computed.append(name)
            kept[name] = compute()
        return kept[name]

    first = crossed_curve(*given, keep)
    del kept["curve-by-1"]
    again = crossed_curve(*given, keep)
    assert computed == ["curve-by-0", "curve-by-1", "curve-by-1"]
    np.testing.assert_array_equal(again.score, first.score)
    np.testing.assert_array_equal(again.stderr, crossed_curve(*given).stderr)


def shapes_seen(monkeypatch, room=None):
    """How many cuts each program was made for, one entry a program; the device has room for so many."""
    real, seen = LogisticGame.prefix_outcomes, []

    def traced(self, order, sizes):
        seen.append(len(sizes))
        if room is not None and len(sizes) > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.")
        return real(self, order, sizes)

    monkeypatch.setattr(LogisticGame, "prefix_outcomes", traced)
    return seen


@pytest.mark.parametrize("classes", [2, 3])
def test_cuts_are_fitted_in_batches_that_fit_into_memory_and_the_curve_is_the_same(classes, monkeypatch):
    y, y_val = ((x[:, :classes] + 0.5).argmax(1) for x in (X, X_VAL))
    game = source_game(X, y, X_VAL, y_val, utility="log_likelihood")
    given = (game, Limits.none(y).removal_order(RNG.normal(size=100)), wanted_cuts(100, 0.05, 0.5))
    whole = ordered_curve(*given)
    monkeypatch.setattr("tsds_jax.games.chunks.numbers_at_once", lambda: 4 * 100 * classes)
    seen = shapes_seen(monkeypatch)
    found = ordered_curve(*given)
    assert seen == [4]  # 11 cuts in three batches by one program
    np.testing.assert_array_equal(found.removed, whole.removed)
    for name in ("score", "difference", "stderr", "accuracy"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-6)


def test_fewer_cuts_are_fitted_together_where_memory_is_full(monkeypatch):
    given = (source_game(X, Y, X_VAL, Y_VAL), Limits.none(Y).removal_order(RNG.normal(size=100)), np.arange(0, 50, 5))
    whole = ordered_curve(*given)
    seen = shapes_seen(monkeypatch, room=4)
    with pytest.warns(RuntimeWarning, match="no memory for") as told:
        found = ordered_curve(*given)
    assert seen == [10, 5, 3]
    assert "10 refits at a time: going on with 5" in str(told[0].message)
    np.testing.assert_allclose(found.score, whole.score, atol=1e-6)
    shapes_seen(monkeypatch, room=0)
    with pytest.warns(RuntimeWarning), pytest.raises(TsdsError, match="no memory left for refits, one at a time"):
        ordered_curve(*given)
