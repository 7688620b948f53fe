"""Predictions for points that a fit has not seen are scikit-learn's for the same folds and samples."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tsds_jax.games import logistic_game
from tsds_jax.games.held_out import held_out_probabilities, out_of_bag, stratified_folds
from tsds_jax.games.leave_one_out import leave_one_out
from tsds_jax.selection import suspected_labels

RNG = np.random.default_rng(0)


def game(classes: int, points: int = 60):
    x = RNG.normal(size=(points, 4)).astype(np.float32)
    y = (x[:, :classes] + 0.5 * RNG.normal(size=(points, classes))).argmax(1)
    return x, y, logistic_game(x, y, x, y, classes=classes)


@pytest.mark.parametrize("classes", [2, 3])
def test_held_out_probabilities_are_those_of_fits_to_the_other_folds(classes):
    x, y, of = game(classes)
    found, _, fold = held_out_probabilities(of, folds=4, seed=3)
    np.testing.assert_array_equal(fold, stratified_folds(y, 4, 3))
    assert found.shape == (60, classes)
    for number in range(4):
        inside, outside = (x[rows].astype(np.float64) for rows in (fold != number, fold == number))
        # In float32 scikit-learn itself stops 1e-4 away, and elsewhere on another machine.
        fit = LogisticRegression(tol=1e-8).fit(inside, y[fold != number])
        np.testing.assert_allclose(found[fold == number], fit.predict_proba(outside), atol=1e-5)


def test_a_small_probability_has_its_digits_whichever_class_it_is_of():
    # Left and right, and one far to the right that is said to be left.
    x = np.repeat([-10.0, 10.0, 26.0], [40, 40, 1])[:, None].astype(np.float32)
    y = np.repeat([0, 1, 0], [40, 40, 1])
    own = [
        held_out_probabilities(logistic_game(x, labels, x, labels, classes=2), seed=1).probability[-1, labels[-1]]
        for labels in (y, 1 - y)
    ]
    assert 1e-9 < own[1] < 6e-8
    assert own[0] == pytest.approx(own[1], rel=0.1)  # of other folds


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_a_fit_has_not_seen_has_probability_zero(classes):
    x, y, _ = game(classes)
    last = classes - 1
    y[y == last] = 0
    y[7] = last
    found = held_out_probabilities(logistic_game(x, y, x, y, classes=classes)).probability
    assert found[7, last] == 0
    assert (np.delete(found[:, last], 7) > 0).any()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_of_each_fold_no_more_is_kept_than_what_it_says_of_its_own_rows(monkeypatch):
    points, classes = 2000, 40
    x = RNG.normal(size=(points, 3)).astype(np.float32)
    of = logistic_game(x, np.arange(points) % classes, x[:1], [0], classes=classes)
    whole = held_out_probabilities(of).probability
    monkeypatch.setattr("tsds_jax.games.held_out._CHUNK_NUMBERS", points * classes)
    held_out_probabilities(of)  # compiles
    tracemalloc.start()
    found = held_out_probabilities(of).probability
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * found.nbytes
    np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_fits_that_did_not_converge_are_counted(classes):
    x, y, sound = game(classes)
    # Columns twice, and a penalty that float32 loses beside them.
    twice = np.tile(x, 2)
    lost = logistic_game(twice, y, twice, y, classes=classes, C=1e9)
    for of, low, high in ((sound, 0, 0), (lost, 1, 6)):
        assert low <= held_out_probabilities(of, folds=4).unconverged <= min(high, 4)
        assert low <= out_of_bag(of, fits=6).unconverged <= high
        assert low <= leave_one_out(of)[1] <= 61 * high


def test_folds_have_each_class_alike_and_are_of_one_size():
    labels = RNG.permutation(np.repeat([0, 1, 2], [50, 31, 19]))
    fold = stratified_folds(labels, 4, seed=1)
    assert np.ptp(np.bincount(fold)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(fold[labels == label], minlength=4)) <= 1
    assert (fold != stratified_folds(labels, 4, seed=2)).any()


@pytest.mark.parametrize("classes", [2, 3])
def test_out_of_bag_counts_are_those_of_fits_to_the_bootstrap_samples(classes):
    x, y, of = game(classes)
    found = out_of_bag(of, fits=6, seed=5)
    hits, counts = np.zeros(60), np.zeros(60)
    for fit in range(6):
        times = np.bincount(np.random.default_rng([5, fit]).integers(60, size=60), minlength=60)
        predicted = LogisticRegression(tol=1e-8).fit(x.astype(np.float64), y, sample_weight=times).predict(x)
        hits += (times == 0) * (predicted == y)
        counts += times == 0
    np.testing.assert_array_equal(found.counts, counts)
    assert np.abs(found.hits - hits).sum() <= 1  # a point on the line between two classes


def test_the_only_point_of_a_class_is_no_suspect():
    x, y, _ = game(3)
    y[y == 2] = 0
    y[7] = 2
    found = suspected_labels(x, y)
    assert len(found.points) > 0
    assert 7 not in found.points


def test_flipped_labels_are_suspected_with_the_right_suggestion():
    x, y, _ = game(3, points=300)
    clear = np.sort(x[:, :3], 1)
    flipped = RNG.permutation(np.flatnonzero(clear[:, 2] - clear[:, 1] > 1.2))[:12]
    right, y = x[:, :3].argmax(1), x[:, :3].argmax(1)
    y[flipped] = (y[flipped] + 1) % 3
    found = suspected_labels(x, y)
    assert set(found.points[:12]) == set(flipped)
    assert (found.suggested[:12] == right[found.points[:12]]).all()
    assert (np.diff(found.own) >= 0).all()
    assert (found.probability > found.own).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_points_that_are_all_of_one_unit_are_judged_by_nobody(classes):
    x, y, _ = game(classes)
    found = held_out_probabilities(logistic_game(x, y, x, y, classes=classes), units=np.zeros(len(y), int))
    assert (found.probability == 0).all()
