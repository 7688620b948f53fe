"""Every baseline is what its definition says, and all but two find wrong labels."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

import tsds_jax as tsds
from tsds_jax.baselines import (
    BASELINES,
    WITHOUT_VALIDATION,
    baseline,
    confident,
    log_probability,
    margin,
    negative_entropy,
)
from tsds_jax.games import knn_shapley
from tsds_jax.games.held_out import held_out_probabilities
from tsds_jax.valuation import source_game

RNG = np.random.default_rng(0)


def problem(points=150, classes=2, flips=0.1):
    x, x_val = (RNG.normal(size=(rows, 4)).astype(np.float32) for rows in (points, 200))
    labels, y_val = x[:, :classes].argmax(1), x_val[:, :classes].argmax(1)
    flipped = np.zeros(points, bool)
    flipped[RNG.choice(points, round(flips * points), replace=False)] = True
    y = np.where(flipped, (labels + 1) % classes, labels)
    return (x, y, x_val, y_val), flipped


TWO, FLIPPED = problem()


@pytest.mark.slow
@pytest.mark.parametrize("method", BASELINES)
def test_every_method_values_all_points_and_the_same_with_the_same_seed(method):
    found = baseline(method, *TWO, samples=40, seed=3)
    assert isinstance(found, tsds.Valuation)
    assert found.values.shape == (150,)
    assert np.isfinite(found.values).all()
    np.testing.assert_array_equal(found.values, baseline(method, *TWO, samples=40, seed=3).values)
    # The papers', whatever is the default of `value`; "" where no validation rows are scored.
    assert found.utility in ("accuracy", "class_wise", "", "log_likelihood" if "likelihood" in method else "")
    if method not in ("random", "entropy"):
        assert roc_auc_score(FLIPPED, -found.values) > (0.55 if method in ("leave_one_out", "data_banzhaf") else 0.75)


@pytest.mark.parametrize("method", WITHOUT_VALIDATION)
def test_methods_that_look_at_no_validation_row_do_without(method):
    with_rows, without = (baseline(method, *arrays, samples=20) for arrays in (TWO, TWO[:2]))
    np.testing.assert_array_equal(with_rows.values, without.values)


def test_methods_that_go_by_validation_rows_ask_for_them():
    with pytest.raises(tsds.InputError, match="method 'knn_shapley' goes by validation rows: give x_val and y_val"):
        baseline("knn_shapley", *TWO[:2])


def test_points_of_one_unit_are_judged_by_fits_that_saw_none_of_them():
    (x, y, x_val, y_val), _ = problem(60)
    x, y = np.repeat(x, 2, 0), np.repeat(y, 2)
    wrong = np.arange(0, 120, 24)  # one copy of five points
    y[wrong] = 1 - y[wrong]
    units = np.arange(120) // 2
    alone, apart = (baseline("loss", x, y, x_val, y_val, seed=1, units=some).values for some in (None, units))
    # A copy with the right label, seen in most fits, speaks against the wrong one.
    assert alone[wrong].mean() < apart[wrong].mean()
    held = held_out_probabilities(source_game(x, y, x_val, y_val), seed=1, units=units)
    np.testing.assert_array_equal(apart, log_probability(held.probability.astype(np.float64), y))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_leave_one_out_is_scikit_learns_score_less_that_without_the_point(classes):
    (x, y, x_val, y_val), _ = problem(60, classes)
    rows = x.astype(np.float64)  # in which scikit-learn converges further than in float32
    full = LogisticRegression(tol=1e-8).fit(rows, y).score(x_val, y_val)
    expected = []
    for point in range(60):
        rest = np.delete(np.arange(60), point)
        expected.append(full - LogisticRegression(tol=1e-8).fit(rows[rest], y[rest]).score(x_val, y_val))
    found = baseline("leave_one_out", x, y, x_val, y_val)
    # A row on the line between two classes may fall on either side.
    assert np.abs(found.values - expected).max() < 1.5 / 200
    assert np.mean(np.abs(found.values - expected) < 1e-6) > 0.95
    assert found.unconverged == 0
    assert found.fits == 61


@pytest.mark.slow
def test_leave_one_out_by_likelihood_is_scikit_learns_log_loss_and_finds_more():
    (x, y, x_val, y_val), flipped = problem(60)

    def score(rows):
        fit = LogisticRegression(tol=1e-8).fit(x[rows].astype(np.float64), y[rows])
        return -log_loss(y_val, fit.predict_proba(x_val))

    everybody = np.arange(60)
    expected = [score(everybody) - score(np.delete(everybody, point)) for point in everybody]
    found = baseline("leave_one_out_likelihood", x, y, x_val, y_val)
    np.testing.assert_allclose(found.values, expected, atol=5e-5)
    by_accuracy = baseline("leave_one_out", x, y, x_val, y_val)
    assert roc_auc_score(flipped, -found.values) > roc_auc_score(flipped, -by_accuracy.values)


def test_kernel_values_bear_rows_far_from_the_origin_and_rows_that_are_mostly_copies():
    x, y, x_val, y_val = TWO
    found = baseline("kernel_shapley", x, y, x_val, y_val, samples=16).values
    far = baseline("kernel_shapley", x + 500, y, x_val + 500, y_val, samples=16).values
    assert np.corrcoef(found, far)[0, 1] > 0.99
    alike = np.where(np.arange(len(x))[:, None] < 120, 0.0, x)
    assert np.isfinite(baseline("kernel_shapley", alike, y, x_val, y_val, samples=16).values).all()


def test_kernel_values_are_measured_neither_by_the_rounding_of_copies_nor_by_one_sentinel(monkeypatch):
    rng, seen = np.random.default_rng(0), []
    monkeypatch.setattr("tsds_jax.baselines.value", lambda *given, **how: seen.append(given) or sys.exit(0))
    x, y = rng.normal(size=(150, 4)).astype(np.float32), np.arange(150) % 2
    copies, sentinel = x.copy(), x.copy()
    copies[:120] = 0.3
    sentinel[7, 2] = -1e9
    for some in (copies, sentinel, x):
        with pytest.raises(SystemExit):
            baseline("kernel_shapley", some, y, some[:50], y[:50], samples=16)
    (_, _, of_copies, _), (gram, *_), (plain, *_) = seen
    np.testing.assert_array_equal(of_copies[:, :120], 1)  # the rows of validation are copies too
    others = np.arange(150) != 7
    np.testing.assert_allclose(gram[np.ix_(others, others)], plain[np.ix_(others, others)], rtol=0.05, atol=0.01)


def test_out_of_bag_values_are_shares_with_their_errors():
    found = baseline("data_oob", *TWO, samples=30)
    assert found.stopped == "samples"
    assert ((found.values >= 0) & (found.values <= 1)).all()
    np.testing.assert_allclose(found.values * found.counts, np.round(found.values * found.counts), atol=1e-9)
    np.testing.assert_allclose(found.stderr, np.sqrt(found.values * (1 - found.values) / (found.counts - 1)))


def test_of_points_that_one_fit_alone_was_without_no_error_is_known():
    found = baseline("data_oob", *TWO, samples=1)
    assert np.isnan(found.stderr).all()
    assert np.isnan(found.reliability)


def test_the_middle_validation_row_has_ten_neighbours_within_the_radius():
    from tsds_jax.baselines import _radius

    x, y, x_val, y_val = TWO
    radius = _radius(x, x_val)
    inside = (np.linalg.norm(x_val[:, None] - x, axis=2) <= radius * (1 + 1e-6)).sum(1)
    assert np.mean(inside >= 10) >= 0.5
    assert np.mean(inside > 10) <= 0.5
    expected = knn_shapley(x, y, x_val, y_val, k=10, variant="threshold", threshold=radius)
    np.testing.assert_array_equal(baseline("knn_threshold", *TWO).values, expected)


def test_points_of_whole_numbers_at_the_radius_are_within_it():
    y, y_val = np.arange(40) % 2, np.zeros(1, int)
    for apart in range(1, 20):
        # All points are as far from the only validation row.
        x = np.arange(20) < np.full((40, 1), apart)
        found = baseline("knn_threshold", x, y, np.zeros((1, 20), bool), y_val).values
        assert (found != 0).all(), apart


PROBABILITY = np.array([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
LABELS = np.array([0, 1, 1, 2, 2])


def test_scores_of_held_out_probabilities_are_their_definitions():
    np.testing.assert_allclose(log_probability(PROBABILITY, LABELS), np.log([0.9, 0.3, 0.7, 0.4, 0.4]))
    np.testing.assert_allclose(margin(PROBABILITY, LABELS), [0.8, -0.3, 0.5, -0.1, 0.1])
    entropy = -np.sum(PROBABILITY * np.log(np.where(PROBABILITY > 0, PROBABILITY, 1)), 1)
    np.testing.assert_allclose(negative_entropy(PROBABILITY, LABELS), -entropy, atol=1e-9)


def test_points_off_the_diagonal_of_the_confident_joint_rank_below_all_others():
    """Class means of own probabilities: .9, .5, .4. Row 1 is sure of no class, row 3 of the second and the third."""
    found = confident(PROBABILITY, LABELS)
    np.testing.assert_allclose(found, [0.8, -0.3, 0.5, -0.1 - 2, 0.1])


def test_a_point_that_several_classes_are_confident_in_counts_for_the_likeliest_of_all_classes():
    """Class means of own probabilities: .8, .2, .2. Row 1 is sure of the second and the third: cleanlab's issue."""
    probability = np.array([[0.8, 0.1, 0.1], [0.5, 0.28, 0.22], [0.79, 0.12, 0.09], [0.7, 0.1, 0.2]])
    labels = np.array([0, 1, 1, 2])
    np.testing.assert_allclose(confident(probability, labels), [0.7, -0.22 - 2, -0.67, -0.5])


def test_a_class_is_confident_a_millionth_below_its_mean_and_never_at_zero():
    own, near = [[0.8, 0.1, 0.1], [0.3, 0.7, 0.0]], [0.8 - 5e-7, 0.2 + 5e-7, 0.0]
    # The last is the only point of the third class, which its fit has not seen.
    probability, labels = np.array([*own, near, [0.7, 0.3, 0.0], [0.65, 0.35, 0.0]]), np.array([0, 1, 1, 1, 2])
    issues = confident(probability, labels) != margin(probability, labels)
    assert issues.tolist() == [False, False, True, False, False]  # cleanlab's


def test_label_issues_and_scores_are_cleanlabs():
    stored = json.loads((Path(__file__).parent / "golden" / "cleanlab.json").read_text("utf-8"))
    probability, labels = np.array(stored["probability"]), np.array(stored["labels"])
    found = confident(probability, labels)
    assert np.flatnonzero(found != margin(probability, labels)).tolist() == stored["issues"]
    assert found[stored["issues"]].max() < np.delete(found, stored["issues"]).min()
    assert set(stored["issues"]) < set(stored["off_diagonal"])
    np.testing.assert_allclose((margin(probability, labels) + 1) / 2, stored["normalized_margin"], atol=1e-6)
    np.testing.assert_allclose(np.exp(log_probability(probability, labels)), stored["self_confidence"], atol=1e-6)


@pytest.mark.parametrize("method", ["knn_threshold", "kernel_shapley"])
@pytest.mark.parametrize("kind", ["uint8", "bool"])
def test_features_of_whole_numbers_are_valued_as_the_numbers_that_they_are(method, kind):
    (x, y, x_val, y_val), _ = problem(60)
    whole, whole_val = (
        (some > 0 if kind == "bool" else np.clip(60 * some + 128, 0, 255)).astype(kind) for some in (x, x_val)
    )
    found = baseline(method, whole, y, whole_val, y_val, samples=8)
    same = baseline(method, whole.astype(np.float32), y, whole_val.astype(np.float32), y_val, samples=8)
    np.testing.assert_array_equal(found.values, same.values)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "knn_shapley", "knn_soft", "knn_threshold", "kernel_shapley"])
def test_methods_without_a_regression_value_points_of_more_classes_than_a_regression_takes(method):
    y = np.arange(1001)
    x = np.stack([y, y**2 % 7], 1)
    found = baseline(method, x, y, x[:20], y[:20], samples=4).values
    assert np.isfinite(found).all()
    assert method in ("random", "kernel_shapley") or set(found.argsort()[-20:]) == set(range(20))
    with pytest.raises(tsds.InputError, match="1,001 classes are more than the 1,000 that logistic regressions"):
        baseline("loss", x, y, x[:20], y[:20])


@pytest.mark.parametrize("method", ["random", "knn_shapley", "kernel_shapley", "margin", "accuracy_shapley"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"y_train": [1, "1", *[1] * 28]}, "y_train mixes strings and integers, first at row 1"),
        ({"y_val": [1, "1", *[1] * 8]}, "y_val mixes strings and integers, first at row 1"),
        ({"y_train": [1] * 29}, r"y_train has shape \[29\] for 30 rows"),
        ({"y_train": [1] * 30}, "y_train has one class only"),
        ({"y_val": [2] * 10}, "y_val is 2 at row 0, which y_train lacks"),
        ({"x_val": np.ones((10, 3))}, "x_val has 3 features and x_train 4: give both the same"),
        ({"x_val": np.full((10, 4), 1e20)}, "x_val is 1.*e.20 at row 0, feature 0: scale features"),
        ({"C": -1}, "C is -1: give a number from"),
    ],
)
def test_whatever_the_method_arrays_that_value_refuses_are_refused_in_its_words(method, wrong, words):
    x, y, x_val, y_val = TWO
    arrays = {"x_train": x[:30], "y_train": y[:30], "x_val": x_val[:10], "y_val": y_val[:10]}
    for refuses in (lambda **given: baseline(method, **given), tsds.value):
        with pytest.raises(tsds.InputError, match=words):
            refuses(**{**arrays, **wrong})


def test_what_cannot_be_valued_is_refused():
    with pytest.raises(tsds.InputError, match="method 'magic' is unknown: use one of random, leave_one_out"):
        baseline("magic", *TWO)
    x, y, x_val, y_val = TWO
    with pytest.raises(tsds.InputError, match="x_train"):
        baseline("random", np.full_like(x, np.nan), y, x_val, y_val)
    for wrong in ({"samples": 0}, {"samples": 2.5}, {"seed": -1}):
        with pytest.raises(tsds.InputError, match=f"{next(iter(wrong))} is"):
            baseline("data_oob", *TWO, **wrong)
    many = np.zeros((20_001, 1)), np.arange(20_001) % 2
    with pytest.raises(tsds.InputError, match="too large for 20001: give at most 20000 points"):
        baseline("kernel_shapley", *many, x_val[:, :1], y_val)
