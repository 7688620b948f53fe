"""`value` as a user meets it: arrays in, values out, and one clear line for what cannot be used."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from sklearn.metrics import roc_auc_score

import tsds_jax as tsds
from tsds_jax.games import TableGame
from tsds_jax.valuation import default_subset_size, source_game
from tsds_jax.valuation.sampling import game_identity

RNG = np.random.default_rng(0)
DIRECTION = RNG.normal(size=6)
X = RNG.normal(size=(160, 6)).astype(np.float32)
Y = (X @ DIRECTION + 0.3 * RNG.logistic(size=160) > 0).astype(int)
X_VAL = RNG.normal(size=(120, 6)).astype(np.float32)
Y_VAL = (X_VAL @ DIRECTION + 0.3 * RNG.logistic(size=120) > 0).astype(int)

# One game and one size of call where a test does not need its own: they share one compilation.
COMMON = {"utility": "probability", "subset_size": 40}


@pytest.mark.slow
def test_flipped_labels_get_the_lowest_values():
    flipped = np.arange(160) % 8 == 0
    noisy = np.where(flipped, 1 - Y, Y)
    v = tsds.value(X, noisy, X_VAL, Y_VAL, **COMMON, samples=64)
    assert roc_auc_score(flipped, -v.values) > 0.7
    assert v.reliability > 0.7
    assert v.split_half > 0.7
    chains = tsds.value(X, noisy, X_VAL, Y_VAL, **COMMON, samples=20, estimator="permutation")
    assert (chains.counts >= 20).all()


def test_a_seed_decides_everything_and_label_type_and_array_library_nothing():
    def run(seed=0, x=X, y=Y, y_val=Y_VAL):
        return tsds.value(x, y, X_VAL, y_val, **COMMON, samples=16, seed=seed).values

    plain = run()
    np.testing.assert_array_equal(run(), plain)
    np.testing.assert_array_equal(run(x=jnp.asarray(X), y=jnp.asarray(Y)), plain)
    names = np.array(["bad", "good"])
    np.testing.assert_array_equal(run(y=names[Y].tolist(), y_val=names[Y_VAL].astype(object)), plain)
    assert not np.array_equal(run(seed=1), plain)


@pytest.mark.slow
def test_reliability_is_the_agreement_of_two_seeds():
    one, two = (
        tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=20, seed=seed, estimator="permutation") for seed in (1, 2)
    )
    assert np.corrcoef(one.values, two.values)[0, 1] == pytest.approx(one.reliability, abs=0.12)


def test_what_a_coalition_adds_to_all_points_alike_makes_no_ranking_less_reliable():
    x, y = X[:60], X[:60] @ DIRECTION + RNG.normal(size=60)
    how = {"source": "ridge", "utility": "neg_mean_squared_error", "subset_size": 60}
    runs = [tsds.value(x, y, X_VAL, X_VAL @ DIRECTION, **how, samples=48, seed=seed) for seed in range(12)]
    truth = tsds.value(x, y, X_VAL, X_VAL @ DIRECTION, **how, samples=1000, seed=99)
    assert truth.reliability > 0.98
    found = np.mean([np.corrcoef(run.values, truth.values)[0, 1] ** 2 for run in runs])
    stated = np.mean([run.reliability for run in runs])
    assert stated == pytest.approx(found, abs=0.04)
    by_errors_alone = np.mean([dataclasses.replace(run, moments=None).reliability for run in runs])
    assert by_errors_alone < stated - 0.04


def test_a_semivalues_reliability_is_its_own():
    noisy = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=20)
    small, large = noisy.semivalue("beta", 16, 1), noisy.semivalue("beta", 1, 16)
    assert len({noisy.split_half, small.split_half, large.split_half}) == 3
    assert len({noisy.reliability, small.reliability, large.reliability}) == 3
    again = tsds.Valuation.from_arrays(large.arrays())
    assert (again.split_half, again.reliability) == (large.split_half, large.reliability)


@pytest.mark.slow
def test_exact_and_permutation_agree():
    keep = np.r_[0:10]
    how = {"utility": "log_likelihood", "subset_size": 6}
    exact = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, estimator="exact", **how)
    sampled = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, samples=400, truncation=0.0, estimator="permutation", **how)
    assert exact.reliability == 1
    assert np.abs((sampled.values - exact.values) / sampled.stderr).max() < 4


@pytest.mark.slow
@pytest.mark.parametrize(("source", "utility"), [("logistic", "accuracy"), ("ridge", "log_likelihood")])
def test_add_one_and_permutation_agree(source, utility):
    how = {"source": source, "utility": utility, "subset_size": 40, "truncation": 0.0}
    chains = tsds.value(X, Y, X_VAL, Y_VAL, estimator="permutation", samples=300, **how)
    rounds = tsds.value(X, Y, X_VAL, Y_VAL, estimator="add_one", samples=300, **how)
    assert rounds.fits == (900 if source == "logistic" else 300)  # with two to check a contribution
    assert rounds.unconverged == 0
    error = (rounds.values - chains.values) / np.hypot(rounds.stderr, chains.stderr)
    assert np.abs(error).max() < 4.5
    assert np.sqrt(np.mean(error**2)) < 1.3


def test_progress_counts_up_to_all_marginals():
    seen = []
    tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=40, progress=seen.append)
    assert [event.stage for event in seen] == ["value"] * len(seen)
    done = [event.done for event in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total == 160 * 40


def test_a_table_that_is_of_no_game_or_has_no_rows_is_refused():
    with pytest.raises(tsds.InputError, match="a table of 7 utilities is of no game"):
        tsds.value_game(TableGame(jnp.arange(7.0)))
    with pytest.raises(tsds.InputError, match="a TableGame has no validation rows to split its values by"):
        tsds.value_game(TableGame(jnp.arange(8.0)), row_groups=[0, 1])


def test_what_was_stored_before_it_said_whether_to_correct_is_corrected_as_it_was():
    run = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=48)
    stored = run.arrays()
    del stored["correct"]
    assert tsds.Valuation.from_arrays(stored).correct
    left = {**stored, "corrected": np.asarray(False)}
    assert not tsds.Valuation.from_arrays(left).semivalue("shapley").corrected


def test_a_game_whose_number_of_classes_is_traced_is_enumerated():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Own(TableGame):
        classes: int = 2

    utilities = jnp.arange(8.0) ** 2
    found = [tsds.value_game(game, estimator="exact").values for game in (Own(utilities), TableGame(utilities))]
    np.testing.assert_array_equal(*found)


def test_a_semivalue_of_a_semivalue_is_that_of_the_run():
    # Of a size that too few checks were of the values are not corrected; what is taken from them is again.
    run = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=48)
    small = run.truncated(1)
    assert run.corrected
    assert not small.corrected
    again = small.semivalue("shapley")
    assert again.corrected
    np.testing.assert_array_equal(again.values, run.semivalue("shapley").values)
    np.testing.assert_array_equal(again.stderr, run.semivalue("shapley").stderr)
    left = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=48, correct=False)
    assert not left.truncated(40).corrected


@pytest.mark.slow
def test_one_run_gives_other_semivalues_and_smaller_subsets():
    keep = np.r_[0:10]
    data = (X[keep], Y[keep], X_VAL, Y_VAL)
    exact = tsds.value(*data, utility="probability", estimator="exact", subset_size=10)
    run = tsds.value(*data, utility="probability", subset_size=10, samples=1500)
    for ask in (
        lambda v: v.semivalue("shapley"),
        lambda v: v.semivalue("beta", 16, 1),
        lambda v: v.semivalue("banzhaf"),
        lambda v: v.truncated(4),
    ):
        expected, found = ask(exact), ask(run)
        assert not expected.stderr.any()
        assert found.semivalue_name == expected.semivalue_name
        assert np.abs((found.values - expected.values) / found.stderr).max() < 4.5
    np.testing.assert_allclose(run.semivalue("shapley").values, run.values, atol=1e-12)
    alone = tsds.value(*data, utility="probability", estimator="exact", subset_size=4)
    np.testing.assert_allclose(exact.truncated(4).values, alone.values, atol=1e-9)


@pytest.mark.slow
def test_banzhaf_estimators_agree_with_enumeration():
    keep = np.r_[0:10]
    data = (X[keep], Y[keep], X_VAL, Y_VAL)
    exact = tsds.value(*data, utility="probability", estimator="exact", subset_size=10).semivalue("banzhaf")
    for estimator, samples in (("banzhaf", 1500), ("banzhaf_add_one", 600)):
        found = tsds.value(*data, utility="probability", estimator=estimator, samples=samples)
        assert found.semivalue_name == "banzhaf"
        assert np.abs((found.values - exact.values) / found.stderr).max() < 4.5


def test_sampling_stops_at_the_wanted_reliability_or_at_the_budget_and_says_which():
    enough = tsds.value(X, Y, X_VAL, Y_VAL, reliability=0.8, samples=2000, **COMMON)
    assert enough.stopped == "reliability"
    assert enough.split_half >= 0.8
    assert enough.counts.max() < 1000
    both = tsds.value(X, Y, X_VAL, Y_VAL, reliability=0.8, top_overlap=0.85, samples=4000, **COMMON)
    assert both.stopped == "reliability"
    assert both.counts.max() >= enough.counts.max()
    short = tsds.value(X, Y, X_VAL, Y_VAL, reliability=0.999, samples=48, **COMMON)
    assert short.stopped == "budget"
    assert tsds.value(X, Y, X_VAL, Y_VAL, samples=16, **COMMON).stopped == "samples"


def test_a_valuation_survives_being_saved(tmp_path):
    v = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=16, per_validation_point=True)
    np.savez(tmp_path / "v.npz", **v.arrays())
    with np.load(tmp_path / "v.npz", allow_pickle=False) as stored:
        again = tsds.Valuation.from_arrays(dict(stored))
    assert again.summary() == v.summary()
    np.testing.assert_array_equal(again.semivalue("beta", 4, 1).values, v.semivalue("beta", 4, 1).values)
    np.testing.assert_array_equal(again.by_row, v.by_row)


@pytest.mark.slow
def test_an_interval_is_students_about_the_value():
    short, exact = (tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=samples) for samples in (12, 400))
    low, high = short.interval(0.9)
    np.testing.assert_allclose((low + high) / 2, short.values)
    assert ((high - low) / 2 > 1.645 * short.stderr).all()
    assert np.mean((short.interval()[0] < exact.values) & (exact.values < short.interval()[1])) > 0.85
    np.testing.assert_allclose(short.semivalue("shapley").freedom, short.freedom)
    groups = np.arange(len(X))[::-1]
    np.testing.assert_array_equal(short.for_members(groups).interval()[1], short.interval()[1][::-1])
    normal = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=12, estimator="permutation")
    np.testing.assert_allclose(normal.interval()[1] - normal.values, 1.95996 * normal.stderr, rtol=1e-4)
    with pytest.raises(tsds.InputError, match="level is 95"):
        short.interval(95)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["add_one", "permutation", "exact", "banzhaf_add_one"])
def test_values_split_by_validation_row_add_up(estimator):
    keep = np.r_[0:10]
    how = {"estimator": estimator, "samples": 24, "utility": "probability", "correct": False}
    v = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, per_validation_point=True, **how)
    assert v.by_row.shape == (10, 120)
    np.testing.assert_allclose(v.by_row.sum(1), v.values, atol=1e-6)
    np.testing.assert_allclose(v.values, tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, **how).values, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["add_one", "permutation", "exact"])
def test_values_split_by_groups_of_rows_are_those_of_each_groups_rows_alone(estimator):
    keep, groups = np.r_[0:10], np.arange(120) % 3
    how = {"estimator": estimator, "samples": 24, "utility": "probability", "truncation": 0, "correct": False}
    v = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, row_groups=groups, **how)
    assert v.by_row.shape == (10, 3)
    np.testing.assert_allclose(v.by_row.sum(1), v.values, atol=1e-6)
    alone = tsds.value(X[keep], Y[keep], X_VAL, Y_VAL, weight_val=groups == 1, **how)
    np.testing.assert_allclose(3 * v.by_row[:, 1], alone.values, atol=1e-6)


@pytest.mark.parametrize("groups", [np.arange(119), np.full(120, -1), np.zeros(120), np.full(120, 120), [[0], [1, 2]]])
def test_groups_of_rows_that_cannot_be_used_are_refused(groups):
    with pytest.raises(tsds.InputError, match="row_groups must be one whole number from 0 for each of 120"):
        tsds.value(X, Y, X_VAL, Y_VAL, row_groups=groups)
    with pytest.raises(tsds.InputError, match="both split the values"):
        tsds.value(X, Y, X_VAL, Y_VAL, row_groups=np.zeros(120, int), per_validation_point=True)


def test_a_bias_of_sizes_that_few_checks_are_of_is_not_taken_away():
    v = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=64)
    assert v.corrected
    assert v.truncated(30).corrected
    few = v.truncated(1)
    assert np.count_nonzero(v.checks[:, 0] == 0) < 8
    assert not few.corrected
    assert np.isfinite(few.stderr).any()
    np.testing.assert_array_equal(few.values, v.moments.known(few.weights)[0])
    one = dataclasses.replace(v, checks=v.checks[v.checks[:, 0] > 0][:20]).truncated(1)
    assert np.isnan(one.bias_stderr)
    assert np.isfinite(one.stderr).any()


@pytest.mark.slow
def test_a_run_that_splits_its_values_measures_the_same_bias():
    plain = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=16)
    split = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=16, row_groups=np.arange(120) % 2)
    assert split.bias == pytest.approx(plain.bias, abs=1e-6)
    np.testing.assert_allclose(split.values, plain.values, atol=1e-6)


def test_the_measured_bias_is_added_to_the_values_unless_told_not_to():
    corrected = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=32)
    plain = tsds.value(X, Y, X_VAL, Y_VAL, **COMMON, samples=32, correct=False)
    assert corrected.corrected
    assert not plain.corrected
    assert corrected.bias == plain.bias != 0
    np.testing.assert_allclose(corrected.values, plain.values + plain.bias, atol=1e-12)
    np.testing.assert_array_equal(corrected.ranking, plain.ranking)


@pytest.mark.slow
def test_a_kernel_game_of_dot_products_is_ridge_without_an_intercept():
    how = {"utility": "probability", "subset_size": 20, "samples": 16}
    kernel = tsds.value(X @ X.T, Y, X_VAL @ X.T, Y_VAL, source="kernel", **how)
    ridge = tsds.value(X, Y, X_VAL, Y_VAL, source="ridge", intercept="none", **how)
    np.testing.assert_allclose(kernel.values, ridge.values, atol=1e-5)


def test_regression_values_find_wrong_targets():
    target = X @ DIRECTION
    wrong = np.arange(160) % 10 == 0
    noisy = np.where(wrong, target + 8, target)
    for utility in ("neg_mean_squared_error", "r2"):
        v = tsds.value(X, noisy, X_VAL, X_VAL @ DIRECTION, source="ridge", utility=utility, subset_size=40, samples=64)
        assert roc_auc_score(wrong, -v.values) > 0.8


def test_any_game_can_be_valued():
    voting = TableGame(jnp.asarray([0, 0, 0, 1, 0, 1, 1, 1], jnp.float32))
    found = tsds.value_game(voting, samples=2000, seed=1)
    assert found.source == "TableGame"
    np.testing.assert_allclose(found.values, 1 / 3, atol=4 * found.stderr.max())


@pytest.mark.slow
def test_antithetic_chains_estimate_the_same_values():
    how = {"estimator": "permutation", "utility": "probability", "subset_size": 20, "truncation": 0.0, "samples": 80}
    plain, pairs = (tsds.value(X, Y, X_VAL, Y_VAL, antithetic=antithetic, **how) for antithetic in (False, True))
    error = (plain.values - pairs.values) / np.hypot(plain.stderr, pairs.stderr)
    assert np.sqrt(np.mean(error**2)) < 1.3
    assert np.mean(pairs.stderr) < np.mean(plain.stderr)


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
        ({"y_train": [*Y[:9], pandas.NA, *Y[10:]]}, "y_train has no label at row 9"),
        ({"y_train": with_entry(Y, 9, 0.5)}, "y_train is 0.5 at row 9: labels are integers or strings"),
        ({"y_train": with_entry(Y, 9, np.nan)}, "y_train is nan at row 9"),
        ({"y_train": with_entry(Y, 9, np.inf)}, "y_train is inf at row 9"),
        ({"y_train": [*["a", "b"] * 79, "a", " "]}, "y_train is blank at row 159"),
        ({"y_train": [*[0, 1] * 79, 0, "a"]}, "y_train mixes strings and integers, first at row 159"),
        ({"y_train": with_entry(Y, 9, "x")}, "y_train mixes strings and integers, first at row 9"),
        ({"y_val": with_entry(Y_VAL, 5, 7)}, "y_val is 7 at row 5, which y_train lacks"),
        ({"y_val": np.array(["no", "yes"])[Y_VAL]}, "y_val holds strings and y_train integers"),
        ({"y_train": [[0], [1, 2]] * 80}, "y_train has lists of labels: give one label a row"),
        (
            {"y_train": pandas.Series([np.array([0]), np.array([1, 2])] * 80)},
            r"y_train is '\[0\]' at row 0: labels are",
        ),
        ({"y_train": [5, 2**63, *Y[2:]]}, "y_train is .* at row 1, too large for a number: give labels as strings"),
        ({"y_train": [5, 2**64, *Y[2:]]}, "y_train is 18446744073709551616 at row 1, too large for a number"),
        ({"y_train": with_entry(Y, 9, 1e19)}, "y_train is 1e.19 at row 9, too large for a number"),
        ({"y_train": with_entry(Y, 9, 2.0**53)}, "y_train is 9007199254740992.0 at row 9, too large for a number"),
        (
            {"y_train": np.float32(2**24) + Y.astype(np.float32)},
            "y_train is 16777216.0 at row 0, too large for a number",
        ),
        ({"y_train": np.uint64(2**63) + Y.astype(np.uint64)}, "y_train is .* at row 0, too large for a number"),
        (
            {"source": "ridge", "utility": "r2", "intercept": "none", "y_train": 1.7e9 + Y, "y_val": 1.7e9 + Y_VAL},
            "y differs by 0.*, of which float32 keeps little at 1.7e.09: take the same number off y and y_val",
        ),
        (
            {"source": "ridge", "utility": "neg_mean_squared_error", "y_val": 1.7e9 + Y_VAL},
            "y_val differs by 0.*, of which float32 keeps little",
        ),
        ({"subset_size": 161}, "subset_size 161 is more than the 160 training points: give at most 160"),
        ({"subset_size": 0}, "subset_size is 0: give a whole number of at least 1"),
        ({"samples": 1.5}, "samples is 1.5: give a whole number"),
        ({"samples": True}, "samples is True"),
        ({"C": -1.0}, "C is -1.0: give a number"),
        ({"truncation": -0.1}, "truncation is -0.1"),
        ({"truncation": np.inf}, "truncation is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"utility": "f1"}, "utility 'f1' is unknown: use one of accuracy, "),
        ({"source": "svm"}, "source 'svm' is unknown: use one of logistic, ridge, kernel"),
        ({"utility": "r2"}, "utility 'r2' is unknown: use one of accuracy, "),
        ({"source": "ridge", "utility": "r2", "y_val": with_entry(Y_VAL, 3, np.nan)}, "y_val is nan at row 3"),
        ({"source": "ridge", "utility": "r2", "y_train": ["a"] * 160}, "y_train holds no numbers"),
        ({"source": "kernel"}, r"k_train has shape \[160, 6\] for 160 points"),
        ({"source": "kernel", "intercept": "penalised"}, "intercept 'penalised' is not for source 'kernel'"),
        ({"source": "kernel", "intercept": "maybe"}, "intercept 'maybe' is unknown"),
        ({"intercept": "maybe"}, "intercept 'maybe' is unknown: use one of free, penalised, none"),
        ({"reliability": 1.0}, "reliability is 1.0: give a number from 0 to 0.999"),
        ({"top_overlap": 0.5}, "top_overlap is given without reliability: give both"),
        ({"sample_weight": np.ones(3)}, r"sample_weight has shape \[3\] for 160 rows"),
        ({"weight_val": -np.ones(120)}, "weight_val is -1.0 at row 0"),
        ({"antithetic": True}, "antithetic is for chains, not for 'add_one'"),
        ({"estimator": "banzhaf", "subset_size": 9}, "subset_size 9 is not for 'banzhaf'"),
        ({"estimator": "banzhaf", "per_validation_point": True}, "per_validation_point is not for 'banzhaf'"),
        (
            {"utility": "class_wise", "per_validation_point": True},
            "utility 'class_wise' is no sum over validation rows",
        ),
        ({"estimator": "magic"}, "estimator 'magic' is unknown"),
        ({"estimator": "exact"}, "160 points are too many to enumerate"),
        ({"groups": np.arange(160) // 4, "subset_size": 41}, "subset_size 41 is more than the 40 groups: give at most"),
        ({"groups": np.arange(160) // 4, "estimator": "exact"}, "40 groups are too many to enumerate"),
    ],
)
def test_bad_input_gets_one_line_that_names_it_and_the_way_out(change, words):
    good = {"x_train": X, "y_train": Y, "x_val": X_VAL, "y_val": Y_VAL, "samples": 1}
    with pytest.raises(tsds.InputError, match=words) as caught:
        tsds.value(**{**good, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["logistic", "ridge"])
def test_a_column_far_from_zero_keeps_the_digits_that_float32_has_not(source):
    how = {"source": source, "utility": "log_likelihood", "samples": 20, "subset_size": 20}
    offset = 2.0**28 * np.arange(1, 7)  # float32 steps by 16 and more there
    near = tsds.value(np.asarray(X, np.float64), Y, np.asarray(X_VAL, np.float64), Y_VAL, **how)
    far = tsds.value(X + offset, Y, X_VAL + offset, Y_VAL, **how)
    np.testing.assert_allclose(far.values, near.values, atol=1e-4 * np.abs(near.values).max())


def test_a_column_far_from_zero_is_measured_by_its_own_spread():
    x, x_val = np.asarray(X, np.float64), np.asarray(X_VAL, np.float64)
    offset = np.array([2.0**36, 0, 0, 0, 0, 0])
    game = source_game(x + offset, Y, x_val + offset, Y_VAL)
    np.testing.assert_allclose(game.ridge, source_game(x, Y, x_val, Y_VAL).ridge)


@pytest.mark.parametrize("y_val", [[250_000, 250_001], [250_000, 250_000], [250_000, 900_000]])
def test_few_validation_targets_that_are_close_are_judged_by_errors_as_large_as_the_training_targets(y_val):
    x = np.linspace(-1, 1, 12)[:, None]
    prices = 550_000 + 450_000 * x[:, 0]
    how = {"source": "ridge", "utility": "neg_mean_squared_error", "samples": 8}
    assert np.isfinite(tsds.value(x, prices, x[:2], y_val, **how).values).all()


@pytest.mark.slow
def test_whole_numbers_beyond_those_of_float32_are_told_apart():
    far = 2**40 + np.arange(12)[:, None]
    y = (np.arange(12) > 5).astype(int)
    found = tsds.value(far, y, far[::3], y[::3], samples=20, utility="log_likelihood")
    near = tsds.value(far - 2**40, y, far[::3] - 2**40, y[::3], samples=20, utility="log_likelihood")
    np.testing.assert_allclose(found.values, near.values, atol=1e-4 * np.abs(near.values).max())


def test_of_a_point_that_was_never_drawn_nothing_is_known_by_row_either():
    game = source_game(X[:12], Y[:12], X_VAL, Y_VAL)
    found = tsds.value_game(game, samples=1, per_validation_point=True, seed=3)
    assert 0 < (found.counts == 0).sum() < 12
    np.testing.assert_array_equal(np.isnan(found.by_row).all(1), found.counts == 0)
    np.testing.assert_array_equal(np.isnan(found.by_row).any(1), np.isnan(found.values))


@pytest.mark.parametrize("estimator", ["add_one", "permutation", "exact", "banzhaf", "banzhaf_add_one"])
def test_a_table_of_numpys_is_valued_as_one_of_jax(estimator):
    utilities = np.random.default_rng(0).normal(size=8).astype(np.float32)
    found, wanted = (
        tsds.value_game(TableGame(table), estimator=estimator, samples=20)
        for table in (utilities, jnp.array(utilities))
    )
    np.testing.assert_array_equal(found.values, wanted.values)


def test_labels_of_unsigned_numbers_are_those_of_signed_ones():
    huge = 2**60 + np.arange(2)
    plain = tsds.value(X, huge[Y], X_VAL, huge[Y_VAL], **COMMON, samples=16)
    mixed = tsds.value(X, huge.astype(np.uint64)[Y], X_VAL, huge[Y_VAL].tolist(), **COMMON, samples=16)
    np.testing.assert_array_equal(mixed.values, plain.values)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["add_one", "permutation", "banzhaf", "banzhaf_add_one"])
def test_which_coalitions_are_drawn_does_not_hang_on_the_width_of_numbers(estimator):
    game = source_game(X[:20], Y[:20], X_VAL, Y_VAL)
    size = None if estimator.startswith("banzhaf") else 7
    narrow = tsds.value_game(game, estimator=estimator, subset_size=size, samples=3)
    with jax.enable_x64(True):
        wide = tsds.value_game(game, estimator=estimator, subset_size=size, samples=3)
    np.testing.assert_array_equal(wide.counts, narrow.counts)
    np.testing.assert_allclose(wide.values, narrow.values, atol=1e-4, equal_nan=True)


@pytest.mark.slow
def test_enumerated_values_are_split_by_as_many_rows_as_there_are():
    rows = np.resize(np.arange(len(Y_VAL)), 300)  # more than are taken at a time
    arrays = X[:6], Y[:6], X_VAL[rows], Y_VAL[rows]
    split = tsds.value(*arrays, estimator="exact", per_validation_point=True).by_row
    assert split.shape == (6, 300)
    for row in (0, 255, 256, 299):
        alone = tsds.value(*arrays, estimator="exact", weight_val=np.arange(300) == row)
        np.testing.assert_allclose(300 * split[:, row], alone.values, atol=1e-6)


@pytest.mark.parametrize("size", [2.5, True, np.nan, "3", 0, 4])
def test_a_game_is_not_valued_by_subsets_of_no_whole_number_of_players(size):
    with pytest.raises(tsds.InputError, match="subset_size"):
        tsds.value_game(TableGame(jnp.arange(8.0)), subset_size=size)


@pytest.mark.slow
def test_exact_values_are_pydvls():
    known = json.loads((Path(__file__).parent / "golden" / "pydvl.json").read_text("utf-8"))
    arrays = [np.array(known[name]) for name in ("x", "y", "x_val", "y_val")]
    exact = tsds.value(*arrays, utility="accuracy", estimator="exact").values
    np.testing.assert_allclose(exact, known["values"], atol=1e-5)
    sampled = tsds.value(*arrays, utility="accuracy", samples=1000)
    assert np.abs((sampled.values - known["values"]) / sampled.stderr).max() < 4.5


def test_what_a_checkpoint_is_known_by_takes_no_copy_of_the_game():
    game = TableGame(jnp.zeros(2**20))
    found = game_identity(game)  # what is imported on the way is not of the game
    tracemalloc.start()
    again = game_identity(game)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < game.utilities.nbytes / 4
    assert again == found
    assert game_identity(TableGame(jnp.zeros(2**20).at[-1].set(1)))["arrays"] != found["arrays"]


def test_points_of_one_value_rank_as_the_seed_draws_and_one_without_a_value_is_last():
    game = TableGame(jnp.zeros(2**8))  # where everybody is worth nothing
    one, again, other = (tsds.value_game(game, estimator="add_one", samples=16, seed=seed) for seed in (1, 1, 2))
    assert one.ranking.tolist() == again.ranking.tolist() != other.ranking.tolist()
    assert sorted(one.ranking) == list(range(8))
    known = dataclasses.replace(one, values=np.array([3.0, np.nan, 1, 2, 5, 4, 7, 6]))
    assert known.ranking.tolist() == [2, 3, 0, 5, 4, 7, 6, 1]
