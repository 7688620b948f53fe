"""From text files to a selection, fine-tuned models and a report, with a tiny encoder and real computation."""

import csv
import dataclasses
import html
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from safetensors.numpy import load_file, save_file
from sklearn.metrics import roc_auc_score

import tsds_jax as tsds
from tsds_jax.pipeline.checks import both_judged_apart, held_out_units, judged_apart, training_units
from tsds_jax.pipeline.manifest import manifest_of
from tsds_jax.pipeline.representing import represent
from tsds_jax.pipeline.selected import write_selection
from tsds_jax.runtime.folder import open_run
from tsds_jax.selection import Limits
from tsds_jax.selection.choice import validation_folds
from tsds_jax.stages import evaluate_files, finetune_files, finetune_seed_files

# Tests that value alike share what is compiled, which takes most of their time.
QUICK = {"check_seeds": 0, "samples": 16, "pca": 8, "subset_size": 40, "utility": "probability"}
TUNING = tsds.FineTuneOptions(steps=12, batch_size=8, learning_rate=1e-3)


def run(files, model, out, **how):
    return tsds.run(**files, model=model, out=out, finetuning=TUNING, **{**QUICK, "rule": "argmax", **how})


@pytest.fixture(scope="module")
def finished(tiny_files, tiny_model, tmp_path_factory):
    return run(tiny_files, tiny_model, tmp_path_factory.mktemp("runs") / "one")


def content(folder):
    """Everything a run decides, without clocks."""
    selection = json.loads((folder / "selection.json").read_text())
    arms = json.loads((folder / "finetune.json").read_text())["arms"]
    return (
        pq.read_table(folder / "values.parquet").to_pydict(),
        selection,
        [{k: v for k, v in arm.items() if k != "seconds"} for arm in arms],
        next(folder.glob("kept.*")).read_bytes(),
    )


@pytest.mark.slow
def test_a_run_leaves_every_file_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("manifest.json", "values.parquet", "selection.json", "finetune.json", "metrics.jsonl"),
        *("report.html", "kept.csv", "suspects.csv", "validation-suspects.csv", "state", "model"),
    }
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert set(manifest["stages"]) == {"data", "embed", "value", "select", "finetune", "report"}
    assert manifest["data"]["train"]["rows"] == 120
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    done = [line["stage"] for line in lines if "seconds" in line and "step" not in line]
    arms = ["finetune-full", "finetune-selection", "finetune-random"]
    assert done == ["representations", "values", "values-otherwise", "curve", *arms]
    looks = [line for line in lines if line.get("arm") == "full" and "validation_accuracy" in line]
    assert looks[-1]["step"] == 12


def test_values_are_one_row_a_training_row_and_rank_one_is_the_lowest(finished):
    table = pq.read_table(finished / "values.parquet").to_pydict()
    columns = ["row", "text", "label", "value", "stderr", "count", "rank", "kept", "probability_of_label", "suggested"]
    assert list(table) == columns
    order = np.argsort(table["rank"])
    assert np.all(np.diff(np.array(table["value"])[order]) >= 0)
    removed = json.loads((finished / "selection.json").read_text())["removal_index"]
    assert (np.array(table["kept"])[order] == (np.arange(120) >= removed)).all()


def test_kept_rows_are_the_files_own_lines_in_its_order(finished, tiny_files):
    kept = pq.read_table(finished / "values.parquet").to_pydict()["kept"]
    lines = Path(tiny_files["train"]).read_text().splitlines()
    expected = [lines[0], *(line for line, keep in zip(lines[1:], kept, strict=True) if keep)]
    assert (finished / "kept.csv").read_text().splitlines() == expected


def test_the_arms_share_steps_and_size(finished):
    found = json.loads((finished / "finetune.json").read_text())
    rows = {arm["name"]: arm["rows"] for arm in found["arms"]}
    assert list(rows) == ["full", "selection", "random"]
    assert rows["selection"] == rows["random"] < rows["full"] == 120
    assert {arm["steps"] for arm in found["arms"]} == {12}
    assert {(d["a"], d["b"]) for d in found["differences"]} == {
        ("selection", "full"),
        ("selection", "random"),
        ("random", "full"),
    }
    assert all(d["low"] <= d["estimate"] <= d["high"] for d in found["differences"])


@pytest.mark.slow
def test_the_kept_rows_by_themselves_fine_tune_to_the_model_that_was_compared(tiny_files, tiny_model, tmp_path):
    """As the README has it, by as many steps as the report says: fewer rows in as many passes would take fewer."""
    tuning = tsds.FineTuneOptions(epochs=1.0, batch_size=8, learning_rate=1e-3, seed=3)
    how = {"seed": 3, "remove_count": 30, "finetuning": tuning}
    out = tsds.run(tiny_files["train"], test=tiny_files["test"], model=tiny_model, out=tmp_path / "r", **QUICK, **how)
    arm = json.loads((out / "finetune.json").read_text())["arms"][1]
    given = {"validation": str(out / "validation.csv"), "test": tiny_files["test"]}
    options = dataclasses.replace(tuning, steps=arm["steps"])
    again = finetune_files(str(out / "kept.csv"), str(tiny_model), str(tmp_path / "f"), **given, options=options)
    kept, made = ((folder / "model" / "model.safetensors").read_bytes() for folder in (out, again))
    assert kept == made
    assert json.loads((again / "finetune.json").read_text())["history"] == arm["history"]
    assert arm["steps"] == 12 > tsds.finetuning.steps_for(tuning, arm["rows"])


@pytest.mark.slow
def test_random_rows_respect_what_the_selection_respects(marked, tiny_files, tiny_model, tmp_path, monkeypatch):
    """None of those that it removes is protected."""
    seen = []

    def finetune(encoder, rows, **given):
        seen.append(rows.origin)
        return tsds.finetune(encoder, rows, **given)

    monkeypatch.setattr("tsds_jax.pipeline.arms.finetune", finetune)
    files = {name: tiny_files[name] for name in ("validation", "test")}
    given = {**QUICK, "remove_share": 0.3, "protect": "checked", "finetuning": tsds.FineTuneOptions(steps=2)}
    tsds.run(marked, **files, model=tiny_model, out=tmp_path / "run", **given)
    full, selection, random = map(set, seen)
    assert len(random) == len(selection) == len(full) - 36
    assert random != selection
    assert set(range(0, 120, 10)) <= random


def test_the_same_seed_gives_the_same_run_and_a_cut_run_resumes_to_it(finished, tiny_files, tiny_model, tmp_path):
    again = run(tiny_files, tiny_model, tmp_path / "again")
    assert content(again) == content(finished)
    (again / "state" / "finetune-random.npz").unlink()
    for name in ("finetune.json", "report.html"):
        (again / name).unlink()
    shutil.rmtree(again / "model")
    before = (again / "state" / "values.npz").stat().st_mtime_ns
    assert content(run(tiny_files, tiny_model, again, resume=True)) == content(finished)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (finished, again)]
    assert weights[0] == weights[1]
    assert (again / "state" / "values.npz").stat().st_mtime_ns == before


@pytest.mark.slow
def test_models_may_be_compared_by_several_seeds_and_by_more_later(finished, tiny_files, tiny_model, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    run(tiny_files, tiny_model, out, resume=True, compare_seeds=2)
    at_once = run(tiny_files, tiny_model, tmp_path / "at once", compare_seeds=2)
    other = tsds.run(
        **tiny_files,
        model=tiny_model,
        out=tmp_path / "other",
        finetuning=dataclasses.replace(TUNING, seed=1),
        **{**QUICK, "rule": "argmax"},
    )
    assert content(out) == content(at_once)
    first, both, second = (json.loads((one / "finetune.json").read_text()) for one in (finished, out, other))
    assert (both["seeds"], "seeds" in first) == (2, False)
    for mean, one, two in zip(both["arms"], first["arms"], second["arms"], strict=True):
        assert mean["accuracies"] == [one["accuracy"], two["accuracy"]]
        assert mean["accuracy"] == pytest.approx((one["accuracy"] + two["accuracy"]) / 2)
        assert mean["history"] == one["history"]
    for mean, one, two in zip(both["differences"], first["differences"], second["differences"], strict=True):
        assert mean["estimate"] == pytest.approx((one["estimate"] + two["estimate"]) / 2)
    models = [(folder / "model" / "model.safetensors").read_bytes() for folder in (finished, out, at_once)]
    assert models[0] == models[1] == models[2]
    assert "Means of 2 fine-tuning seeds" in (out / "report.html").read_text()


def test_rows_that_judge_are_not_judged_by_their_own_copies_or_groups():
    def rows(texts, sources):
        table = {"text": texts, "label": ["a", "b"] * (len(texts) // 2), "source": sources}
        return tsds.load_data(Dataset.from_dict(table))

    train = rows(["One  two", "three", "four", "five"], ["p", "q", "p", "r"])
    validation = rows(["one two", "six", "seven", "three"], ["s", "q", "", "p"])
    by_text, by_group = (
        both_judged_apart(train, validation, tsds.SelectOptions(group=group)).tolist() for group in (None, "source")
    )
    assert by_text == [0, 1, 2, 3, 0, 4, 5, 1]
    assert by_group == [0, 1, 0, 2, 3, 1, 4, 0]


class Cut(Exception):
    pass


def cut_at(moment, events):
    """Notes a run's progress, and ends it once it says ``moment``: a stage, how far, and a word of the detail."""

    def progress(event):
        events.append(event)
        stage, done, words = moment
        if event.stage == stage and event.done == done and words in event.detail:
            raise Cut

    return progress


@pytest.mark.slow
def test_a_run_goes_on_within_each_fine_tuning_it_was_cut_in(tiny_files, tiny_model, tmp_path):
    how = {"represent_by": "cross_fitted", "check_seeds": 1, "check_steps": 3, "checkpoint_every": 0.0}
    whole = run(tiny_files, tiny_model, tmp_path / "whole", **how)
    cuts = [cut["removed"] for cut in json.loads((whole / "selection.json").read_text())["check"]["cuts"]]
    # The second time it is in the second model's fine-tuning: what the first one made of the texts is kept.
    moments = [("represent", 9, ""), ("represent", 4, ""), ("check", 5, f"{cuts[0]} rows"), ("finetune", 7, "full")]
    before, out = [], tmp_path / "cut"
    for moment in moments:
        with pytest.raises(Cut):
            run(tiny_files, tiny_model, out, resume=bool(before), progress=cut_at(moment, events := []), **how)
        if before:
            assert next(event for event in events if event.stage == before[0]).done == before[1]
        before = moment
        embedded = [event.detail for event in events if event.stage == "embed"]
        assert moment[0] != "check" or embedded[0] == "from the cache"
    run(tiny_files, tiny_model, out, resume=True, progress=(events := []).append, **how)
    assert next(event.done for event in events if event.stage == "finetune") == 7
    assert content(out) == content(whole)
    assert not list(out.glob("state/*-part*"))


@pytest.mark.slow
def test_until_its_models_are_compared_a_run_reports_its_warnings_and_that_it_is_not_finished(
    tiny_files, tiny_model, tmp_path
):
    stop = cut_at(("finetune", 1, ""), [])
    with pytest.raises(Cut):
        run(tiny_files, tiny_model, tmp_path / "run", progress=stop)
    page = tsds.write_report(tmp_path / "run").read_text()
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert told["status"] == "running"
    assert told["warnings"]
    assert all(html.escape(warning).replace("&#x27;", "&#39;") in page for warning in told["warnings"])
    assert "this run is not finished" in page
    assert "have been compared yet" in page
    assert "Reliability" in page
    out = run(tiny_files, tiny_model, tmp_path / "run", resume=True)
    assert "this run is not finished" not in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_run_that_is_gone_on_with_has_the_times_of_its_work(tiny_files, tiny_model, tmp_path):
    how = {"check_seeds": 1, "check_steps": 2}
    out = run(tiny_files, tiny_model, tmp_path / "run", **how)
    before = json.loads((out / "manifest.json").read_text())["stages"]
    run(tiny_files, tiny_model, out, resume=True, **how)
    after = json.loads((out / "manifest.json").read_text())["stages"]
    for stage, kept in (("select", "curve.npz"), ("check", "check-*.npz")):
        work = sum(np.load(file)["seconds"].item() for file in (out / "state").glob(kept))
        assert 0 < work < before[stage] + 1e-3
        assert after[stage] > work - 1e-3
    assert {name: after[name] for name in ("embed", "value", "finetune")} == {
        name: before[name] for name in ("embed", "value", "finetune")
    }


def test_a_cache_is_used_by_the_next_run_and_changes_no_run(finished, tiny_files, tiny_model, tmp_path):
    events = []
    for name in ("one", "two"):
        s = tsds.select(
            tiny_files["train"],
            validation=tiny_files["validation"],
            model=tiny_model,
            cache=tmp_path / "cache",
            progress=events.append,
            rule="argmax",
            **QUICK,
        )
        out = s.save(tmp_path / name)
        expected = pq.read_table(finished / "values.parquet")["value"]
        assert pq.read_table(out / "values.parquet")["value"] == expected
    embedded = [event.detail for event in events if event.stage == "embed"]
    assert embedded.count("from the cache") == 1
    assert embedded[-1] == "from the cache"
    assert len(list((tmp_path / "cache").iterdir())) == 2
    # A cut run goes on with another cache, or with none.
    (finished / "state" / "representations.npz").rename(tmp_path / "kept.npz")
    again = run(tiny_files, tiny_model, finished, resume=True, cache=tmp_path / "cache")
    assert content(again) == content(finished)
    with np.load(tmp_path / "kept.npz") as a, np.load(finished / "state" / "representations.npz") as b:
        np.testing.assert_array_equal(a["train"], b["train"])
    (tmp_path / "kept.npz").rename(finished / "state" / "representations.npz")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped")
@pytest.mark.parametrize("pca", [0, 8])
def test_no_array_is_mapped_from_a_file_that_is_removed(tiny_files, tiny_model, tmp_path, monkeypatch, pca):
    """A network file system keeps such a file in its folder, under another name, and Windows does too."""
    removed, really = {}, shutil.rmtree

    def rmtree(folder, **how):
        mapped = Path("/proc/self/maps").read_text()
        removed.update({file.suffix: str(file) in mapped for file in Path(folder).rglob("*.npy")})
        really(folder, **how)

    splits = tsds.load_splits(tiny_files["train"])
    what = (splits.train, splits.validation, tsds.load_encoder(tiny_model), tsds.SelectOptions(pca=pca), TUNING)
    folder = open_run(tmp_path / "run", {})
    part = folder.part("representations")
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    folder.keep("representations", lambda: represent(*what, None, lambda event: None, part=part))
    assert removed == {".npy": False}


@pytest.mark.slow
def test_wrong_labels_are_ranked_low(tiny_files, tiny_flipped, tiny_model):
    # The tiny encoder's weights are random, so its embeddings tell the words apart better than its layers.
    how = {"layer": 0, "pca": 16, "utility": "probability", "samples": 32, "subset_size": 40}
    s = tsds.select(tiny_files["train"], validation=tiny_files["validation"], model=tiny_model, **how)
    assert roc_auc_score(tiny_flipped, -s.valuation.values) > 0.65


@pytest.mark.slow
def test_a_selection_saves_and_finetunes(tiny_files, tiny_model, tmp_path):
    s = tsds.select(tiny_files["train"], model=tiny_model, rule="argmax", validation_fraction=0.3, **QUICK)
    assert len(s.kept) + len(s.removed) == len(s.train) == 84
    assert len(s.removed) == s.removal_index
    folder = s.save(tmp_path / "run")
    assert {path.name for path in folder.iterdir()} >= {"values.parquet", "kept.csv", "report.html", "manifest.json"}
    with pytest.raises(tsds.InputError, match="holds another run"):
        s.save(folder)
    tuned = tsds.finetune(str(tiny_model), s.kept, test=tiny_files["test"], options=TUNING)
    assert tuned.probabilities.shape == (50, 2)
    assert tuned.steps == 12


@pytest.fixture(scope="module")
def marked(tiny_files):
    """The tiny training rows with a source of six for each, and every tenth marked as checked."""
    rows = tsds.load_data(tiny_files["train"]).rows
    rows = rows.add_column("source", [f"author {row % 6}" for row in range(120)])
    return rows.add_column("checked", [int(row % 10 == 0) for row in range(120)])


def chosen(rows, files, model, **how):
    return tsds.select(rows, validation=files["validation"], model=model, **{**QUICK, **how})


@pytest.mark.slow
def test_the_cut_can_be_given_as_a_number_a_share_or_a_least_value(marked, tiny_files, tiny_model):
    count = chosen(marked, tiny_files, tiny_model, remove_count=20, tie_duplicates=False)
    assert (count.rule, len(count.removed)) == ("count", 20)
    assert set(count.removed_rows) == set(count.valuation.ranking[:20])
    share = chosen(marked, tiny_files, tiny_model, remove_share=0.1, tie_duplicates=False)
    assert (share.rule, len(share.removed)) == ("share", 12)
    least = float(np.sort(count.valuation.values)[15])
    below = chosen(marked, tiny_files, tiny_model, remove_below=least, tie_duplicates=False)
    assert (below.rule, len(below.removed)) == ("below", 15)
    # Their scores are measured, on the grid or not, and however large.
    all_but_few = chosen(marked, tiny_files, tiny_model, remove_share=0.9, tie_duplicates=False)
    for s in (count, share, below, all_but_few):
        assert s.removal_index in s.curve.removed
    assert (below.valuation.values[below.removed_rows] < least).all()


@pytest.mark.slow
def test_marked_rows_stay_and_so_does_a_floor_of_each_class(marked, tiny_files, tiny_model):
    s = chosen(marked, tiny_files, tiny_model, remove_share=0.9, protect="checked", class_floor=0.5)
    assert not (s.removed_rows % 10 == 0).any()
    before, after = (np.array(list(data.class_counts.values())) for data in (s.train, s.kept))
    assert (after >= 0.5 * before).all()
    assert any("rows fewer were removed than asked for" in warning for warning in s.manifest["warnings"])


@pytest.mark.slow
def test_rows_of_a_group_have_one_value_and_go_together(marked, tiny_files, tiny_model, tmp_path):
    s = chosen(marked, tiny_files, tiny_model, group="source", subset_size=4, remove_share=0.4, samples=20)
    values = s.valuation.values.reshape(20, 6)
    assert (values == values[0]).all()
    assert len(s.removed) == 40
    gone = set(s.removed.rows["source"])
    assert len(gone) == 2
    assert not gone & set(s.kept.rows["source"])
    table = pq.read_table(s.save(tmp_path / "run") / "values.parquet").to_pydict()
    assert np.array(table["value"]).reshape(20, 6).tolist() == values.tolist()


@pytest.mark.slow
def test_without_validation_rows_whole_groups_are_set_apart_and_shared_ones_are_warned_of(marked, tiny_model):
    how = {"model": tiny_model, **QUICK, "subset_size": 4, "group": "source", "samples": 20}
    own = tsds.select(marked, **how)
    assert not set(own.train.rows["source"]) & set(own.set_apart.rows["source"])
    assert not any("groups" in warning for warning in own.manifest["warnings"])
    shared = tsds.select(marked, validation=marked.select(range(30)), **how)
    assert any("6 groups of column 'source' have training and validation" in one for one in shared.manifest["warnings"])


def test_a_single_group_in_two_splits_is_spoken_of_as_one(marked, tiny_files, tiny_model):
    validation = marked.select([0, 6])
    splits = tsds.load_splits(marked, validation, tiny_files["test"])
    settings = tsds.SelectOptions(group="source")
    about = (splits, tsds.load_encoder(tiny_model), settings, Limits.none(splits.train.labels))
    told = manifest_of(*about, None, {}, None)["warnings"]
    assert "1 group of column 'source' has training and validation rows" in told


def told_of(marked, validation, tiny_model, test=None, protected=(), **options):
    splits = tsds.load_splits(marked, validation, test)
    limits = Limits.none(splits.train.labels)
    limits.protected[list(protected)] = True
    about = (splits, tsds.load_encoder(tiny_model), tsds.SelectOptions(**options), limits)
    return manifest_of(*about, None, {}, None)["warnings"]


def test_groups_of_validation_and_test_rows_are_warned_of_too(marked, tiny_model):
    apart, held = marked.select(range(0, 120, 6)), marked.select(range(1, 120, 6))  # of one author each
    told = told_of(apart, held.select(range(10)), tiny_model, held.select(range(10, 20)), group="source")
    assert "1 group of column 'source' has validation and test rows" in told
    assert not any("training and" in words for words in told)


def test_a_class_that_no_validation_row_speaks_for_is_warned_of(marked, tiny_model):
    positive = [row for row, label in enumerate(marked["label"]) if label == marked["label"][0]]
    (found,) = (one for one in told_of(marked, marked.select(positive), tiny_model) if one.startswith("class "))
    assert "has training rows and no validation row: their values are low whatever their labels" in found
    assert not any(one.startswith("class ") for one in told_of(marked, marked, tiny_model))
    others = sorted(set(range(120)) - set(positive))
    safe = told_of(marked, marked.select(positive), tiny_model, protected=others)
    assert not any(one.startswith("class ") for one in safe)


def test_validation_rows_of_one_group_alone_are_warned_of(marked, tiny_model):
    one = told_of(marked, marked.select(range(0, 120, 6)), tiny_model, group="source")
    assert any(f"all validation rows are of group {marked['source'][0]} of column 'source'" in told for told in one)
    several = told_of(marked, marked.select(range(12)), tiny_model, marked.select(range(0, 60, 6)), group="source")
    assert not any("all validation rows are of group" in told for told in several)
    assert any(f"all test rows are of group {marked['source'][0]}" in told for told in several)


def test_too_few_validation_rows_to_judge_each_other_are_refused_before_the_work(marked, tiny_files, tiny_model):
    validation = tsds.load_data(tiny_files["validation"]).rows
    for rows in ([0], [0, 0, 0]):
        with pytest.raises(tsds.InputError, match=f"{len(rows)} validation rows cannot judge: give more"):
            tsds.select(marked, validation=validation.select(rows), model=tiny_model, **QUICK)


def test_documents_do_not_judge_themselves_in_halves_of_the_validation_rows(tiny_files):
    validation = tsds.load_data(tiny_files["validation"]).rows
    validation = validation.add_column("source", [f"critic {row % 5}" for row in range(len(validation))])
    data, settings = tsds.load_data(validation), tsds.SelectOptions(group="source")
    folds = validation_folds(settings, data.labels, held_out_units(data, settings))
    assert all(len(set(folds[np.arange(len(data)) % 5 == critic])) == 1 for critic in range(5))
    assert set(folds) == {0, 1}


@pytest.mark.slow
def test_validation_rows_that_stand_twice_make_no_selection_surer(tiny_files, tiny_model):
    validation = tsds.load_data(tiny_files["validation"]).rows
    twice = validation.select(np.repeat(np.arange(len(validation)), 2))
    once, copied = (
        tsds.select(tiny_files["train"], validation=rows, model=tiny_model, **QUICK).curve
        for rows in (validation, twice)
    )
    assert (once.stderr[1:] > 0).any()
    np.testing.assert_allclose(copied.stderr, once.stderr, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(copied.accuracy_stderr, once.accuracy_stderr, rtol=1e-3, atol=1e-6)


def test_validation_rows_of_no_group_are_no_group_and_a_space_makes_none(tiny_files):
    validation = tsds.load_data(tiny_files["validation"]).rows
    rows = len(validation)
    named = [("critic", "critic ", None, "", " ")[row % 5] for row in range(rows)]
    data, settings = tsds.load_data(validation.add_column("source", named)), tsds.SelectOptions(group="source")
    units = held_out_units(data, settings)
    assert len(set(units[np.arange(rows) % 5 < 2])) == 1
    alone = units[np.arange(rows) % 5 >= 2]
    assert len(set(alone)) == len(alone)
    assert units[0] not in alone
    blank = tsds.load_data(validation.add_column("source", [""] * rows))
    assert len(set(held_out_units(blank, settings))) == rows


def test_copies_do_not_judge_each_other_where_they_are_not_removed_together_either(tiny_files):
    validation = tsds.load_data(tiny_files["validation"])
    twice = validation.select(np.repeat(np.arange(len(validation)), 2))
    twice = dataclasses.replace(twice, labels=np.arange(len(twice), dtype=np.int32) % 2)  # whatever their labels
    settings = tsds.SelectOptions(tie_duplicates=False)
    for units in (held_out_units(twice, settings), judged_apart(twice, settings)):
        assert np.array_equal(units[::2], units[1::2])
    assert len(set(training_units(twice, settings))) == len(twice)


@pytest.mark.slow
def test_a_run_whose_validation_rows_have_changed_their_groups_is_another(marked, tiny_files, tiny_model, tmp_path):
    """Of values that are split by validation row each half is judged by the other groups: none of it holds any more."""
    validation = tsds.load_data(tiny_files["validation"]).rows

    def judged_by(critics, **how):
        rows = validation.add_column("source", [f"critic {row % critics}" for row in range(len(validation))])
        given = {**QUICK, "subset_size": 4, "group": "source", **how}
        return tsds.run(marked, validation=rows, model=tiny_model, out=tmp_path / "run", **given)

    judged_by(5)
    assert judged_by(5, resume=True) == tmp_path / "run"
    with pytest.raises(tsds.InputError, match="holds a run with validation_groups"):
        judged_by(7, resume=True)


@pytest.mark.slow
def test_rows_of_the_same_text_and_label_go_together(marked, tiny_files, tiny_model):
    twice = marked.select([*range(60), *range(60)])
    s = chosen(twice, tiny_files, tiny_model, remove_share=0.3)
    assert len(s.removed) > 30
    assert sorted(s.removed_rows % 60) == sorted([*set(s.removed_rows % 60)] * 2)


def test_no_row_is_represented_by_a_model_that_saw_its_label(tiny_files, tiny_model, monkeypatch):
    from tsds_jax.pipeline import representing

    seen, shown = [], []

    def finetune(encoder, rows, **how):
        seen.append((set(rows.origin), tsds.finetuning.steps_for(how["options"], len(rows))))
        return tuned(encoder, rows, **how)

    def embed(encoder, texts, **how):
        shown.append(len(texts))
        return embedded(encoder, texts, **how)

    tuned, embedded = representing.finetune, representing.embed
    monkeypatch.setattr(representing, "finetune", finetune)
    monkeypatch.setattr(representing, "embed", embed)
    rows = tsds.load_data(tiny_files["train"]).rows
    # Every row stands there twice: no copy may be shown to the model that represents the other.
    twice = rows.select([row // 2 for row in range(120)])
    s = chosen(twice, tiny_files, tiny_model, represent_by="cross_fitted", finetuning=TUNING)
    (one, steps), (other, steps_too) = seen
    assert all((row in one) == (row + 1 in one) for row in range(0, 120, 2))
    assert one | other == set(range(120))
    assert not one & other
    assert steps == steps_too == 15  # as many as one pass over all rows, of 8 rows a step
    assert shown == [len(other) + 60, len(one) + 60]
    assert s.manifest["finetuning"]["learning_rate"] == TUNING.learning_rate
    assert s.manifest["options"]["represent_by"] == "cross_fitted"


@pytest.mark.parametrize("by", ["pretrained", "cross_fitted"])
def test_a_text_that_is_cut_counts_once_however_many_models_read_it(by, tiny_files, tiny_model):
    from tsds_jax.pipeline.representing import represent
    from tsds_jax.runtime.progress import silent

    splits = tsds.load_splits(tiny_files["train"], tiny_files["validation"], tiny_files["test"])
    encoder = tsds.load_encoder(tiny_model)
    settings = tsds.SelectOptions(represent_by=by, max_length=8, pca=0)
    found = represent(splits.train, splits.validation, encoder, settings, TUNING, None, silent, splits.test)
    assert found["truncated"] == 120 + 60 + 50  # all are of seven words, between two marks


@pytest.mark.slow
def test_texts_that_an_option_cut_are_not_said_to_be_too_long_for_the_encoder(tiny_files, tiny_model):
    s = tsds.select(tiny_files["train"], model=tiny_model, max_length=8, **QUICK)
    assert "120 texts were cut at 8 tokens (max_length) to be represented" in s.manifest["warnings"]


@pytest.mark.slow
def test_texts_that_the_encoder_cuts_in_fine_tuning_are_said_to_be_cut_where_it_does(tiny_files, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("expected.npz"))
    tensors, settings = load_file(model / "model.safetensors"), json.loads((model / "config.json").read_text())
    name = next(name for name in tensors if "position_embeddings" in name)
    save_file(tensors | {name: tensors[name][:8].copy()}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 8}))
    for asked, at, advice in ((1000, 8, False), (7, 7, True)):
        tuning = dataclasses.replace(TUNING, max_length=asked)
        how = {"rule": "argmax", "check_seeds": 1, "check_steps": 1, "finetuning": tuning}
        found = chosen(tiny_files["train"], tiny_files, model, **how).manifest["warnings"]
        words = next(warning for warning in found if "in the check on the model" in warning)
        assert f"texts were cut at {at} tokens in the check on the model" in words
        assert ("raise max_length" in words) == advice
        out = finetune_files(tiny_files["train"], str(model), str(tmp_path / str(asked)), options=tuning)
        found = json.loads((out / "manifest.json").read_text())["warnings"]
        assert found == [f"120 texts were cut at {at} tokens in fine-tuning"]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["fine_tuned", "cross_fitted"])
def test_fine_tuned_representations_tell_the_classes_apart_better(by, tiny_files, tiny_model):
    # The tiny encoder's weights are random: one pass is enough for it only in many small steps.
    tuning = tsds.FineTuneOptions(head="mean", batch_size=2, learning_rate=5e-3, dropout=0.0, max_length=16)
    how = {"finetuning": tuning, "rule": "argmax"}
    plain, better = (
        chosen(tiny_files["train"], tiny_files, tiny_model, represent_by=name, **how) for name in ("pretrained", by)
    )
    assert better.curve.accuracy[0] > plain.curve.accuracy[0] + 0.05


@pytest.mark.slow
def test_a_cut_is_recommended_only_where_the_model_itself_gains_by_it(tiny_files, tiny_model, tmp_path):
    how = {"rule": "argmax", "check_seeds": 2, "check_steps": 3, "finetuning": TUNING}
    events = []
    s = chosen(tiny_files["train"], tiny_files, tiny_model, **how, progress=events.append)
    assert s.rule == "target"
    assert (s.check.seeds, s.check.steps) == (2, 3)
    assert s.check.recommended == s.removal_index == len(s.removed)
    checked = [event for event in events if event.stage == "check"]
    assert checked[-1].done == checked[-1].total == 3 * 2 * (len(s.check.cuts) + 1)
    out = s.save(tmp_path / "run")
    assert "not finished" not in (out / "report.html").read_text()
    found = json.loads((out / "selection.json").read_text())
    assert [cut["removed"] for cut in found["check"]["cuts"]] == [cut.removed for cut in s.check.cuts]
    assert found["evidence"] in (out / "report.html").read_text()


def test_as_many_rows_as_are_asked_for_go_unchecked(tiny_files, tiny_model):
    s = chosen(tiny_files["train"], tiny_files, tiny_model, remove_count=7, check_seeds=1)
    assert (s.rule, len(s.removed), s.check) == ("count", 7, None)


def test_a_cut_is_checked_unless_that_is_left_out():
    assert tsds.SelectOptions().check_seeds == 2


def test_values_have_what_is_doubted_beside_them(finished):
    table = pq.read_table(finished / "values.parquet").to_pydict()
    with open(finished / "suspects.csv", encoding="utf-8", newline="") as file:
        listed = {int(row["row"]): row for row in csv.DictReader(file)}
    assert {row for row, other in zip(table["row"], table["suggested"], strict=True) if other} == set(listed)
    for row, belief, other in zip(table["row"], table["probability_of_label"], table["suggested"], strict=True):
        assert 0 <= belief <= 1
        assert other is None or (other, f"{belief:.4f}") == tuple(
            listed[row][name] for name in ("suggested", "probability_of_label")
        )


@pytest.mark.slow
def test_wrong_labels_of_the_rows_that_judge_are_listed_and_change_no_other_list(tiny_files, tiny_model, tmp_path):
    with open(tiny_files["validation"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = set(range(0, len(rows), 6))
    for row in wrong:
        rows[row]["label"] = "neg" if rows[row]["label"] == "pos" else "pos"
    judges = tmp_path / "judges.csv"
    with open(judges, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    few = {"model": tiny_model, "layer": 0, "pca": 16, "samples": 4, "subset_size": 20, "check_seeds": 0}
    clean, dirty = (
        tsds.select(tiny_files["train"], validation=validation, **few)
        for validation in (tiny_files["validation"], judges)
    )
    before, found = (set(one.doubted_judges.points.tolist()) for one in (clean, dirty))
    assert len(wrong & found) > 2 * len(wrong & before)
    for one, other in zip(clean.suspects, dirty.suspects, strict=True):
        np.testing.assert_array_equal(one, other)
    with open(dirty.save(tmp_path / "run") / "validation-suspects.csv", encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert {int(row["row"]) for row in listed} == found
    assert {row["label"] for row in listed if int(row["row"]) in wrong} <= {"neg", "pos"}


@pytest.mark.slow
def test_doubted_labels_are_listed_with_the_label_that_would_fit(tiny_files, tiny_flipped, tiny_model, tmp_path):
    out = chosen(tiny_files["train"], tiny_files, tiny_model, layer=0, pca=16).save(tmp_path / "run")
    doubted = tsds.load_data(out / "suspects.csv", label="suggested", classes=("neg", "pos"))
    about = doubted.rows
    assert set(about.column_names) == {
        *("row", "text", "label", "suggested", "probability", "probability_of_label", "kept"),
    }
    assert all(one != other for one, other in zip(about["label"], about["suggested"], strict=True))
    found = np.array([int(row) for row in about["row"]])
    assert tiny_flipped[found].mean() > 2 * tiny_flipped.mean()


def test_a_class_without_a_training_row_is_suggested_to_nobody(tiny_files, tiny_model):
    three = ("neg", "neutral", "pos")
    train = tsds.load_data(tiny_files["train"], classes=three)
    held = tsds.load_data(tiny_files["validation"], classes=three)
    s = tsds.select(train, validation=held, model=tiny_model, layer=0, **QUICK)
    assert len(s.suspects.points)
    assert set(s.suspects.suggested) == {0, 2}
    assert (s.suspects.suggested != train.labels[s.suspects.points]).all()
    held.labels[3] = 1
    with pytest.raises(tsds.InputError, match="class neutral has 1 validation row and no training row"):
        tsds.select(train, validation=held, model=tiny_model, layer=0, **QUICK)


def test_fine_tuning_options_are_checked_where_nothing_is_fine_tuned_too(tiny_files, tiny_model):
    with pytest.raises(tsds.InputError, match="batch_size"):
        tsds.select(tiny_files["train"], model=tiny_model, finetuning=tsds.FineTuneOptions(batch_size=0), **QUICK)


def test_patience_that_a_selection_would_not_heed_is_refused(tiny_files, tiny_model):
    impatient = tsds.FineTuneOptions(patience=2)
    with pytest.raises(tsds.InputError, match="patience would give the compared models different numbers of steps"):
        tsds.select(tiny_files["train"], model=tiny_model, finetuning=impatient, represent_by="fine_tuned", **QUICK)


def test_rows_of_another_task_are_refused_before_the_work(tiny_files, tiny_model):
    with pytest.raises(tsds.InputError, match="task regression has none"):
        chosen("no.csv", tiny_files, tiny_model, finetuning=tsds.FineTuneOptions(task="regression"))


def test_nothing_removed_makes_three_equal_arms(tiny_files, tiny_model, tmp_path):
    # A largest cut of less than one row leaves "remove nothing" alone.
    events = []
    how = {"largest_cut": 0.005, "grid": 0.005, "progress": events.append}
    out = run(tiny_files, tiny_model, tmp_path / "none", **how)
    assert json.loads((out / "selection.json").read_text())["removal_index"] == 0
    assert "no cut was tried: grid and largest_cut leave none of a row or more" in (out / "manifest.json").read_text()
    found = json.loads((out / "finetune.json").read_text())
    assert len({arm["accuracy"] for arm in found["arms"]}) == 1
    assert all(d["low"] == d["high"] == 0 for d in found["differences"])
    last = [event for event in events if event.stage == "finetune"][-1]
    assert last.done == last.total == found["arms"][0]["steps"]


@pytest.mark.slow
def test_overlapping_texts_and_missing_tests_are_warned_of(tiny_files, tiny_model, tmp_path):
    out = run({"train": tiny_files["train"], "validation": tiny_files["train"]}, tiny_model, tmp_path / "r")
    warnings = json.loads((out / "manifest.json").read_text())["warnings"]
    assert "120 train texts also stand in the validation rows" in warnings
    assert any("no test rows were given" in warning for warning in warnings)
    assert not (out / "finetune.json").exists()
    assert "120 train texts" in (out / "report.html").read_text()


@pytest.mark.slow
def test_seeds_that_were_cut_while_they_took_the_place_of_others_can_be_gone_on_with(tiny_files, tiny_model, tmp_path):
    def tuned(steps, **how):
        options = tsds.FineTuneOptions(steps=steps, batch_size=8, max_length=16)
        given = {"train": tiny_files["train"], "model": str(tiny_model), "options": options}
        return finetune_seed_files([0, 1], str(tmp_path), **given, **how)

    def stop(event):
        raise KeyboardInterrupt

    tuned(2, test=tiny_files["test"])
    with pytest.raises(KeyboardInterrupt):
        tuned(3, test=tiny_files["test"], overwrite=True, progress=stop)
    assert not (tmp_path / "seeds.json").exists()
    tuned(3, test=tiny_files["test"], resume=True)
    found = [json.loads((tmp_path / f"seed-{seed}" / "finetune.json").read_text()) for seed in (0, 1)]
    assert [run["steps"] for run in found] == [3, 3]


def test_a_wrong_name_removes_no_seed_that_was_to_be_overwritten(tiny_files, tiny_model, tmp_path):
    given = {"train": tiny_files["train"], "model": str(tiny_model)}
    options = tsds.FineTuneOptions(steps=1, batch_size=8, max_length=16)
    finetune_seed_files([0], str(tmp_path), **given, test=tiny_files["test"], options=options)
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    for change, words in (
        ({"train": "typo.csv"}, "typo.csv"),
        ({"model": "no/model"}, "no/model"),
        ({"label": "nosuch"}, "no column 'nosuch'"),
        ({"options": dataclasses.replace(options, frozen_layers=9)}, "frozen_layers must be at most 2"),
        ({"resume": True}, "both resume and overwrite"),
    ):
        with pytest.raises(tsds.InputError, match=words):
            finetune_seed_files([0], str(tmp_path), **{**given, "options": options, "overwrite": True, **change})
    assert all(file.read_bytes() == content for file, content in kept.items())


def test_what_does_not_fit_the_model_is_refused_before_the_folder_is_made(tiny_files, tiny_model, tmp_path):
    bare = shutil.copytree(tiny_model, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    out = tmp_path / "o"
    deep = tsds.FineTuneOptions(steps=1, frozen_layers=9)
    with pytest.raises(tsds.InputError, match="compare_seeds is 0"):
        tsds.run(**tiny_files, model=tiny_model, out=out, compare_seeds=0)
    with pytest.raises(tsds.InputError, match="frozen_layers must be at most 2"):
        finetune_files(tiny_files["train"], str(tiny_model), str(out), options=deep)
    with pytest.raises(tsds.InputError, match="has no tokenizer"):
        finetune_files(tiny_files["train"], str(bare), str(out), options=tsds.FineTuneOptions(steps=1))
    with pytest.raises(tsds.InputError, match="has no tokenizer"):
        evaluate_files([tiny_files["train"]], str(bare), str(out), methods=["random"], seeds=[0], flips=[0.1])
    with pytest.raises(tsds.InputError, match="has no tokenizer"):
        tsds.finetune(bare, tiny_files["train"], options=tsds.FineTuneOptions(steps=1), folder=out)
    assert not out.exists()


def test_a_data_set_with_splits_brings_its_own_rows_to_fine_tuning_too(tiny_files, tiny_model):
    own = {name: Dataset.from_csv(tiny_files[name]) for name in tiny_files}
    options = tsds.FineTuneOptions(steps=2, batch_size=8, max_length=16, patience=1, evaluate_every=1)
    tuned = tsds.finetune(tiny_model, DatasetDict(own), options=options)
    assert len(tuned.predictions) == 50
    assert "validation" in str(tuned.history[0])
    unlabelled = own["test"].remove_columns("label").add_column("label", [-1] * 50)
    hidden = tsds.finetune(tiny_model, DatasetDict(own | {"test": unlabelled}), options=options)
    assert hidden.predictions is None


@pytest.mark.slow
def test_where_the_first_group_to_go_is_more_than_the_largest_cut_it_is_said_that_none_was_tried(
    tiny_files, tiny_model, tmp_path
):
    head, *rows = Path(tiny_files["train"]).read_text().splitlines()
    lines = [f"{head},source", *(f"{row},{number % 6}" for number, row in enumerate(rows))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    how = {**QUICK, "subset_size": 4, "samples": 20, "group": "source"}
    for largest, said in ((0.1, True), (0.5, False)):
        found = tsds.select(tmp_path / "a.csv", model=tiny_model, largest_cut=largest, **how)
        assert any("no cut was tried" in warning for warning in found.manifest["warnings"]) == said


def test_a_text_is_not_to_be_cut_to_fewer_tokens_than_there_can_be(tiny_files, tiny_model):
    with pytest.raises(tsds.InputError, match="max_length is 3"):
        tsds.select(tiny_files["train"], model=tiny_model, max_length=3, represent_by="fine_tuned")


@pytest.mark.slow
def test_a_selection_does_not_overwrite_what_it_was_made_from(tiny_files, tiny_model, tmp_path):
    # Always the same number of rows, so that nothing is compiled anew.
    folder = chosen(tiny_files["train"], tiny_files, tiny_model, remove_count=0).save(tmp_path / "run")
    before = (folder / "kept.csv").read_bytes()
    for train in (folder / "kept.csv", tsds.load_data(folder / "kept.csv")):
        found = chosen(train, tiny_files, tiny_model, remove_count=0)
        with pytest.raises(tsds.InputError, match=r"kept\.csv is of the run in"):
            found.save(folder, overwrite=True)
        with pytest.raises(tsds.InputError, match=r"kept\.csv is of the run in"):
            tsds.run(train, model=tiny_model, out=folder, overwrite=True)
    assert (folder / "kept.csv").read_bytes() == before


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers_in_every_file(tiny_files, tiny_model, tmp_path):
    given = {"remove_count": np.int64(3), "samples": np.int32(16), "C": np.float32(1), "check_seeds": np.int64(0)}
    given |= {"layer": list(np.arange(2)), "utility": "probability"}
    chosen = tsds.select(tiny_files["train"], model=tiny_model, pca=8, subset_size=np.int64(40), **given)
    folder = chosen.save(tmp_path / "run")
    assert json.loads((folder / "manifest.json").read_text())["options"]["remove_count"] == 3
    assert len(chosen.removed) == 3


@pytest.mark.slow
def test_a_selection_is_not_said_to_be_saved_before_its_page_is(tiny_files, tiny_model, tmp_path, monkeypatch):
    def full(folder, **how):
        raise OSError("full")

    monkeypatch.setattr("tsds_jax.pipeline.selected.write_report", full)
    chosen = tsds.select(tiny_files["train"], model=tiny_model, **QUICK)
    with pytest.raises(OSError, match="full"):
        chosen.save(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "running"


@pytest.mark.slow
def test_overlapping_texts_are_told_of_and_that_they_were_left_out(tiny_files, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tsds_jax.pipeline.front.select_rows", lambda *given: given)
    rows = Path(tiny_files["train"]).read_text().splitlines()
    held = tmp_path / "held.csv"
    held.write_text("\n".join([*Path(tiny_files["validation"]).read_text().splitlines(), rows[5]]) + "\n")
    for drop, left in ((False, 120), (True, 116)):
        given = tsds.select(tiny_files["train"], validation=held, model=tiny_model, drop_overlap=drop, **QUICK)
        splits, manifest = given[0], given[5]
        words = "4 train texts also stand in the validation rows" + (", and were left out" if drop else "")
        assert words in manifest["warnings"]
        assert len(splits.train) == left


def test_a_run_whose_model_says_how_it_is_pooled_is_that_which_asks_for_that_pooling(tiny_files, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    files = {"validation": tiny_files["validation"], "out": tmp_path / "run"}
    out = tsds.run(tiny_files["train"], **files, model=model, **QUICK)
    assert json.loads((out / "manifest.json").read_text())["options"]["pooling"] == "cls"
    assert "cls pooling" in (out / "report.html").read_text()
    tsds.run(tiny_files["train"], **files, model=model, pooling="cls", resume=True, **QUICK)
    with pytest.raises(tsds.InputError, match="pooling"):
        tsds.run(tiny_files["train"], **files, model=model, pooling="mean", resume=True, **QUICK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": "nowhere.csv"}, "nowhere.csv"),
        ({"text": "tweet"}, "tweet"),
        ({"label": "stars"}, "stars"),
        ({"model": "no/folder/here"}, "no/folder/here"),
        ({"subset_size": 121}, "subset_size 121 is more than the 120 training points: give at most 120"),
        ({"pca": 33}, "pca 33 is more than 120 training rows of width 32 have: give at most 32"),
        ({"pooling": "max"}, "pooling 'max' is unknown"),
        ({"represent_by": "magic"}, "represent_by 'magic' is unknown: use one of pretrained, fine_tuned, cross_fitted"),
        ({"utility": "f1"}, "utility 'f1' is unknown"),
        ({"rule": "elbow"}, "rule 'elbow' is unknown"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": "many"}, "samples is 'many'"),
        ({"C": -1}, "C is -1"),
        ({"truncation": -1}, "truncation is -1"),
        ({"subset_size": 0}, "subset_size is 0"),
        ({"estimator": "exact", "subset_size": None}, "120 points are too many to enumerate"),
        ({"grid": 0}, "grid is 0"),
        ({"grid": 0.6, "largest_cut": 0.5}, "largest_cut is 0.5"),
        ({"largest_cut": 2}, "largest_cut is 2"),
        ({"layer": 9}, "layer is 9"),
        ({"max_length": 1000}, "max_length is 1000"),
        ({"pca": -1}, "pca is -1"),
        ({"pca": "8"}, "pca is '8'"),
        ({"seed": -1}, "seed is -1"),
        ({"cache": __file__}, "is a file: give another place"),
        ({"validation_fraction": "x"}, "validation_fraction is 'x'"),
        ({"finetuning": {"steps": 3}}, "finetuning is a dict: give FineTuneOptions"),
        (
            {"represent_by": "cross_fitted", "finetuning": tsds.FineTuneOptions(tune="head")},
            "represent_by 'cross_fitted' with tune 'head' and frozen_layers 0 trains nothing of what represents",
        ),
        (
            {"represent_by": "fine_tuned", "finetuning": tsds.FineTuneOptions(frozen_layers=2)},
            "tune 'all' and frozen_layers 2 trains nothing",
        ),
        ({"finetuning": tsds.FineTuneOptions(patience=2)}, "patience would give the compared models"),
        ({"finetuning": tsds.FineTuneOptions(batch_size=0)}, "batch_size"),
        ({"finetuning": tsds.FineTuneOptions(task="regression")}, "class, and task regression has none"),
        ({"finetuning": tsds.FineTuneOptions(frozen_layers=3)}, "frozen_layers must be at most 2"),
        ({"sample": 3}, "there is no option 'sample': use pooling, "),
        ({"utility": "class_wise"}, "rule 'cross_fitted' .* utility 'class_wise' cannot: use rule 'one_se'"),
        ({"estimator": "banzhaf", "subset_size": None}, "estimator 'banzhaf' cannot: use rule 'one_se'"),
        ({"remove_count": 3, "remove_share": 0.1}, "remove_count and remove_share both say how many"),
        ({"remove_count": 120}, "remove_count is 120: give a whole number from 0 to 119"),
        ({"remove_share": 1.0}, "remove_share is 1.0"),
        ({"remove_below": 0.0, "by_class": True}, "remove_below and by_class order the rows in two ways"),
        ({"class_floor": 1.5}, "class_floor is 1.5"),
        ({"check_seeds": -1}, "check_seeds is -1"),
        ({"check_seeds": 1, "check_steps": 0}, "check_steps is 0"),
        ({"class_floor": 1.0}, "no row may be removed: loosen class_floor"),
        ({"group": "source"}, "no column 'source'; it has 'id', 'text', 'label'"),
        ({"group": "text", "utility": "class_wise", "rule": "one_se"}, "'class_wise' is each row's own"),
        ({"protect": "text"}, "row 0: column 'text' holds '"),
    ],
)
def test_bad_input_is_refused_before_a_folder_is_made(change, words, tiny_files, tiny_model, tmp_path):
    given = {**tiny_files, "model": tiny_model, **QUICK, **change}
    with pytest.raises(tsds.InputError, match=words) as caught:
        tsds.run(out=tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_where_all_rows_of_each_class_are_copies_the_option_that_unties_them_is_named(tiny_model):
    rows = Dataset.from_dict({"text": ["same", "other"] * 8, "label": ["a", "b"] * 8})
    held = Dataset.from_dict({"text": ["these", "those"], "label": ["a", "b"]})
    with pytest.raises(tsds.InputError, match="no row may be removed: loosen class_floor, protect, group or tie_dup"):
        tsds.select(rows, validation=held, model=tiny_model, **QUICK)


def test_too_many_classes_are_refused_before_any_order_of_removal_and_before_the_model_is_read():
    rows = Dataset.from_dict({"text": [f"t {k}" for k in range(2002)], "label": [f"l{k // 2}" for k in range(2002)]})
    with pytest.raises(tsds.InputError, match="1,001 classes are more than the 1,000 that a selection takes"):
        tsds.select(rows, model="no/folder/here")


def test_a_model_in_half_precision_selects_but_is_not_fine_tuned(tiny_files, tiny_model, tmp_path):
    coarse = tsds.load_encoder(tiny_model, dtype="bfloat16")
    with pytest.raises(tsds.InputError, match="bfloat16, too coarse to fine-tune in: load it as float32"):
        tsds.run(**tiny_files, model=coarse, out=tmp_path / "out")
    how = {"rule": "argmax", **QUICK, "check_seeds": 1}
    s = tsds.select(tiny_files["train"], validation=tiny_files["validation"], model=coarse, **how)
    assert s.manifest["model"]["sha256"] == coarse.fingerprint()
    assert s.removal_index > 0
    words = "the cut was not checked on the model itself, which cannot be fine-tuned in bfloat16"
    assert words in s.manifest["warnings"]
    with pytest.raises(tsds.InputError, match="too coarse to fine-tune in"):
        chosen(tiny_files["train"], tiny_files, coarse, represent_by="fine_tuned")


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(tiny_files, tiny_model, tmp_path):
    broken = tmp_path / "model"
    shutil.copytree(tiny_model, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(tsds.InputError, match=r"\[48\].*\[64\]|48.*64|64.*48"):
        tsds.run(**tiny_files, model=broken, out=tmp_path / "out")


def test_another_run_in_the_folder_is_refused_before_anything_is_read(finished, tiny_model):
    with pytest.raises(tsds.InputError, match="holds another run"):
        tsds.run("nowhere.csv", model=tiny_model, out=finished)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "folder"])
def test_kept_rows_come_back_in_the_format_and_columns_that_came(kind, tiny_files, tiny_model, tmp_path):
    rows = Dataset.from_dict({"id": list(range(120)), **{c: column(tiny_files["train"], c) for c in ("text", "label")}})
    if kind == "folder":
        rows.save_to_disk(tmp_path / "data")
        source = tmp_path / "data"
    else:
        source = tmp_path / f"data.{kind}"
        (rows.to_json if kind == "jsonl" else rows.to_parquet)(source)
    s = tsds.select(source, model=tiny_model, rule="argmax", **QUICK)
    out = s.save(tmp_path / "out")
    kept = tsds.load_data(out / ("kept" if kind == "folder" else f"kept.{kind}"))
    assert kept.rows.column_names == ["id", "text", "label"]
    assert kept.rows["id"][:] == s.kept.rows["id"][:]
    # Rows set apart for validation are neither kept nor removed, and are not lost either.
    held = tsds.load_data(out / ("validation" if kind == "folder" else f"validation.{kind}"))
    assert sorted([*s.kept.rows["id"], *s.removed.rows["id"], *held.rows["id"]]) == list(range(120))
    table = pq.read_table(out / "values.parquet").to_pydict()
    assert [rows["text"][row] for row in table["row"]] == table["text"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "folder"])
def test_kept_rows_are_whole_and_as_they_are_now_after_another_try(kind, tiny_files, tiny_model, tmp_path):
    """A lost power may have cut them, and of the other columns a run's identity knows nothing."""
    columns = {name: column(tiny_files["train"], name) for name in ("text", "label")}
    for note in ("old", "new"):
        rows = Dataset.from_dict({**columns, "note": [note] * 120})
        source = tmp_path / f"{note}.jsonl"
        if kind == "folder":
            source = rows
        else:
            rows.to_json(source)
        s = tsds.select(source, model=tiny_model, remove_count=6, **QUICK)
        run = open_run(tmp_path / "out", s.manifest["identity"], resume=True)
        write_selection(run, s)
        for name in ("kept", "validation"):
            written = run.path / (name if kind == "folder" else f"{name}.jsonl")
            assert set(tsds.load_data(written).rows["note"]) == {note}
            cut = max(written.rglob("*.arrow")) if kind == "folder" else written
            cut.write_bytes(cut.read_bytes()[:50])


@pytest.mark.slow
def test_sentence_pairs_run_through(tiny_files, tiny_model, tmp_path):
    texts = column(tiny_files["train"], "text")
    rows = Dataset.from_dict({"a": texts, "b": texts[::-1], "label": column(tiny_files["train"], "label")})
    s = tsds.select(rows, text=("a", "b"), model=tiny_model, **QUICK)
    table = pq.read_table(s.save(tmp_path / "out") / "values.parquet").to_pydict()
    assert [(rows["a"][row], rows["b"][row]) for row in table["row"]] == list(
        zip(table["text"], table["text_pair"], strict=True)
    )


def column(file, name):
    return tsds.load_data(file).rows[name][:]


def test_a_text_that_the_model_cannot_take_removes_no_run_that_was_to_be_overwritten(tiny_files, tiny_model, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text('{"identity": {}}')
    (tmp_path / "run" / "report.html").write_text("of long work")
    rows = tsds.load_data(tiny_files["test"])
    rows = dataclasses.replace(rows, texts=[*rows.texts[:-1], " "])
    for role in ("train", "validation", "test"):
        with pytest.raises(tsds.InputError, match="row 49 is empty"):
            run({**tiny_files, role: rows}, tiny_model, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "report.html").read_text() == "of long work"
