"""Detection scores are scikit-learn's, and say what they should of perfect, opposite and blind values."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tsds_jax.errors import InputError
from tsds_jax.evaluation import detection


@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_scikit_learns(ties):
    rng = np.random.default_rng(0)
    wrong = rng.random(200) < 0.15
    values = rng.normal(size=200) - wrong
    values = np.round(values, 1) if ties else values
    found = detection(values, wrong)
    assert found.auroc == pytest.approx(roc_auc_score(wrong, -values))
    assert found.average_precision == pytest.approx(average_precision_score(wrong, -values))
    if not ties:
        called = values <= np.sort(values)[wrong.sum() - 1]
        assert found.f1 == pytest.approx(f1_score(wrong, called))


def test_values_that_say_nothing_are_at_chance_and_opposite_ones_below():
    wrong = np.arange(40) < 10
    assert detection(np.zeros(40), wrong).auroc == 0.5
    assert detection(np.zeros(40), wrong).average_precision == 0.25
    assert detection(-np.arange(40.0), wrong).auroc == 0.0


def test_of_equal_values_the_order_of_the_points_says_nothing():
    for wrong in (np.arange(40) < 10, np.arange(40) >= 30):
        assert detection(np.zeros(40), wrong).f1 == pytest.approx(0.25)
    # The lowest is wrong; of the next two, alike, one is, and one place is left.
    assert detection(np.array([0, 1, 1, 2.0]), np.array([True, True, False, False])).f1 == pytest.approx(0.75)


def test_a_point_without_a_value_is_suspected_last():
    assert detection(np.array([np.nan, -1.0, 2.0]), np.array([True, False, False])).auroc == 0.0


@pytest.mark.parametrize("wrong", [np.zeros(3, bool), np.ones(3, bool)])
def test_wrong_points_of_one_kind_alone_are_refused(wrong):
    with pytest.raises(InputError, match="of 3 points are wrong: detection needs some of both kinds"):
        detection(np.arange(3.0), wrong)
