"""The removal index that each rule reads off a curve."""

import numpy as np
import pytest

from tsds_jax.errors import InputError
from tsds_jax.selection import RemovalCurve, removal_index


def curve_of(score, stderr):
    score, errors = np.array(score), np.array(stderr)
    return RemovalCurve(np.arange(len(score)) * 10, score, score - score[0], errors, score, errors, "accuracy")


def test_argmax_takes_the_best_cut_and_the_smallest_in_a_tie():
    assert removal_index(curve_of([0.7, 0.8, 0.8, 0.75], [0, 0.01, 0.01, 0.01]), "argmax") == 10


def test_one_standard_error_takes_the_smallest_cut_that_is_as_good_as_the_best():
    assert removal_index(curve_of([0.70, 0.78, 0.79, 0.80], [0, 0.02, 0.02, 0.025]), "one_se") == 10


@pytest.mark.parametrize("rule", ["argmax", "one_se", "cross_fitted"])
def test_nothing_is_removed_where_no_cut_helps(rule):
    assert removal_index(curve_of([0.8, 0.79, 0.78], [0, 0.01, 0.01]), rule) == 0


def test_one_standard_error_removes_nothing_for_a_gain_within_the_noise():
    assert removal_index(curve_of([0.80, 0.81, 0.79], [0, 0.02, 0.02]), "one_se") == 0


def test_the_cross_fitted_rule_takes_the_middle_of_a_good_stretch_not_a_lone_peak():
    curve = curve_of([0.70, 0.71, 0.76, 0.71, 0.73, 0.745, 0.74, 0.70], [0.01] * 8)
    assert removal_index(curve, "argmax") == 20
    assert removal_index(curve, "cross_fitted") == 50


def test_the_cross_fitted_rule_does_not_average_with_removing_nothing():
    assert removal_index(curve_of([0.70, 0.75, 0.74, 0.70], [0.01] * 4), "cross_fitted") == 10


def test_the_cross_fitted_rule_removes_nothing_for_a_gain_within_its_standard_error():
    assert removal_index(curve_of([0.80, 0.81, 0.81], [0, 0.02, 0.02]), "cross_fitted") == 0
    assert removal_index(curve_of([0.80, 0.81, 0.81], [0, 0.005, 0.005]), "cross_fitted") > 0


def test_the_cross_fitted_rule_asks_a_stretch_for_more_than_the_errors_of_all_its_cuts():
    # The first cut's error is the smallest of the curve, and its gain is the second's.
    assert removal_index(curve_of([0.8, 0.8005, 0.806, 0.8], [0, 0.001, 0.010, 0.012]), "cross_fitted") == 0
    assert removal_index(curve_of([0.8, 0.8, 0.805, 0.8], [0, 0, 0.006, 0.007]), "cross_fitted") == 0
    assert removal_index(curve_of([0.8, 0.805, 0.806, 0.8], [0, 0.001, 0.003, 0.012]), "cross_fitted") == 10


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match="rule 'elbow' is unknown: use one of cross_fitted, one_se, argmax"):
        removal_index(curve_of([0.5], [0]), "elbow")
