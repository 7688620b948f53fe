"""Which cut the check on the target recommends, given what fine-tuning finds."""

import dataclasses
import types

import numpy as np
import pytest
from datasets import Dataset

from tsds_jax.data import TextData
from tsds_jax.finetuning.temperature import at_best_temperature
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline import target_check as module
from tsds_jax.pipeline.target_check import CheckedCut, errors_needed, mean_and_error, target_check
from tsds_jax.runtime.folder import keep_nothing
from tsds_jax.selection import Limits
from tsds_jax.selection.choice import Choice

ROWS, HELD = 100, 400


def data(rows: int) -> TextData:
    labels = (np.arange(rows) % 2).astype(np.int32)
    table = Dataset.from_dict({"text": ["a"] * rows, "label": ["neg", "pos"] * (rows // 2)})
    return TextData(table, ["a"] * rows, labels, ("neg", "pos"), ("text",), "label")


def logits(gain: float, seed: int, removed: int) -> np.ndarray:
    noise = np.random.default_rng(5).normal(size=HELD)  # what all models find hard
    return 1.0 + gain + 1.5 * noise + 0.1 * np.random.default_rng([seed, removed]).normal(size=HELD)


@dataclasses.dataclass
class Tuned:
    probabilities: np.ndarray
    truncated: int = 0
    seconds: float = 0.0


def chosen(index, largest=50, values=None, crossed=()):
    """A cut of a curve with every fifth, in the order of values: of each row its number, if not given."""

    def order(values):
        return Limits.none(data(ROWS).labels).removal_order(values)

    curve = types.SimpleNamespace(removed=np.arange(0, largest + 1, 5))
    values = np.arange(ROWS, dtype=float) if values is None else values
    return Choice(order(values), curve, "argmax", index, 0, tuple(map(order, crossed)))


def checked(monkeypatch, gain, *, seeds=2, index=20, largest=50, sureness=1.0):
    """The check where a model without so many rows is right by this much more, on average over rows.

    That model is besides so many times as sure of all it says.
    """
    calls = []

    def finetune(encoder, train, *, test, options, progress):
        calls.append((len(train), options.seed, options.steps))
        logit = logits(gain[ROWS - len(train)], options.seed, ROWS - len(train))
        own = 1 / (1 + np.exp(-logit * (1 if len(train) == ROWS else sureness)))
        probability = np.stack([1 - own, own], 1)
        flipped = test.labels == 0
        probability[flipped] = probability[flipped, ::-1]
        return Tuned(probability)

    monkeypatch.setattr(module, "finetune", finetune)
    settings = SelectOptions(check_seeds=seeds, check_steps=7)
    how = (chosen(index, largest), None, FineTuneOptions(seed=3, steps=7), settings)
    found = target_check(None, data(ROWS), data(HELD), *how, keep=keep_nothing)
    return found, calls


def test_it_trains_at_half_the_index_at_it_at_twice_and_on_all_by_the_same_seeds(monkeypatch):
    found, calls = checked(monkeypatch, {0: 0, 10: 0, 20: 0, 40: 0})
    assert calls == [(rows, seed, 7) for seed in (3, 4) for rows in (100, 90, 80, 60)]
    assert [cut.removed for cut in found.cuts] == [10, 20, 40]


def test_it_checks_cuts_of_the_curve_alone(monkeypatch):
    found, _ = checked(monkeypatch, {0: 0, 5: 0, 15: 0, 30: 0}, index=15, largest=30)
    assert [cut.removed for cut in found.cuts] == [5, 15, 30]
    found, _ = checked(monkeypatch, {0: 0, 5: 0, 10: 0}, index=5, largest=30)
    assert [cut.removed for cut in found.cuts] == [5, 10]


def test_a_long_fine_tuning_is_checked_on_the_share_of_the_rows_that_keeps_its_passes(monkeypatch):
    seen = []

    def finetune(encoder, train, *, test, options, progress):
        seen.append((train.origin.tolist(), options.seed, options.steps))
        return Tuned(np.full((HELD, 2), 0.5))

    monkeypatch.setattr(module, "finetune", finetune)
    monkeypatch.setattr(module, "_FEWEST", 10)
    values = np.random.default_rng(1).permutation(ROWS).astype(float)
    options = FineTuneOptions(batch_size=10, epochs=3.0)  # 30 steps
    how = (chosen(20, values=values), None, options, SelectOptions(check_seeds=2, check_steps=6))
    found = target_check(None, data(ROWS), data(HELD), *how, keep=keep_nothing)
    assert (found.rows, found.steps) == (20, 6)
    assert [(len(rows), seed, steps) for rows, seed, steps in seen] == [
        (rows, seed, 6) for seed in (0, 1) for rows in (20, 18, 16, 12)
    ]
    for (everything, *_), *cuts in (seen[:4], seen[4:]):
        for (rows, *_), cut in zip(cuts, (10, 20, 40), strict=True):
            assert rows == [row for row in everything if values[row] >= cut]
    assert seen[0][0] != seen[4][0]


def test_no_check_is_longer_than_the_fine_tuning(monkeypatch):
    calls = []

    def finetune(encoder, train, *, test, options, progress):
        calls.append((len(train), options.steps))
        return Tuned(np.full((HELD, 2), 0.5))

    monkeypatch.setattr(module, "finetune", finetune)
    how = (chosen(20), None, FineTuneOptions(batch_size=10, epochs=1.0), SelectOptions(check_seeds=1))
    assert target_check(None, data(ROWS), data(HELD), *how, keep=keep_nothing).steps == 10
    assert calls == [(100, 10), (90, 10), (80, 10), (60, 10)]


def test_the_smallest_cut_that_holds_up_is_recommended(monkeypatch):
    assert checked(monkeypatch, {0: 0, 10: -0.1, 20: 0.2, 40: 0.5})[0].recommended == 20
    assert checked(monkeypatch, {0: 0, 10: 0.3, 20: 0.2, 40: 0.5})[0].recommended == 10
    assert checked(monkeypatch, {0: 0, 10: -0.1, 20: -0.1, 40: 0.5})[0].recommended == 40


def test_no_cut_is_recommended_where_none_holds_up(monkeypatch):
    found, _ = checked(monkeypatch, {0: 0, 10: -0.1, 20: -0.2, 40: -0.2})
    assert found.recommended == 0
    assert str(found).endswith("So no cut holds up.")


def test_a_model_that_is_only_surer_is_no_better(monkeypatch):
    found, _ = checked(monkeypatch, {0: 0, 10: 0, 20: 0, 40: 0}, sureness=3.0)
    assert all(abs(cut.difference) < 0.01 for cut in found.cuts)


def test_the_best_temperature_undoes_any_other_and_beats_it():
    labels = np.random.default_rng(0).integers(0, 3, 500)
    logit = np.random.default_rng(1).normal(size=(500, 3)) + 2 * np.eye(3)[labels]

    def at(power):
        return np.exp(power * logit) / np.exp(power * logit).sum(1, keepdims=True)

    def likelihood(probability):
        return np.log(probability[np.arange(500), labels]).mean()

    best = at_best_temperature(at(1.0), labels)
    for power in (0.2, 0.5, 2.0, 3.0):
        np.testing.assert_allclose(at_best_temperature(at(power), labels), best, atol=1e-3)
        assert likelihood(best) > likelihood(at(power))
    assert (best.argmax(1) == at(1.0).argmax(1)).all()
    certain = at_best_temperature(np.eye(3)[labels], labels)
    assert np.isfinite(certain).all()


def test_no_cut_exceeds_the_largest_and_cuts_that_are_alike_train_once(monkeypatch):
    found, calls = checked(monkeypatch, {0: 0, 5: 0, 10: 0}, index=5, largest=50, seeds=1)
    assert [cut.removed for cut in found.cuts] == [5, 10]
    assert len(calls) == 3
    found, _ = checked(monkeypatch, {0: 0, 10: 0, 20: 0, 25: 0}, largest=25)
    assert [cut.removed for cut in found.cuts] == [10, 20, 25]


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_difference_is_the_mean_over_rows_and_seeds_of_paired_log_likelihoods(monkeypatch, seeds):
    gain = {0: 0, 10: 0.0, 20: 0.4, 40: 0.0}
    found = checked(monkeypatch, gain, seeds=seeds)[0].cuts[1]
    labels = np.zeros(HELD, int)

    def surprise(cut, seed):
        own = 1 / (1 + np.exp(-logits(gain[cut], seed, cut)))
        return -np.log(at_best_temperature(np.stack([own, 1 - own], 1), labels)[:, 0])

    draws = np.array([surprise(0, seed) - surprise(20, seed) for seed in range(3, 3 + seeds)])
    assert found.difference == pytest.approx(draws.mean())
    rows = draws.mean(0).std(ddof=1) / np.sqrt(HELD)
    over = draws.mean(1).std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0
    assert found.stderr == pytest.approx(np.hypot(rows, over))


def test_words_name_every_cut_with_its_error_and_who_judged():
    found = module.TargetCheck((CheckedCut(10, 0.002, 0.001, 0.0, 1.5),), 2, 1000, 50, 10, True, 0, 20)
    assert str(found).startswith(
        "By the curve alone the rule would remove 20 rows. Checked by fine-tuning the model itself on 1,000 rows"
    )
    assert "on 1,000 rows for 50 steps by 2 seeds" in str(found)
    assert "10 rows removed +2.0 ± 1.0 (1.5 needed)" in str(found)
    assert "flatter" not in str(found)
    assert "on validation rows in" in str(found)
    assert "on half of the validation rows in" in str(found._replace(seeds=1))
    assert str(found).endswith("So the smallest cut that holds up is 10 rows.")
    one = str(found._replace(cuts=(CheckedCut(1, 0.002, 0.001, 0.0, 1.5),), steps=1, recommended=1))
    assert "for 1 step by 2 seeds" in one
    assert "): 1 row removed +2.0" in one
    assert one.endswith("So the smallest cut that holds up is 1 row.")
    alone = str(found._replace(seeds=1, crossed=False))
    assert "by 1 seed, whose own luck is not in the error (" in alone
    assert "validation rows, which valued the rows too and so flatter it, in thousandths" in alone


def test_each_seed_removes_by_one_part_of_the_validation_rows_and_is_judged_by_the_other(monkeypatch):
    rng = np.random.default_rng(0)
    crossed, folds, trained = [rng.permutation(ROWS).astype(float) for _ in range(2)], np.arange(HELD) % 2, []

    def finetune(encoder, train, *, test, options, progress):
        trained.append(set(train.origin.tolist()))
        own = np.full(HELD, 0.5)
        if len(train) < ROWS:
            # Better on the rows that are to judge, worse on the others, and not alike on any two.
            judge = folds == (options.seed - 3) % 2
            own = np.where(judge, 0.6, 0.4) + 0.05 * np.sin(np.arange(HELD))
        flipped = test.labels == 0
        probability = np.stack([1 - own, own], 1)
        probability[flipped] = probability[flipped, ::-1]
        return Tuned(probability, truncated=len(train))

    monkeypatch.setattr(module, "finetune", finetune)
    settings = SelectOptions(check_seeds=2, check_steps=7)
    how = (chosen(20, crossed=crossed), folds, FineTuneOptions(seed=3, steps=7), settings)
    found = target_check(None, data(ROWS), data(HELD), *how, keep=keep_nothing)
    for seed, values in enumerate(crossed):
        for place, cut in enumerate((0, 10, 20, 40)):
            assert trained[4 * seed + place] == set(np.flatnonzero(values >= cut).tolist())
    assert found.crossed
    assert found.truncated == ROWS
    assert found.recommended == 10
    assert all(cut.difference > 0 for cut in found.cuts)


def test_a_unit_too_large_for_a_cut_is_passed_over_and_no_model_is_trained_twice_on_the_same_rows(monkeypatch):
    units = np.maximum(np.arange(ROWS) - 59, 0)
    first, last = np.arange(ROWS, dtype=float), np.r_[np.full(60, 99.0), np.arange(40.0)]
    orders = [Limits(data(ROWS).labels, units, np.zeros(ROWS, bool)).removal_order(some) for some in (first, last)]
    trained = []

    def finetune(encoder, train, *, test, options, progress):
        trained.append(sorted(set(range(ROWS)) - set(train.origin.tolist())))
        own = 0.5 + 0.002 * (ROWS - len(train)) + 0.01 * np.sin(np.arange(HELD))
        flipped = test.labels == 0
        probability = np.stack([1 - own, own], 1)
        probability[flipped] = probability[flipped, ::-1]
        return Tuned(probability)

    monkeypatch.setattr(module, "finetune", finetune)
    choice = chosen(15)._replace(crossed=tuple(orders))
    how = (choice, np.arange(HELD) % 2, FineTuneOptions(seed=3, steps=7), SelectOptions(check_seeds=2, check_steps=7))
    found = target_check(None, data(ROWS), data(HELD), *how, keep=keep_nothing)
    assert trained[:4] == [[], *(list(range(60, 60 + cut)) for cut in (5, 15, 30))]
    assert trained[4:] == trained[:4]
    assert found.recommended == 5


@pytest.mark.slow
@pytest.mark.parametrize(("luck", "most"), [(0.0, 0.16), (1.0, 0.16), (2.0, 0.19)])
def test_of_three_useless_cuts_some_holds_up_in_a_sixth_of_the_checks_at_most(luck, most):
    """Two seeds, each judged by its half of the rows; ``luck`` of a model is in units of the error from rows."""
    rng = np.random.default_rng(0)
    half, checks, passed = 100, 1500, 0
    for _ in range(checks):
        models = rng.normal(size=(2, 4)) * luck / np.sqrt(2 * half)
        differences = []
        shared = rng.normal(size=(2, half))  # of the model with all rows, which all cuts are compared with
        for cut in range(3):
            paired = np.full((2, 2 * half), np.nan)
            for seed in range(2):
                noise = (rng.normal(size=half) - shared[seed]) / np.sqrt(2)
                paired[seed, seed * half : (seed + 1) * half] = noise + models[seed, cut] - models[seed, 3]
            mean, error, freedom = mean_and_error(paired)
            differences.append(mean > errors_needed(3, freedom) * error)
        passed += any(differences)
    assert passed / checks < most + 0.02


def test_one_row_says_nothing_whatever_it_says():
    for paired, units in ((np.array([[0.7]]), None), (np.array([[0.7, 0.8, np.nan]]), np.array([4, 4, 5]))):
        mean, error, freedom = mean_and_error(paired, units)
        assert mean <= errors_needed(1, freedom) * error


@pytest.mark.parametrize("halves", [False, True])
def test_validation_rows_that_stand_twice_make_no_check_surer(monkeypatch, halves):
    gain = np.random.default_rng(0).normal(0.3, 1, HELD // 2)
    crossed = [np.random.default_rng(seed).permutation(ROWS).astype(float) for seed in range(2)]

    def check(rows, units):
        def finetune(encoder, train, *, test, options, progress):
            own = 1 / (1 + np.exp(-(1 + (ROWS - len(train)) / ROWS * gain + 0.1 * options.seed * gain**2)[rows]))
            probability = np.stack([1 - own, own], 1)
            flipped = test.labels == 0
            probability[flipped] = probability[flipped, ::-1]
            return Tuned(probability)

        monkeypatch.setattr(module, "finetune", finetune)
        settings, folds = SelectOptions(check_seeds=2, check_steps=7), rows % 2 if halves else None
        how = (chosen(20, crossed=crossed), folds, FineTuneOptions(seed=3, steps=7), settings)
        return target_check(None, data(ROWS), data(len(rows)), *how, keep=keep_nothing, units=units).cuts

    every = np.arange(HELD // 2)
    twice = np.repeat(every, 2)
    for once, copied, apart in zip(check(every, None), check(twice, 1000 - twice), check(twice, None), strict=True):
        np.testing.assert_allclose(copied, once, rtol=1e-6)
        assert apart.stderr < once.stderr
