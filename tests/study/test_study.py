"""`evaluate` on small files: what it writes is what its parts say, and it goes on where it stopped."""

import dataclasses
import json
import shutil
import types

import matplotlib
import numpy as np
import pytest
from datasets import DatasetDict
from sklearn.linear_model import RidgeClassifier

import tsds_jax as tsds
from tsds_jax.baselines import baseline
from tsds_jax.data import flip_labels, text_codes, without_overlap
from tsds_jax.evaluation.scores import mean_interval
from tsds_jax.runtime.folder import RunFolder
from tsds_jax.stages import evaluate_files
from tsds_jax.study import methods as module
from tsds_jax.study.summary import write_summary

QUICK = {"pca": 8, "subset_size": 40, "samples": 8, "utility": "probability", "rule": "argmax", "layer": 0}
TUNING = tsds.FineTuneOptions(steps=3, batch_size=8, max_length=16)
IMPATIENT = dataclasses.replace(TUNING, patience=1)
METHODS = ("shapley", "random", "loss", "entropy")


@pytest.fixture(scope="module")
def splits(tiny_files):
    return tsds.load_splits(tiny_files["train"], tiny_files["validation"], tiny_files["test"])


@pytest.fixture(scope="module")
def study(splits, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "one"
    how = {"methods": METHODS, "flips": (0, 0.2), "seeds": (0, 1), **QUICK}
    return tsds.evaluate({"tiny": splits}, model=tiny_model, out=out, **how)


def content(folder):
    return json.loads((folder / "evaluation.json").read_text())


@pytest.mark.slow
def test_every_method_is_scored_in_every_setting(study):
    runs = content(study)["runs"]
    assert [(run["flips"], run["seed"], run["method"]) for run in runs] == [
        (flips, seed, method) for flips in (0, 0.2) for seed in (0, 1) for method in METHODS
    ]
    assert all(("auroc" in run) == (run["flips"] > 0) for run in runs)
    assert {path.name for path in (study / "curves").iterdir()} == {"tiny-0.svg", "tiny-0.2.svg"}
    table = (study / "evaluation.md").read_text()
    assert "## tiny, 20% of the labels flipped" in table
    assert all(f"| {method} |" in table for method in METHODS)


def test_a_class_whose_last_training_row_would_be_flipped_is_named_before_any_work(splits, tiny_model, tmp_path):
    names = (*splits.train.classes, "rare")
    train, validation, test = (
        dataclasses.replace(part, classes=names, labels=np.where(np.arange(len(part)) == 0, 2, part.labels))
        for part in (splits.train, splits.validation, splits.test)
    )
    seed = next(seed for seed in range(2000) if flip_labels(train, 0.01, seed)[1][0])  # the only row of the class
    rare = {"rare": tsds.Splits(train, validation, test)}
    how = {"methods": ("random",), "flips": (0.01,), "seeds": (seed,), **QUICK}
    with pytest.raises(tsds.InputError, match=rf"0.01 flipped by seed {seed} no training row is of class rare"):
        tsds.evaluate(rare, model=tiny_model, out=tmp_path / "o", **how)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_numbers_are_those_of_the_parts(study, splits, tiny_model):
    run = next(run for run in content(study)["runs"] if (run["flips"], run["seed"], run["method"]) == (0.2, 1, "loss"))
    train, wrong = flip_labels(splits.train, 0.2, 1)
    encoder = tsds.load_encoder(tiny_model)
    x, x_val, x_test = (encoder.embed(part.texts, layer=0) for part in (train, splits.validation, splits.test))
    pca = tsds.fit_pca(x, 8)
    x, x_val, x_test = map(pca.transform, (x, x_val, x_test))
    units = text_codes(splits.train)
    values = tsds.baseline("loss", x, train.labels, x_val, splits.validation.labels, seed=1, units=units).values
    assert run["auroc"] == pytest.approx(tsds.detection(values, wrong).auroc, abs=0.01)
    curve = tsds.kept_curve(tsds.valuation.source_game(x, train.labels, x_test, splits.test.labels), values)
    assert run["accuracy"] == pytest.approx(curve.best[-1])
    assert run["gain_10"] == pytest.approx(curve.best[-3] - curve.best[-1], abs=0.021)
    assert run["removed"] > 0


def test_test_accuracy_is_that_of_the_source_classifier_that_was_named(splits, tiny_model, tmp_path):
    how = {"methods": ("random",), "flips": (0.2,), "seeds": (1,), **QUICK}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", source="ridge", **how)
    (run,) = content(out)["runs"]
    train, _ = flip_labels(splits.train, 0.2, 1)
    encoder = tsds.load_encoder(tiny_model)
    x, x_test = (encoder.embed(part.texts, layer=0) for part in (train, splits.test))
    pca = tsds.fit_pca(x, 8)
    fit = RidgeClassifier(alpha=1.0).fit(pca.transform(x), train.labels)
    assert run["accuracy"] == pytest.approx(fit.score(pca.transform(x_test), splits.test.labels))


def test_all_methods_are_cut_at_our_index(study):
    runs = content(study)["runs"]
    for flips in (0, 0.2):
        for seed in (0, 1):
            some = [run for run in runs if (run["flips"], run["seed"]) == (flips, seed)]
            assert len({run["removed"] for run in some}) == 1
            assert len({run["accuracy"] for run in some}) == 1


@pytest.mark.slow
def test_the_oracle_removes_the_wrong_labels_and_no_others(splits, tiny_model, tmp_path):
    how = {"methods": ("oracle", "shapley"), "flips": (0, 0.2), "seeds": (0, 1), "finetuning": TUNING, **QUICK}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", finetuned=("oracle",), **how)
    for run in content(out)["runs"]:
        if run["method"] == "oracle":
            assert run["removed"] == round(run["flips"] * len(splits.train))
            assert run.get("auroc", 1.0) == 1.0
    train, wrong = flip_labels(splits.train, 0.2, 0)
    how = {"validation": splits.validation, "test": splits.test, "options": TUNING}
    tuned = [
        tsds.finetune(tiny_model, train.select(rows), **how).metrics["accuracy"]
        for rows in (np.arange(len(train)), np.flatnonzero(~wrong))
    ]
    run = next(run for run in content(out)["runs"] if (run["flips"], run["seed"], run["method"]) == (0.2, 0, "oracle"))
    assert run["finetuned_gain"] == pytest.approx(tuned[1] - tuned[0])
    shown = (out / "evaluation.md").read_text().split("## ")[2]
    assert "the index removes" in shown
    assert str(round(0.2 * len(splits.train))) not in shown.split("the index removes")[1].split(" rows")[0].split(", ")


def test_the_oracle_has_an_index_of_its_own_where_ours_is_not_asked_for(splits, tiny_model, tmp_path):
    how = {"methods": ("oracle",), "flips": (0,), "seeds": (0,), "finetuned": ("oracle",), "finetuning": TUNING}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **how, **QUICK)
    (run,) = content(out)["runs"]
    assert (run["removed"], run["finetuned_gain"]) == (0, 0.0)


def test_the_summary_is_means_with_students_interval(study):
    found = content(study)
    aurocs = [run["auroc"] for run in found["runs"] if run["flips"] == 0.2 and run["method"] == "loss"]
    row = next(row for row in found["summary"] if row["flips"] == 0.2 and row["method"] == "loss")
    assert row["auroc"] == pytest.approx(list(mean_interval(aurocs)))
    assert mean_interval([0.5]).estimate == 0.5
    assert np.isnan(mean_interval([0.5]).low)
    still = {row["method"]: row["stability"]["spearman"] for row in found["summary"] if row["flips"] == 0}
    assert still["shapley"] > still["random"] + 0.3


def test_seconds_are_those_of_the_median_run_whichever_compiled(study, tmp_path):
    runs = [run for run in content(study)["runs"] if (run["flips"], run["method"]) == (0, "loss")]
    runs = [{**runs[0], "seed": seed, "seconds": seconds} for seed, seconds in enumerate((14.0, 0.25, 0.26))]
    write_summary(RunFolder(tmp_path), runs, {(run["key"], "loss"): np.arange(9) for run in runs})
    (row,) = content(tmp_path)["summary"]
    assert row["seconds"] == [0.26, None, None]
    table = (tmp_path / "evaluation.md").read_text("utf-8")
    assert "| 0.26 |" in table
    assert "Seconds are the median run's" in table


def test_the_tables_say_shares_indices_and_nothing_gained_as_one_would(study, tmp_path):
    runs = [run for run in content(study)["runs"] if (run["flips"], run["method"]) == (0.2, "shapley")]
    runs = [
        {**run, "flips": 0.125, "removed": removed, "gain_5": -1e-9} for run, removed in zip(runs, (0, 13), strict=True)
    ]
    write_summary(RunFolder(tmp_path), runs, {(run["key"], "shapley"): np.arange(9) for run in runs})
    table = (tmp_path / "evaluation.md").read_text("utf-8")
    assert "## tiny, 12.5% of the labels flipped" in table
    assert "the index removes 0 or 13 rows" in table
    assert "| +0.00 ± 0.00 |" in table
    assert "-0.00" not in table


def test_values_that_are_all_the_same_have_no_stability_and_lose_no_study(study, tmp_path):
    runs = content(study)["runs"]
    write_summary(RunFolder(tmp_path), runs, {(run["key"], run["method"]): np.zeros(9) for run in runs})
    still = [row["stability"] for row in content(tmp_path)["summary"] if "stability" in row]
    assert still
    assert all(found == dict.fromkeys(("spearman", "kendall", "lowest")) for found in still)
    assert "| - |" in (tmp_path / "evaluation.md").read_text("utf-8")


def test_a_cut_study_goes_on_to_the_same_numbers(study, splits, tiny_model):
    before, kept = content(study), study / "state" / "tiny-0.2-0-shapley.npz"
    kept.unlink()
    (study / "evaluation.json").unlink()
    untouched = study / "state" / "tiny-0.2-1-shapley.npz"
    written = untouched.stat().st_mtime_ns
    how = {"model": tiny_model, "out": study, "methods": METHODS, "flips": (0, 0.2), "seeds": (0, 1), **QUICK}
    tsds.evaluate({"tiny": splits}, resume=True, **how)
    assert untouched.stat().st_mtime_ns == written

    def plain(content):
        return [{key: entry for key, entry in run.items() if key != "seconds"} for run in content["runs"]]

    assert plain(content(study)) == plain(before)
    with pytest.raises(tsds.InputError, match=r"holds a run with options\.utility"):
        tsds.evaluate({"tiny": splits}, resume=True, **{**how, "utility": "accuracy"})


@pytest.mark.slow
def test_a_finished_study_can_be_asked_for_more_and_computes_that_alone(splits, tiny_model, tmp_path):
    how = {"model": tiny_model, "out": tmp_path / "out", "seeds": (0,), "finetuning": TUNING, **QUICK}
    first = tsds.evaluate({"tiny": splits}, methods=("loss",), flips=(0.2,), **how)
    written = {path: path.stat().st_mtime_ns for path in (first / "state").iterdir()}
    before = content(first)["runs"][0]
    more = {"methods": ("loss", "margin"), "flips": (0, 0.2), "finetuned": ("margin",), "finetuned_shares": (0.25,)}
    tsds.evaluate({"tiny": splits}, resume=True, **more, **how)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    runs = content(first)["runs"]
    assert [(run["flips"], run["method"]) for run in runs] == [
        (0, "loss"),
        (0, "margin"),
        (0.2, "loss"),
        (0.2, "margin"),
    ]
    assert runs[2] == before
    assert "finetuned_gain_25" in runs[3]
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["asked"]["methods"] == ["loss", "margin"]


@pytest.mark.slow
def test_a_study_goes_on_within_the_fine_tuning_it_was_cut_in(splits, tiny_model, tmp_path):
    how = {
        "methods": ("random",),
        "flips": (0.2,),
        "seeds": (0,),
        "finetuned": ("random",),
        "finetuned_shares": (0.25,),
    }
    how |= {"model": tiny_model, "finetuning": TUNING, "checkpoint_every": 0.0, **QUICK}
    whole = tsds.evaluate({"tiny": splits}, out=tmp_path / "whole", **how)

    def cut(event):
        if event.stage == "finetune" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tsds.evaluate({"tiny": splits}, out=tmp_path / "cut", progress=cut, **how)
    events = []
    again = tsds.evaluate({"tiny": splits}, out=tmp_path / "cut", resume=True, progress=events.append, **how)
    assert [event.done for event in events if event.stage == "finetune"] == [2, 3, 1, 2, 3]
    assert content(again)["runs"][0]["finetuned_gain_25"] == content(whole)["runs"][0]["finetuned_gain_25"]


def test_fine_tuned_gains_are_against_all_rows(splits, tiny_model, tmp_path):
    how = {"methods": ("shapley", "random", "loss"), "flips": (0.2,), "seeds": (3,), **QUICK}
    tuned = {"finetuned": ("shapley", "random"), "finetuned_shares": (0.25,), "finetuning": TUNING}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **tuned, **how)
    *both, last = content(out)["runs"]
    assert not [name for name in last if name.startswith("finetuned")]
    train, _ = flip_labels(splits.train, 0.2, 3)
    with np.load(out / "state" / "tiny-0.2-3-random.npz") as stored:
        rows = np.sort(np.argsort(stored["values"])[len(train) // 4 :])
    options = dataclasses.replace(TUNING, seed=3)
    how = {"validation": splits.validation, "test": splits.test, "options": options}
    with_all, without = (tsds.finetune(str(tiny_model), part, **how) for part in (train, train.select(rows)))
    assert [run["finetuned_all"] for run in both] == [with_all.metrics["accuracy"]] * 2
    gain = without.metrics["accuracy"] - with_all.metrics["accuracy"]
    assert both[1]["finetuned_gain_25"] == pytest.approx(gain)
    assert "finetuned_gain" in both[0]
    assert "| fine-tuned, at the index | fine-tuned, 25 % removed |" in (out / "evaluation.md").read_text()


@pytest.mark.slow
def test_texts_that_were_cut_are_told_of(splits, tiny_model, tmp_path):
    how = {"methods": ("shapley",), "flips": (0.2,), "seeds": (0,), "finetuned": ("shapley",), **QUICK}
    how |= {"finetuning": dataclasses.replace(TUNING, max_length=4), "max_length": 5, "finetuned_shares": (0.25,)}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **how)
    said = (out / "evaluation.md").read_text()
    every = sum(len(part) for part in (splits.train, splits.validation, splits.test))
    assert f"tiny: {every} texts were cut at 5 tokens (max_length) to be represented\n" in said
    assert f"{every} texts were cut at 4 tokens in fine-tuning\n" in said
    told = json.loads((out / "manifest.json").read_text())["warnings"]
    assert sum("were cut at" in words for words in told) == 2


def test_methods_whose_fits_did_not_converge_or_whose_values_are_noise_are_told_of(
    splits, tiny_model, tmp_path, monkeypatch
):
    def doubtful(method, *arrays, **how):
        found = baseline(method, *arrays, **how)
        return dataclasses.replace(found, unconverged=3, stderr=np.full(len(found.values), 9.0) * (method == "random"))

    monkeypatch.setattr(module, "baseline", doubtful)
    how = {"methods": ("random", "loss"), "flips": (0.2,), "seeds": (0, 1), **QUICK}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **how)
    told = json.loads((out / "manifest.json").read_text())["warnings"]
    fits = "6 fits did not converge: lower C, or bring the features to one scale"
    assert [words for words in told if words.startswith("tiny, ")] == [
        f"tiny, random: {fits}",
        "tiny, random: the values are mostly sampling noise (reliability down to 0.00): raise samples",
        f"tiny, loss: {fits}",
    ]
    assert all(words in (out / "evaluation.md").read_text() for words in told)


def test_a_study_does_not_remove_the_rows_it_is_made_from(splits, tiny_model, tmp_path):
    how = {"methods": ("random",), "flips": (0.2,), "seeds": (0,), **QUICK}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **how)
    shutil.copy(splits.train.source, out / "kept.csv")
    own = tsds.load_splits(out / "kept.csv", splits.validation, splits.test)
    with pytest.raises(tsds.InputError, match=r"kept.csv is of the run in .* that overwrite would remove"):
        tsds.evaluate({"own": own}, model=tiny_model, out=out, overwrite=True, **how)
    assert (out / "kept.csv").exists()


@pytest.fixture
def tuned_on(monkeypatch):
    """The rows of each fine-tuning, which is none."""
    seen = []

    def finetune(encoder, train, **how):
        seen.append(train)
        return types.SimpleNamespace(metrics={"accuracy": 0.5}, truncated=0)

    monkeypatch.setattr("tsds_jax.study.methods.finetune", finetune)
    return seen


def test_a_share_beyond_the_rows_that_may_go_leaves_the_model_a_row_of_each_class(
    splits, tiny_model, tmp_path, tuned_on
):
    how = {"methods": ("random",), "flips": (0,), "seeds": (0,), "finetuned": ("random",), "finetuned_shares": (0.99,)}
    tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", finetuning=TUNING, **how, **QUICK)
    everything, rest = tuned_on
    assert len(everything) == len(splits.train)
    assert sorted(rest.labels.tolist()) == list(range(len(splits.train.classes)))


def test_the_oracle_takes_no_right_row_for_a_wrong_one_that_has_to_stay(splits, tiny_model, tmp_path, tuned_on):
    wrong = (splits.train.labels == 0) | (np.arange(len(splits.train)) % 5 == 0)  # all rows of a class, and more
    train = dataclasses.replace(splits.train, rows=splits.train.rows.add_column("crowd", 1.0 - wrong))
    how = {"methods": ("oracle",), "flips": (0,), "seeds": (0,), "confidence": "crowd", "finetuned": ("oracle",)}
    data = {"tiny": tsds.Splits(train, splits.validation, splits.test)}
    out = tsds.evaluate(data, model=tiny_model, out=tmp_path / "out", finetuning=TUNING, **how, **QUICK)
    assert content(out)["runs"][0]["removed"] == wrong.sum() - 1
    rest = tuned_on[-1]
    assert set(rest.origin[rest.labels != 0]) == set(train.origin[~wrong])
    assert (rest.labels == 0).sum() == 1


def test_texts_that_stand_in_two_splits_are_told_before_the_tables(splits, tiny_files, tiny_model, tmp_path):
    seen = tsds.load_splits(tiny_files["train"], tiny_files["validation"], tiny_files["train"])
    how = {"methods": ("random",), "flips": (0,), "seeds": (0,), **QUICK}
    for name, data in (("seen", seen), ("fresh", splits)):
        out = tsds.evaluate({name: data}, model=tiny_model, out=tmp_path / name, **how)
        told = (out / "evaluation.md").read_text()
        words = f"{name}: 120 train texts also stand in the test rows (drop_overlap leaves them out)"
        assert (words in told.split("## ")[0]) == (name == "seen")


@pytest.mark.slow
def test_splits_put_together_by_hand_are_numbered_alike_and_their_shared_texts_counted(
    tiny_files, tiny_model, tmp_path
):
    train, validation = tsds.load_data(tiny_files["train"]), tsds.load_data(tiny_files["validation"])
    _, second = train.classes
    test = train.select(np.flatnonzero(train.labels == 1))
    alone = dataclasses.replace(test, classes=(second,), labels=np.zeros(len(test), np.int32))
    how = {"methods": ("random",), "flips": (0,), "seeds": (0,), **QUICK}
    found = [
        content(
            tsds.evaluate({"tiny": tsds.Splits(train, validation, part)}, model=tiny_model, out=tmp_path / n, **how)
        )
        for n, part in (("two", test), ("one", alone))
    ]
    assert found[0]["runs"][0]["accuracy"] == found[1]["runs"][0]["accuracy"] != 0.5
    told = (tmp_path / "one" / "evaluation.md").read_text()
    assert f"{len(test)} train texts also stand in the test rows" in told

    few = test.select(np.arange(5))
    out = tsds.evaluate(
        {"tiny": tsds.Splits(train, validation, few)},
        model=tiny_model,
        out=tmp_path / "dropped",
        **how,
        drop_overlap=True,
    )
    with np.load(out / "state" / "tiny-0-0-random.npz") as stored:
        held = {*few.texts, *validation.texts}
        assert len(stored["values"]) == sum(text not in held for text in train.texts) < len(train)

    strange = dataclasses.replace(alone, classes=("strange",))
    with pytest.raises(tsds.InputError, match=rf"row {test.origin[0]}: label 'strange' is not a class"):
        tsds.evaluate({"tiny": tsds.Splits(train, validation, strange)}, model=tiny_model, out=tmp_path / "o", **how)


def test_a_study_is_not_overwritten_by_one_whose_rows_cannot_be_tokenised(study, splits, tiny_model, tmp_path):
    out = shutil.copytree(study, tmp_path / "out")
    encoder = tsds.load_encoder(tiny_model)
    config = dataclasses.replace(encoder.config, vocab_size=5)
    how = {"methods": ("random",), "flips": (0,), "seeds": (0,), **QUICK}
    with pytest.raises(tsds.InputError, match="vocab_size is 5"):
        tsds.evaluate({"t": splits}, model=dataclasses.replace(encoder, config=config), out=out, overwrite=True, **how)
    assert content(out) == content(study)


@pytest.mark.slow
def test_values_of_which_nothing_was_drawn_twice_are_doubted(splits, tiny_model, tmp_path):
    how = {"methods": ("shapley", "loss"), "flips": (0,), "seeds": (0,), **QUICK, "samples": 1}
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **how)
    told = json.loads((out / "manifest.json").read_text())["warnings"]
    words = "how reliable the values are is not known, for no row was drawn twice: raise samples"
    assert [one for one in told if "reliable" in one] == [f"tiny, shapley: {words}"]


@pytest.mark.slow
def test_copies_of_a_text_do_not_judge_each_other_by_cross_validation(splits, tiny_model, tmp_path, monkeypatch):
    seen = []

    def watched(method, *arrays, units, **how):
        seen.append(units)
        return baseline(method, *arrays, units=units, **how)

    monkeypatch.setattr(module, "baseline", watched)
    twice = splits.train.select(np.repeat(np.arange(len(splits.train)), 2))
    how = {"methods": ("loss",), "flips": (0,), "seeds": (0,), **QUICK}
    data = {"tiny": dataclasses.replace(splits, train=twice)}
    tsds.evaluate(data, model=tiny_model, out=tmp_path / "out", **how)
    np.testing.assert_array_equal(seen[0][::2], seen[0][1::2])


def test_overlapping_rows_are_dropped_where_that_is_asked_for(tiny_files, tiny_model, tmp_path):
    half = tsds.load_data(tiny_files["train"])
    seen = tsds.load_splits(half, tiny_files["validation"], half.select(np.arange(0, len(half), 3)))
    how = {"methods": ("random",), "flips": (0,), "seeds": (0,), **QUICK, "drop_overlap": True}
    out = tsds.evaluate({"tiny": seen}, model=tiny_model, out=tmp_path / "out", **how)
    with np.load(out / "state" / "tiny-0-0-random.npz") as stored:
        assert len(stored["values"]) == len(without_overlap(seen).train) < len(half)


def test_no_name_and_no_style_of_the_users_ends_a_study_at_its_plots(study, tmp_path):
    runs = [{**run, "data": "$_$", "key": f"$_${number}"} for number, run in enumerate(content(study)["runs"])]
    with matplotlib.rc_context({"text.usetex": True}):
        write_summary(RunFolder(tmp_path), runs, {(run["key"], run["method"]): np.arange(9) for run in runs})
    drawn = {path.name: path.read_text("utf-8") for path in (tmp_path / "curves").iterdir()}
    assert set(drawn) == {"$_$-0.svg", "$_$-0.2.svg"}
    assert all("$_$, " in text for text in drawn.values())


def test_the_index_is_the_one_that_the_check_on_the_target_leaves(splits, tiny_model, tmp_path, monkeypatch):
    how = {"methods": ("shapley",), "flips": (0.2,), "seeds": (1,), **QUICK, "finetuning": TUNING}
    plain = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "plain", **how)
    out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "o", check_seeds=1, check_steps=2, **how)
    index = content(plain)["runs"][0]["removed"]
    assert index > 0
    kept = sorted(path.stem for path in (out / "state").glob("tiny-0.2-1-check-*.npz"))
    cuts = {int(name.split("-")[-2]) for name in kept}
    assert {0, index} <= cuts
    with np.load(out / "state" / "tiny-0.2-1-shapley.npz") as stored:
        assert content(out)["runs"][0]["removed"] == stored["index"]

    judges = []

    def recommending(cut):
        def check(*given, units, **how):
            judges.append(units)
            return types.SimpleNamespace(recommended=cut, truncated=0)

        return check

    for cut in (0, 7):
        monkeypatch.setattr("tsds_jax.study.methods.target_check", recommending(cut))
        told = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / f"{cut}", check_seeds=1, **how)
        assert content(told)["runs"][0]["removed"] == cut
    for units in judges:  # copies among the validation rows say what they say together
        np.testing.assert_array_equal(units, text_codes(splits.validation))


@pytest.mark.slow
def test_representations_may_be_those_of_a_fine_tuned_model(splits, tiny_model, tmp_path):
    how = {"methods": ("loss",), "flips": (0, 0.2), "seeds": (0,), **QUICK, "layer": (-1, 0), "finetuning": TUNING}
    runs = {}
    for by in ("pretrained", "fine_tuned", "cross_fitted"):
        out = tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / by, represent_by=by, **how)
        runs[by] = content(out)["runs"][1]["auroc"]
        name = "tiny" if by == "pretrained" else "tiny-0.2-0"
        with np.load(out / "state" / f"{name}-represented.npz") as stored:
            assert stored["test"].shape == (len(splits.test), 8)
    assert len(set(runs.values())) == 3


def test_doubts_of_the_crowd_are_what_natural_labels_are_asked_for(splits, tiny_model, tmp_path):
    rows = len(splits.train)
    sure = [None if row % 10 == 0 else 0.5 if row % 3 == 0 else 1.0 for row in range(rows)]
    train = dataclasses.replace(splits.train, rows=splits.train.rows.add_column("crowd", sure))
    data = {"tiny": tsds.Splits(train, splits.validation, splits.test)}
    how = {"methods": ("random",), "flips": (0, 0.1), "seeds": (0,), "confidence": "crowd", **QUICK}
    out = tsds.evaluate(data, model=tiny_model, out=tmp_path / "out", **how)
    natural, flipped = content(out)["runs"]
    with np.load(out / "state" / "tiny-0-0-random.npz") as stored:
        known = np.array([number is not None for number in sure])
        wrong = np.array([number == 0.5 for number in sure])
        assert natural["auroc"] == pytest.approx(tsds.detection(stored["values"][known], wrong[known]).auroc)
    with np.load(out / "state" / "tiny-0.1-0-random.npz") as stored:
        wrong = flip_labels(splits.train, 0.1, 0)[1]
        assert flipped["auroc"] == pytest.approx(tsds.detection(stored["values"], wrong).auroc)


@pytest.mark.parametrize(
    ("sure", "words"),
    [
        (lambda row: 55 + row % 45, "column 'crowd' is from 55 to 99, so confident_from 0.7 doubts no labels"),
        (lambda row: 0.5, "column 'crowd' is from 0.5 to 0.5, so confident_from 0.7 doubts all labels"),
    ],
)
def test_a_crowd_that_is_sure_of_all_or_of_nothing_is_refused_before_the_work(sure, words, splits, tmp_path):
    column = np.array([sure(row) for row in range(len(splits.train))], float)
    train = dataclasses.replace(splits.train, rows=splits.train.rows.add_column("crowd", column))
    data = {"tiny": tsds.Splits(train, splits.validation, splits.test)}
    with pytest.raises(tsds.InputError, match=words):
        tsds.evaluate(data, model="none", out=tmp_path / "out", methods=("random",), flips=(0,), confidence="crowd")
    assert not (tmp_path / "out").exists()


def test_a_study_whose_crowd_has_changed_its_mind_is_another(splits, tiny_model, tmp_path):
    def study(doubtful, **how):
        sure = [0.5 if row % doubtful == 0 else 1.0 for row in range(len(splits.train))]
        train = dataclasses.replace(splits.train, rows=splits.train.rows.add_column("crowd", sure))
        data = {"tiny": tsds.Splits(train, splits.validation, splits.test)}
        how |= {"methods": ("oracle",), "flips": (0,), "seeds": (0,), "confidence": "crowd", **QUICK}
        return content(tsds.evaluate(data, model=tiny_model, out=tmp_path / "out", **how))["runs"][0]["removed"]

    assert study(3) == 40
    assert study(3, resume=True) == 40
    with pytest.raises(tsds.InputError, match=r"holds a run with doubtful\.tiny"):
        study(4, resume=True)


def test_shares_of_flips_that_hardly_differ_are_kept_apart(splits, tiny_model, tmp_path):
    how = {"model": tiny_model, "out": tmp_path / "out", "methods": ("oracle",), "seeds": (0,), **QUICK}
    out = tsds.evaluate({"tiny": splits}, flips=(0.2, 0.2000001), **how)
    assert [run["key"] for run in content(out)["runs"]] == ["tiny-0.2-0", "tiny-0.2000001-0"]
    assert {path.name for path in (out / "curves").iterdir()} == {"tiny-0.2.svg", "tiny-0.2000001.svg"}


def test_files_without_test_rows_have_some_set_apart(tiny_files, tiny_model, tmp_path):
    how = {"methods": ["random"], "flips": [0.1], "seeds": [0], **QUICK}
    out = evaluate_files([tiny_files["train"]], str(tiny_model), str(tmp_path / "out"), test_fraction=0.25, **how)
    with np.load(out / "state" / "train-0.1-0-random.npz") as stored:
        assert len(stored["values"]) == 72  # of 120 a quarter for testing, then a fifth for validation
    more = evaluate_files(
        [tiny_files["train"]], str(tiny_model), str(tmp_path / "more"), validation_fraction=0.5, **how
    )
    with np.load(more / "state" / "train-0.1-0-random.npz") as stored:
        assert len(stored["values"]) == 43  # of 120 three tenths of each class for testing, then half for validation
    with pytest.raises(tsds.InputError, match="two data sets are called train"):
        evaluate_files([tiny_files["train"]] * 2, str(tiny_model), str(tmp_path / "two"), **how)
    long = shutil.copy(tiny_files["train"], tmp_path / f"{'ü' * 120}.csv")
    out = evaluate_files([long], str(tiny_model), str(tmp_path / "long"), **how)
    assert (out / "state" / f"{'ü' * 60}-0.1-0-random.npz").exists()
    alike = shutil.copy(tiny_files["train"], tmp_path / "Train.csv")
    with pytest.raises(tsds.InputError, match="two data sets are called train"):
        evaluate_files([alike, tiny_files["train"]], str(tiny_model), str(tmp_path / "two"), **how)


def test_a_data_set_keeps_its_own_validation_rows(splits, tiny_model, tmp_path):
    own = DatasetDict(train=splits.train.rows, validation=splits.validation.rows)
    own.save_to_disk(tmp_path / "own")
    how = {"methods": ["random"], "flips": [0.1], "seeds": [0], **QUICK}
    out = evaluate_files([str(tmp_path / "own")], str(tiny_model), str(tmp_path / "out"), test_fraction=0.25, **how)
    with np.load(out / "state" / "own-0.1-0-random.npz") as stored:
        assert len(stored["values"]) == 90  # a quarter for testing, and nothing for validation


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ("magic",)}, "method 'magic' is unknown: use one of shapley, random, leave_one_out"),
        ({"methods": ()}, "needs at least one data set, one method"),
        ({"flips": (0.7,)}, "flips is 0.7"),
        ({"seeds": (0, 0)}, "seeds has something twice: 0, 0"),
        ({"seeds": 0}, "seeds is 0: give a list"),
        ({"methods": "loss"}, "methods is 'loss': give a list"),
        ({"flips": 0.1}, "flips is 0.1: give a list"),
        ({"finetuned": "loss"}, "finetuned is 'loss': give a list"),
        ({"finetuning": {"steps": 3}}, "finetuning is a dict: give FineTuneOptions"),
        ({"noise": "odd"}, "noise 'odd' is unknown"),
        (
            {"methods": ("loss",), "finetuned": ("loss",)},
            "no share is given, and without shapley among the methods loss has no index",
        ),
        ({"finetuned": ("margin",)}, "without the rows of margin: add it to the methods"),
        ({"finetuned_shares": (0.1,)}, "finetuned_shares is for the methods in finetuned: name some"),
        ({"finetuning": tsds.FineTuneOptions(task="regression")}, "task regression has none"),
        (
            {"methods": ("random",), "finetuned": ("random",), "finetuned_shares": (0.1,), "finetuning": IMPATIENT},
            "patience would give the compared models different numbers of steps",
        ),
        ({"confidence": "crowd"}, "no column 'crowd'"),
        ({"confidence": "crowd", "flips": (0.1,)}, "have 0 among flips"),
        ({"confident_from": 0.6}, "confident_from is 0.6 of no column: give confidence too"),
        ({"layer": 9}, "layer is 9"),
        ({"pca": 5000}, "pca 5000 is more than"),
        ({"group": "text"}, "option group is not for evaluate"),
        ({"validation_fraction": 0.3}, "option validation_fraction is not for evaluate"),
        ({"rule": "elbow"}, "rule 'elbow' is unknown"),
        (
            {"represent_by": "fine_tuned", "finetuning": tsds.FineTuneOptions(frozen_layers=9)},
            "frozen_layers must be at most 2",
        ),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
    ],
)
def test_bad_input_is_refused_before_a_folder_is_made(change, words, splits, tiny_model, tmp_path):
    with pytest.raises(tsds.InputError, match=words):
        tsds.evaluate({"tiny": splits}, model=tiny_model, out=tmp_path / "out", **change)
    bare = tsds.Splits(splits.train, splits.validation)
    with pytest.raises(tsds.InputError, match="data set tiny has no test rows"):
        tsds.evaluate({"tiny": bare}, model=tiny_model, out=tmp_path / "out")
    with pytest.raises(tsds.InputError, match="data set tiny is a str: give what load_splits gives"):
        tsds.evaluate({"tiny": "train.csv"}, model=tiny_model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Tweets", "tweets"), "two data sets are called tweets"),
        (("a/b",), "'a/b' cannot be part of a file's name"),
        (("..\\b",), "cannot be part of a file's name"),
        (("what?",), "cannot be part of a file's name"),
        (("",), "cannot be part of a file's name"),
        (("ü" * 61,), "has a name of more than 120 bytes: give a shorter one"),
    ],
)
def test_names_of_data_sets_that_would_share_a_file_or_leave_the_folder_are_refused(names, words, splits, tmp_path):
    with pytest.raises(tsds.InputError, match=words):
        tsds.evaluate(dict.fromkeys(names, splits), model="none", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
