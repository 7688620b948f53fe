"""Each warning is there when it is due, in words that name the numbers, and not otherwise."""

import dataclasses

import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.selection import Limits, RemovalCurve
from tsds_jax.selection.choice import Choice
from tsds_jax.selection.doubts import doubts_about_cut, doubts_about_values, expected_overlap, fewer_than_asked

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(60, 3)), RNG.normal(size=(200, 3))
Y, Y_VAL = (X[:, 0] > 0).astype(int), (X_VAL[:, 0] > 0).astype(int)
VALUED = tsds.value(X, Y, X_VAL, Y_VAL, utility="probability", samples=64)
LOWEST = VALUED.ranking[:6]


# With what is known of its noise in its standard errors alone, which tests replace.
PLAIN = dataclasses.replace(VALUED, moments=None)


def noisy(error: float) -> tsds.Valuation:
    """The same with noise of this size, in units of the values' spread."""
    spread = VALUED.values.std()
    values = VALUED.values + error * spread * RNG.normal(size=60)
    return dataclasses.replace(PLAIN, values=values, stderr=np.full(60, error * spread))


def test_good_values_raise_no_doubt():
    assert doubts_about_values(VALUED, LOWEST, VALUED) == []


def test_values_that_are_noise_are_named_so():
    (found,) = doubts_about_values(noisy(3.0), LOWEST, VALUED)
    assert "mostly sampling noise (reliability 0." in found


def test_a_single_fit_or_row_is_spoken_of_as_one():
    found = doubts_about_values(dataclasses.replace(VALUED, unconverged=1), VALUED.ranking[-1:], VALUED)
    assert found[0].startswith("1 fit of source classifiers")
    assert any("disagree: of 1 row removed by" in words for words in found)


def test_a_second_opinion_that_is_noise_is_no_disagreement():
    backwards = dataclasses.replace(VALUED, values=-VALUED.values)
    assert any("utilities disagree" in words for words in doubts_about_values(VALUED, LOWEST, backwards))
    noise = dataclasses.replace(noisy(3.0), values=-VALUED.values)
    assert noise.reliability < 0.5
    assert doubts_about_values(VALUED, LOWEST, noise) == []


def test_a_cut_that_another_seed_would_not_make_is_named_with_the_share():
    unsure = dataclasses.replace(noisy(0.0), stderr=np.full(60, 0.65 * VALUED.values.std()))
    assert unsure.reliability > 0.5
    (found,) = doubts_about_values(unsure, VALUED.ranking[:1], VALUED)
    assert found.startswith("with another seed only ")
    assert "% of these 1 rows" in found
    assert doubts_about_values(unsure, VALUED.ranking[:0], VALUED) == []


@pytest.mark.parametrize("error", [0.3, 1.0])
def test_the_expected_overlap_is_that_of_two_runs(error):
    """Values known without noise, so that two runs can be made of them."""
    truth = RNG.normal(size=2000)
    runs = [truth + error * RNG.normal(size=2000) for _ in range(2)]
    measured = len(np.intersect1d(*(np.argsort(run)[:200] for run in runs))) / 200
    about = dataclasses.replace(PLAIN, values=runs[0], stderr=np.full(2000, error))
    assert expected_overlap(about, 200) == pytest.approx(measured, abs=0.06)


def test_rows_without_a_value_do_not_hide_how_little_two_runs_have_in_common():
    rng = np.random.default_rng(5)
    values, error = rng.normal(size=2000), np.full(2000, 1.0)
    found = expected_overlap(dataclasses.replace(PLAIN, values=values, stderr=error), 200)
    values, error = np.append(values, np.nan), np.append(error, np.nan)
    assert found == expected_overlap(dataclasses.replace(PLAIN, values=values, stderr=error), 200) < 0.6


def test_the_expected_overlap_is_that_of_rows_that_may_go():
    """Protected rows lie lowest without any doubt, and what may go is told apart by noise alone."""
    protected = np.arange(400) < 200
    values = np.where(protected, -100.0, 0.0) + RNG.normal(size=400)
    about = dataclasses.replace(PLAIN, values=values, stderr=np.where(protected, 0.0, 2.0))
    limits = Limits(np.zeros(400, int), np.arange(400), protected)
    assert expected_overlap(about, 50) > 0.95
    assert expected_overlap(about, 50, limits) < 0.5


def test_the_expected_overlap_of_groups_is_that_of_two_runs():
    """Two runs' noise is the group's, the same for all of its rows."""
    size = RNG.integers(1, 9, 300)
    units = np.repeat(np.arange(300), size)
    limits = Limits(np.zeros(len(units), int), units, np.zeros(len(units), bool))
    truth = RNG.normal(size=300)
    runs = [truth + 0.7 * RNG.normal(size=300) for _ in range(2)]
    cut = len(units) // 5
    taken = [np.isin(units, np.argsort(run)[np.cumsum(size[np.argsort(run)]) <= cut]) for run in runs]
    about = dataclasses.replace(PLAIN, values=runs[0][units], stderr=np.full(len(units), 0.7))
    assert expected_overlap(about, cut, limits) == pytest.approx((taken[0] & taken[1]).sum() / cut, abs=0.08)


@pytest.mark.parametrize("how", [{"by_class": True}, {"class_floor": 0.9}])
def test_the_expected_overlap_with_floors_or_shares_of_classes_is_that_of_two_runs(how):
    """The lowest are all of a class that is known well, which limits let no more than a tenth of go."""
    labels, rng = np.repeat([0, 1], [1600, 400]), np.random.default_rng(0)
    limits, error = Limits(labels, np.arange(2000), np.zeros(2000, bool), **how), np.where(labels, 0.1, 1.0)
    truth = rng.normal(size=2000) - 2.5 * labels
    runs = [truth + error * rng.normal(size=2000) for _ in range(2)]
    measured = len(np.intersect1d(*(limits.removal_order(run).points[:200] for run in runs))) / 200
    about = dataclasses.replace(PLAIN, values=runs[0], stderr=error)
    assert expected_overlap(about, 200, limits) == pytest.approx(measured, abs=0.08)
    assert expected_overlap(about, 200) > measured + 0.15


def test_a_cut_among_rows_of_one_value_is_not_one_that_another_seed_would_make():
    values = np.r_[-np.arange(1.0, 101.0), np.zeros(300)]
    about = dataclasses.replace(PLAIN, values=values, stderr=np.zeros(400))
    assert expected_overlap(about, 100) == 1.0
    assert expected_overlap(about, 160) == pytest.approx((100 + 60 * 60 / 300) / 160, abs=0.03)


def test_utilities_that_disagree_about_the_removed_rows_are_named():
    opposite = dataclasses.replace(VALUED, values=-VALUED.values, utility="log_likelihood")
    (found,) = doubts_about_values(VALUED, LOWEST, opposite)
    assert found.startswith(
        "utilities disagree: of 6 rows removed by probability only 0% are in the lower half by log_"
    )


def test_utilities_that_agree_are_not_said_to_disagree_whatever_is_removed():
    for share in (0.7, 0.95):
        assert doubts_about_values(VALUED, VALUED.ranking[: round(60 * share)], VALUED) == []
    # As many of each class go, and all of one class lie above all of the other.
    order = np.ravel(np.column_stack([np.arange(30), np.arange(30, 60)]))
    limits = Limits(np.arange(60) // 30, np.arange(60), np.zeros(60, bool), by_class=True)
    apart = dataclasses.replace(VALUED, values=np.arange(60.0))
    assert not any("disagree" in one for one in doubts_about_values(apart, order[:10], apart, limits))
    assert any("disagree" in one for one in doubts_about_values(apart, order[:10], apart))


def test_whether_utilities_agree_is_asked_of_all_rows_that_may_go_and_of_no_other():
    """Behind those that may go the others stand in the order of the data, which says nothing of their values."""
    apart = dataclasses.replace(VALUED, values=np.arange(60.0))
    # A floor lets a fifth of each class go. Both put the last thirty rows in the lower half, each in its own order.
    floor = Limits(np.arange(60) % 2, np.arange(60), np.zeros(60, bool), class_floor=0.8)
    last = dataclasses.replace(VALUED, values=-np.arange(60.0))
    other = dataclasses.replace(VALUED, values=np.where(np.arange(60) < 30, 0.0, np.arange(60) - 100.0))
    lowest = floor.removal_order(last.values).points[:12]
    assert not any("disagree" in one for one in doubts_about_values(last, lowest, other, floor))
    # Half may never go: the others' own lower half is what counts.
    protected = Limits(np.arange(60) % 2, np.arange(60), np.arange(60) >= 30)
    opposite = dataclasses.replace(VALUED, values=-apart.values)
    lowest = protected.removal_order(apart.values).points[:6]
    assert any(
        "only 0% are in the lower half" in one for one in doubts_about_values(apart, lowest, opposite, protected)
    )


def test_fits_that_did_not_converge_and_rows_never_drawn_twice_are_named():
    odd = dataclasses.replace(PLAIN, unconverged=3, stderr=np.full(60, np.nan))
    found = doubts_about_values(odd, LOWEST, VALUED)
    assert found[0].startswith("3 fits of source classifiers, with one row more or not,")
    assert "not known, for no row was drawn twice" in found[1]


def curve(accuracy: float, error: float, utility: str = "accuracy") -> RemovalCurve:
    score = np.array([accuracy, accuracy + 0.01])
    errors = np.array([0, error])
    return RemovalCurve(np.array([0, 5]), score, score - accuracy, errors, score, errors, utility)


def cut(of: RemovalCurve, kept: np.ndarray, rows: int = 200) -> list[str]:
    validation = (np.arange(rows) < 0.6 * rows).astype(int)
    return doubts_about_cut(of, np.repeat([0, 1], 30), ("no", "yes"), kept, validation)


def test_a_good_classifier_and_a_small_cut_raise_no_doubt():
    assert cut(curve(0.8, 0.005), np.arange(5, 60)) == []


@pytest.mark.parametrize(("accuracy", "how"), [(0.55, "is not above"), (0.65, "cannot be told from")])
def test_a_classifier_not_better_than_the_majority_class_is_named_with_its_interval(accuracy, how):
    (found,) = cut(curve(accuracy, 0.005), np.arange(60))
    assert how in found
    assert "(95 % interval 0." in found
    assert "majority class's share of the validation rows, 0.600" in found


def test_rows_that_belong_together_leave_more_doubt_of_the_classifier_than_as_many_others():
    of = curve(0.7, 0.005)
    assert cut(of, np.arange(60)) == []
    (found,) = cut(dataclasses.replace(of, independent_rows=40), np.arange(60))
    assert "0.700 (95 % interval 0.546 to 0.819), cannot be told from the majority class's share" in found


def test_validation_rows_that_cannot_tell_cuts_apart_are_too_few():
    for utility in ("accuracy", "log_likelihood"):
        (found,) = cut(curve(0.8, 0.02, utility), np.arange(60))
        assert "the 200 validation rows tell a cut from none only where it gains more than 3.9 points" in found
    # Nor are ten rows many because no prediction of theirs changed.
    assert "the 10 validation rows tell" in cut(curve(0.8, 0.0), np.arange(60), rows=10)[-1]


def test_a_cut_that_takes_most_of_a_class_names_it():
    assert cut(curve(0.8, 0.005), np.arange(20, 60)) == ["the cut removes 20 of the 30 training rows of class no"]


def test_of_many_classes_that_a_cut_takes_most_of_those_that_lose_most_are_named_and_the_others_counted():
    labels = np.repeat(np.arange(40), 10)
    kept = np.flatnonzero(np.arange(400) % 10 >= 6 + (labels == 7))
    validation = (np.arange(200) < 120).astype(int)
    found = doubts_about_cut(curve(0.8, 0.005), labels, [f"c{label}" for label in range(40)], kept, validation)
    assert found == [
        "the cut removes 7 of the 10 training rows of class c7",
        "the cut removes 6 of the 10 training rows of class c0",
        "the cut removes 6 of the 10 training rows of class c1",
        "the cut removes more than half of the training rows of 37 more classes",
    ]


@pytest.mark.parametrize(
    ("rule", "asked", "words"),
    [
        ("count", 1, None),
        ("count", 2, "1 row fewer was removed than asked for: the next 3 rows go together, and would be more"),
        ("share", 3, "2 rows fewer were removed than asked for: the next 3 rows go together, and would be more"),
        ("count", 6, None),
        ("count", 7, "1 row fewer was removed than asked for: the limits allow no more"),
        ("below", 3, "2 rows fewer were removed than asked for: the limits allow no more"),
    ],
)
def test_where_fewer_rows_go_than_were_asked_for_it_is_said_why(rule, asked, words):
    labels, units = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2, 3, 3, 4])
    order = Limits(labels, units, np.arange(8) == 7).removal_order(np.arange(8.0))
    assert order.ends.tolist() == [0, 1, 4, 6]
    index = int(order.cuts(np.array([asked]))[0])
    assert fewer_than_asked(Choice(order, None, rule, index, asked - index)) == ([words] if words else [])
