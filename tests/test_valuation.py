"""`value` as a user meets it: arrays in, values out, and one clear line for what cannot be used."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import tsds_jax as tsds
from tsds_jax.valuation import default_subset_size

RNG = np.random.default_rng(0)
DIRECTION = RNG.normal(size=6)
X = RNG.normal(size=(160, 6)).astype(np.float32)
Y = (X @ DIRECTION + 0.3 * RNG.logistic(size=160) > 0).astype(int)
X_VAL = RNG.normal(size=(120, 6)).astype(np.float32)
Y_VAL = (X_VAL @ DIRECTION + 0.3 * RNG.logistic(size=120) > 0).astype(int)


def test_flipped_labels_get_the_lowest_values():
    flipped = np.arange(160) % 8 == 0
    noisy = np.where(flipped, 1 - Y, Y)
    v = tsds.value(X, noisy, X_VAL, Y_VAL, utility="probability", subset_size=40, samples=30)
    assert roc_auc_score(flipped, -v.values) > 0.7
    assert v.reliability > 0.7
    assert (v.counts >= 30).all()


def test_a_seed_decides_everything_and_label_type_and_array_library_nothing():
    def run(seed=0, x=X, y=Y, y_val=Y_VAL):
        return tsds.value(x, y, X_VAL, y_val, subset_size=20, samples=3, seed=seed).values

    plain = run()
    np.testing.assert_array_equal(run(), plain)
    np.testing.assert_array_equal(run(x=jnp.asarray(X), y=jnp.asarray(Y)), plain)
    names = np.array(["bad", "good"])
    np.testing.assert_array_equal(run(y=names[Y].tolist(), y_val=names[Y_VAL].astype(object)), plain)
    assert not np.array_equal(run(seed=1), plain)


def test_reliability_is_the_agreement_of_two_seeds():
    one, two = (
        tsds.value(X, Y, X_VAL, Y_VAL, utility="probability", subset_size=30, samples=15, seed=seed) for seed in (1, 2)
    )
    assert np.corrcoef(one.values, two.values)[0, 1] == pytest.approx(one.reliability, abs=0.12)


def test_exact_and_permutation_agree():
    keep = np.r_[0:10]
    how = {"utility": "log_likelihood", "subset_size": 6}
    exact = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, estimator="exact", **how)
    sampled = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, samples=400, truncation=0.0, **how)
    assert exact.reliability == 1
    assert np.abs((sampled.values - exact.values) / sampled.stderr).max() < 4


@pytest.mark.parametrize(("source", "utility"), [("logistic", "accuracy"), ("ridge", "log_likelihood")])
def test_add_one_and_permutation_agree(source, utility):
    how = {"source": source, "utility": utility, "subset_size": 40, "truncation": 0.0}
    chains = tsds.value(X, Y, X_VAL, Y_VAL, samples=150, **how)
    rounds = tsds.value(X, Y, X_VAL, Y_VAL, estimator="add_one", samples=300, **how)
    assert rounds.fits == 300
    error = (rounds.values - chains.values) / np.hypot(rounds.stderr, chains.stderr)
    assert np.abs(error).max() < 4.5
    assert np.sqrt(np.mean(error**2)) < 1.3


def test_progress_counts_up_to_all_marginals():
    seen = []
    tsds.value(X, Y, X_VAL, Y_VAL, subset_size=50, samples=40, progress=seen.append)
    assert [event.stage for event in seen] == ["value"] * len(seen)
    done = [event.done for event in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total == 160 * 40


def test_the_default_subset_follows_the_dimension():
    assert default_subset_size(10_000, 32) == 132
    assert default_subset_size(100, 32) == 100
    assert default_subset_size(10_000, 4) == 64
    assert default_subset_size(10_000, 5000) == 512


def with_entry(array, place, entry):
    array = np.array(array, dtype=object if entry is None or isinstance(entry, str) else float)
    array[place] = entry
    return array


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": with_entry(X, (17, 3), np.nan)}, "x_train is nan at row 17, feature 3: remove or impute"),
        ({"x_val": with_entry(X_VAL, (2, 0), np.inf)}, "x_val is inf at row 2, feature 0"),
        ({"x_train": with_entry(X, (4, 1), 1e300)}, "x_train is inf at row 4, feature 1"),
        ({"x_train": X[:0]}, "x_train is empty"),
        ({"x_train": X[:, 0]}, r"x_train has shape \[160\]: give \[points, features\]"),
        ({"x_train": [["a"]] * 160}, "x_train holds no numbers"),
        ({"x_train": [[1.0], [1.0, 2.0]]}, "x_train holds no numbers"),
        ({"x_val": X_VAL[:, :5]}, "x_val has 5 features and x_train 6"),
        ({"y_train": Y[:-1]}, r"y_train has shape \[159\] for 160 rows"),
        ({"y_train": np.zeros(160, int)}, "y_train has one class only, 0"),
        ({"y_train": with_entry(Y, 9, None)}, "y_train has no label at row 9"),
        ({"y_train": with_entry(Y, 9, 0.5)}, "y_train is 0.5 at row 9: labels are integers or strings"),
        ({"y_train": with_entry(Y, 9, np.nan)}, "y_train is nan at row 9"),
        ({"y_train": with_entry(Y, 9, np.inf)}, "y_train is inf at row 9"),
        ({"y_train": [*["a", "b"] * 79, "a", " "]}, "y_train is blank at row 159"),
        ({"y_train": [*[0, 1] * 79, 0, "a"]}, "y_train mixes strings and integers, first at row 159"),
        ({"y_train": with_entry(Y, 9, "x")}, "y_train mixes strings and integers, first at row 9"),
        ({"y_val": with_entry(Y_VAL, 5, 7)}, "y_val is 7 at row 5, which y_train lacks"),
        ({"y_val": np.array(["no", "yes"])[Y_VAL]}, "y_val holds strings and y_train integers"),
        ({"subset_size": 161}, "subset_size 161 is more than the 160 training points: give at most 160"),
        ({"subset_size": 0}, "subset_size is 0: give a whole number of at least 1"),
        ({"samples": 1.5}, "samples is 1.5: give a whole number"),
        ({"samples": True}, "samples is True"),
        ({"C": -1.0}, "C is -1.0: give a number"),
        ({"truncation": -0.1}, "truncation is -0.1"),
        ({"seed": -1}, "seed is -1"),
        ({"utility": "f1"}, "utility 'f1' is unknown: use one of accuracy, "),
        ({"source": "svm"}, "source 'svm' is unknown: use one of logistic, ridge"),
        ({"estimator": "magic"}, "estimator 'magic' is unknown"),
        ({"estimator": "exact"}, "160 points are too many to enumerate"),
    ],
)
def test_bad_input_gets_one_line_that_names_it_and_the_way_out(change, words):
    good = {"x_train": X, "y_train": Y, "x_val": X_VAL, "y_val": Y_VAL, "samples": 1}
    with pytest.raises(tsds.InputError, match=words) as caught:
        tsds.value(**{**good, **change})
    assert "\n" not in str(caught.value)
