"""What a removal respects: units, protected points, floors and shares of classes."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

import tsds_jax as tsds
from tsds_jax.errors import InputError
from tsds_jax.pipeline.checks import removal_limits
from tsds_jax.selection import Limits


def test_without_limits_the_order_is_the_ranking_and_one_point_of_each_class_stays():
    values = np.array([3.0, 1.0, 2.0, 0.0])
    order = Limits.none(np.array([0, 0, 1, 1])).removal_order(values)
    assert order.points.tolist() == [3, 1, 0, 2]
    assert order.ends.tolist() == [0, 1, 2]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.booleans())
def test_every_cut_keeps_units_whole_protected_points_and_floors(seed, floor, alone):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, 27)])
    units = np.arange(30) if alone else np.unique(rng.integers(0, 12, 30), return_inverse=True)[1]
    protected = rng.random(30) < 0.1
    limits = Limits(labels, units, protected, floor, by_class=alone)
    order = limits.removal_order(rng.normal(size=30))
    assert sorted(order.points) == list(range(30))
    for cut in order.ends:
        gone, stay = order.points[:cut], order.points[cut:]
        assert not set(units[gone]) & set(units[stay])
        assert not protected[gone].any()
        counts = np.bincount(labels)
        assert (np.bincount(labels[stay], minlength=3) >= np.maximum(np.ceil(floor * counts - 1e-9), 1)).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 40))
def test_a_unit_is_passed_over_where_any_class_would_fall_below_its_floor(seed, floor, units):
    rng = np.random.default_rng(seed)
    labels, values = rng.integers(0, 6, 40), rng.normal(size=40)
    unit = np.unique(rng.integers(0, units, 40), return_inverse=True)[1]
    order = Limits(labels, unit, np.zeros(40, bool), floor).removal_order(values)
    left = np.bincount(labels)
    least, gone = np.maximum(np.ceil(floor * left - 1e-9), 1), []
    for one in np.argsort(np.bincount(unit, values) / np.bincount(unit), kind="stable"):
        taken = np.bincount(labels[unit == one], minlength=len(left))
        if (left - taken >= least)[taken > 0].all():
            left = left - taken
            gone += np.flatnonzero(unit == one).tolist()
    assert order.points[: order.ends[-1]].tolist() == gone


def test_what_may_go_goes_in_the_order_of_the_means_of_its_units():
    values = np.array([0.0, 4.0, 1.0, 1.5, -9.0])
    limits = Limits(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 2]), np.zeros(5, bool))
    order = limits.removal_order(values)
    assert order.points.tolist() == [2, 3, 0, 1, 4]  # the last is all there is of its class
    assert order.ends.tolist() == [0, 2]  # and without the first unit there were no other
    np.testing.assert_array_equal(limits.unit_values(values), [2, 2, 1.25, 1.25, -9])


@pytest.mark.parametrize("by_class", [False, True])
def test_equal_units_go_in_an_order_that_the_seed_draws_and_not_as_the_rows_came(by_class):
    """Rows come sorted by class, two of each unit; the last unit is lower than all others, which are alike."""
    labels, units = np.repeat([0, 1], 100), np.repeat(np.arange(100), 2)
    limits, values = Limits(labels, units, np.zeros(200, bool), by_class=by_class), np.r_[np.zeros(198), -1.0, -1.0]
    order, again, other = (limits.removal_order(values, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(order.points, again.points)
    assert (order.points != other.points).any()
    for some in (order, other):
        first = units[some.points[:100]]
        np.testing.assert_array_equal(first[::2], first[1::2])
        assert first[labels[some.points[:100]] == 1][0] == 99
        assert abs(np.bincount(labels[some.points[:100]])[0] - 50) <= 16  # as it would by chance
        assert abs(spearmanr(np.arange(50), first[::2]).statistic) < 0.6
    values = np.random.default_rng(0).normal(size=200)  # of which no two are equal
    np.testing.assert_array_equal(limits.removal_order(values, 3).points, limits.removal_order(values, 4).points)


def test_by_class_the_classes_take_turns_as_the_seed_draws_them():
    """Of 100 classes of one size 50 rows are one each of half of them, not of those that came first in the file."""
    labels = np.repeat(np.arange(100), 20)
    limits = Limits(labels, np.arange(2000), np.zeros(2000, bool), by_class=True)
    gone = [limits.removal_order(np.zeros(2000), seed).points[:50] for seed in (0, 0, 1)]
    assert all(len(set(labels[rows])) == 50 for rows in gone)
    assert gone[0].tolist() == gone[1].tolist() != gone[2].tolist()
    assert labels[gone[0]].mean() == pytest.approx(49.5, abs=12)


def test_an_order_of_some_points_alone_has_the_cuts_of_the_whole_one():
    labels, units = np.arange(300) % 3, np.minimum(np.arange(300), 250)
    limits, values = Limits(labels, units, np.arange(300) % 7 == 0), np.random.default_rng(0).normal(size=300)
    whole = limits.removal_order(values)
    for most in (1, 20, 90):
        some, wanted = limits.removal_order(values, most=most), np.arange(most + 1)
        np.testing.assert_array_equal(some.cuts(wanted), whole.cuts(wanted))
        np.testing.assert_array_equal(some.points[: some.cuts(wanted)[-1]], whole.points[: whole.cuts(wanted)[-1]])
        assert sorted(some.points) == list(range(300))


def test_by_class_takes_the_same_share_of_each_class():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    values = np.random.default_rng(0).normal(size=100) - 5 * (labels == 2)  # by value class 2 would go first
    order = Limits(labels, np.arange(100), np.zeros(100, bool), by_class=True).removal_order(values)
    for cut in (20, 50, 80):
        gone = np.bincount(labels[order.points[:cut]], minlength=3)
        np.testing.assert_allclose(gone, cut * np.array([0.6, 0.3, 0.1]), atol=1)
    for label in range(3):
        own = order.points[: order.ends[-1]][labels[order.points[: order.ends[-1]]] == label]
        assert (np.diff(values[own]) >= 0).all()


def test_by_class_counts_rows_that_may_go_whatever_stays_or_goes_together():
    labels, values = np.repeat([0, 1], 100), np.tile(np.arange(100.0), 2)
    protected = np.arange(200) < 50  # the lowest half of class 0
    order = Limits(labels, np.arange(200), protected, by_class=True).removal_order(values)
    np.testing.assert_allclose(np.bincount(labels[order.points[:60]]), [30, 30], atol=1)
    units = np.where(protected, 0, np.arange(200) - 49)  # or they go together
    order = Limits(labels, units, np.zeros(200, bool), by_class=True).removal_order(values)
    np.testing.assert_allclose(np.bincount(labels[order.points[:120]]), [60, 60], atol=1)


def test_by_class_refuses_units_of_several_classes():
    limits = Limits(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 2]), np.zeros(4, bool), by_class=True)
    with pytest.raises(InputError, match="by_class is for groups of one class, and row 0's has several"):
        limits.removal_order(np.zeros(4))


def test_a_row_whose_group_has_several_classes_is_named_by_where_it_stood():
    rows = {"text": list("abcd"), "label": ["x", "x", "x", "y"], "author": ["p", "q", "r", "r"]}
    train = tsds.load_data(Dataset.from_dict(rows)).select([1, 2, 3])
    settings = tsds.SelectOptions(group="author", by_class=True)
    with pytest.raises(InputError, match="row 3: by_class is for groups of one class, and this row's has several"):
        removal_limits(train, settings)


def test_a_random_order_keeps_to_the_limits_and_takes_every_unit_alike():
    units = np.repeat(np.arange(10), np.arange(1, 11))
    protected = units == 3
    limits = Limits(np.arange(55) % 2, units, protected)
    first = [units[limits.random_order(np.random.default_rng(seed)).points[0]] for seed in range(900)]
    count = np.bincount(first, minlength=10)
    assert count[3] == 0
    assert np.delete(count, 3).min() > 60  # binomial(900, 1/9): 100 +- 9.4


def test_units_that_would_be_too_many_are_passed_over_for_smaller_ones():
    units = np.repeat(np.arange(5), [40, 1, 40, 9, 2])
    limits = Limits(np.arange(92) % 2, units, units == 4)
    for seed in range(5):
        order = limits.random_order(np.random.default_rng(seed))
        assert sorted(set(units[order.at_most(10)])) == [1, 3]
        assert len(order.at_most(0)) == 0


def test_a_cut_is_the_most_that_does_not_exceed_what_is_wanted():
    limits = Limits(np.arange(12) % 2, np.arange(12) // 3, np.zeros(12, bool))
    order = limits.removal_order(np.arange(12.0))
    assert order.ends.tolist() == [0, 3, 6, 9]
    assert order.cuts(np.array([0, 2, 3, 8, 12])).tolist() == [0, 0, 3, 6, 9]
