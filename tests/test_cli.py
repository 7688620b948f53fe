"""The command line: the functions' answers, exit codes 0, 1 and 2, one line an error, no traceback."""

import errno
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from tsds_jax.cli import main
from tsds_jax.data import load_data, write_rows
from tsds_jax.encoders import load_encoder
from tsds_jax.finetuning import load_target
from tsds_jax.stages import evaluate_files

QUICK = [
    "--check-seeds",
    "0",
    "--samples",
    "16",
    "--pca",
    "8",
    "--subset-size",
    "40",
    "--steps",
    "4",
    "--batch-size",
    "8",
    "--max-length",
    "32",
    "--rule",
    "argmax",
    "--utility",
    "probability",
]


@pytest.fixture
def tsds(capsys):
    """Runs the command; gives its exit code, standard output and standard error."""

    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return call


def files(tiny_files, *names):
    return [part for name in names or tiny_files for part in (f"--{name}", tiny_files[name])]


@pytest.mark.slow
def test_run_prints_the_outcome_and_writes_the_report(tsds, tiny_files, tiny_model, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = tsds("run", *files(tiny_files), "--model", tiny_model, "--out", out, *QUICK)
    assert code == 0, stderr
    assert "All 120 training rows were valued" in stdout
    assert "as many rows at random" in stdout
    assert str(out / "report.html") in stdout
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["options"]["samples"] == 16
    assert manifest["finetuning"]["steps"] == 4
    assert "finetune 12/12 steps" in stderr
    again = tsds("run", *files(tiny_files), "--model", tiny_model, "--out", out, *QUICK)
    assert again[0] == 2
    assert "resume it (--resume), overwrite it (--overwrite), or give another folder" in again[2]
    assert tsds("run", *files(tiny_files), "--model", tiny_model, "--out", out, *QUICK, "--resume")[0] == 0
    assert tsds("report", "--out", out)[0] == 0


def test_texts_are_embedded_once_for_one_cache(tsds, tiny_files, tiny_model, tmp_path):
    arguments = ["embed", "--data", tiny_files["train"], "--model", tiny_model, "--cache", tmp_path / "cache"]
    arguments += ["--checkpoint-every", 0]
    shown = [tsds(*arguments, "--out", tmp_path / f"{number}.npz") for number in range(2)]
    assert [code for code, _, _ in shown] == [0, 0]
    assert ["from the cache" in stderr for _, _, stderr in shown] == [False, True]
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        np.testing.assert_array_equal(first["x"], second["x"])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    code, _, stderr = tsds(*arguments, "--out", tmp_path / "coarse.npz", "--dtype", "bfloat16")
    assert (code, "from the cache" in stderr) == (0, False)
    code, _, stderr = tsds(*arguments, "--out", tmp_path / "none.npz", "--dtype", "float16")
    assert (code, "supported: float32, bfloat16" in stderr) == (2, True)


@pytest.mark.slow
def test_flags_win_over_the_file_and_the_file_over_defaults(tsds, tiny_files, tiny_model, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        f'model = "{tiny_model}"\nsamples = 3\nsubset-size = 40\npca = 8\ncheck-seeds = 0\nout = "{tmp_path / "r"}"\n'
    )
    code, _, stderr = tsds("select", *files(tiny_files, "train"), "--config", config, "--samples", 16)
    assert code == 0, stderr
    options = json.loads((tmp_path / "r" / "manifest.json").read_text())["options"]
    assert (options["samples"], options["subset_size"], options["pca"], options["rule"]) == (16, 40, 8, "cross_fitted")


def test_data_leaves_protected_rows_among_the_training_rows(tsds, tmp_path):
    lines = ["text,label,checked", *(f"{n} film,{'pos' if n % 3 else 'neg'},{n % 2}" for n in range(40))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    given = ("--out", tmp_path / "d", "--protect", "checked", "--validation-fraction", 0.3)
    assert tsds("data", "--train", tmp_path / "t.csv", *given)[0] == 0
    held = (tmp_path / "d" / "validation.csv").read_text().splitlines()[1:]
    assert len(held) > 5
    assert {line[-1] for line in held} == {"0"}


def test_data_names_a_dozen_classes_and_steers_no_terminal(tsds, tmp_path):
    rows = [{"text": f"{number} film", "label": f"{number % 14:02}"} for number in range(140)]
    rows += [{"text": f"{number} plot", "label": "\x1b]0;x\x07\x1b[2J\nA"} for number in range(10)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, shown, _ = tsds("data", "--train", tmp_path / "t.jsonl", "--out", tmp_path / "d")
    assert code == 0
    assert len(shown.splitlines()) == 2
    assert shown.replace("\n", "").isprintable()
    assert "and 3 classes more" in shown


@pytest.mark.slow
def test_the_stages_one_by_one(tsds, tiny_files, tiny_model, tmp_path):
    assert tsds("data", *files(tiny_files, "train", "test"), "--out", tmp_path / "d")[0] == 0
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"train.csv", "validation.csv", "test.csv"}
    for name in ("train", "validation"):
        source = tmp_path / "d" / f"{name}.csv"
        target = tmp_path / f"{name}.npz"
        found = tsds("embed", "--data", source, "--label", "label", "--model", tiny_model, "--out", target)
        assert found[0] == 0, found[2]
    with np.load(tmp_path / "train.npz", allow_pickle=False) as stored:
        assert stored["x"].shape == (96, 32)
        assert set(stored["y"]) == {"neg", "pos"}
    arrays = ["--train", tmp_path / "train.npz", "--validation", tmp_path / "validation.npz"]
    assert tsds("value", *arrays, "--out", tmp_path / "v", *QUICK[2:8])[0] == 0
    table = pq.read_table(tmp_path / "v" / "values.parquet").to_pydict()
    assert sorted(table["rank"]) == list(range(1, 97))
    finetune = ("finetune", *files(tiny_files), "--model", tiny_model, "--out", tmp_path / "f", "--steps", 3)
    tuned = tsds(*finetune)
    assert tuned[0] == 0, tuned[2]
    assert "accuracy" in tuned[1]
    assert "started at random: classifier.bias, classifier.weight" in tuned[1]
    table = pq.read_table(tmp_path / "f" / "predictions.parquet").to_pydict()
    assert len(table["row"]) == 50
    assert not (tmp_path / "f" / "checkpoints").exists()
    model = load_target(tmp_path / "f" / "model")
    texts = load_data(tiny_files["test"]).texts
    assert [model.classes[place] for place in model.predict(texts)] == table["prediction"]
    assert "holds another run" in tsds(*finetune)[2]
    again = tsds(*finetune, "--resume")
    assert again[:2] == tuned[:2]
    (tmp_path / "f" / "predictions.parquet").unlink()
    code, _, error = tsds(*finetune, "--resume")
    assert code == 2
    assert "holds a finished run without its predictions.parquet: overwrite it" in error


@pytest.mark.slow
def test_without_test_rows_the_model_is_saved_and_not_tested(tsds, tiny_files, tiny_model, tmp_path):
    rows = ("--train", tiny_files["train"], "--validation", tiny_files["validation"], "--model", tiny_model)
    code, shown, errors = tsds("finetune", *rows, "--out", tmp_path / "f", "--steps", 2)
    assert code == 0, errors
    assert "not tested (best of 2 steps at" in shown
    assert "predictions" not in shown
    assert not (tmp_path / "f" / "predictions.parquet").exists()
    assert len(load_target(tmp_path / "f" / "model").predict(["a film"])) == 1
    code, shown, errors = tsds("finetune", *rows[:2], *rows[4:], "--out", tmp_path / "g", "--steps", 2)
    assert code == 0, errors
    assert "not tested (after 2 steps)" in shown  # none was better than another


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(), ("--seeds", "0,1")])
def test_texts_that_fine_tuning_cuts_are_counted_in_a_warning_as_a_run_has_it(
    seeds, tsds, tiny_files, tiny_model, tmp_path
):
    rows = [argument for name, file in tiny_files.items() for argument in (f"--{name}", file)]
    told = ("finetune", *rows, "--model", tiny_model, "--out", tmp_path / "f", "--steps", 1, *seeds)
    code, shown, errors = tsds(*told, "--max-length", 8)
    assert code == 0, errors
    # All are of seven words, between two marks.
    assert shown.count("warning: 230 texts were cut at 8 tokens in fine-tuning") == 1
    assert "were cut" not in tsds(*told, "--overwrite")[1]


@pytest.mark.slow
def test_a_regression_of_several_seeds_from_the_command_line(tsds, tiny_model, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"a {word} film,{i}\n" for i, word in enumerate("abc")))
    rows = [argument for role in ("train", "test") for argument in (f"--{role}", tmp_path / "rows.csv")]
    finetune = ("finetune", *rows, "--model", tiny_model, "--task", "regression", "--steps", 2, "--out", tmp_path / "f")
    code, shown, errors = tsds(*finetune, "--seeds", "0,1")
    assert code == 0, errors
    assert "test loss" in shown
    assert "standard deviation" in shown
    fresh = "the checkpoint has no head for this, so it started at random: classifier.bias, classifier.weight"
    assert shown.index(fresh) < shown.index("test loss")
    assert shown.count(fresh) == 1
    assert all(f"seed {seed}, loss" in errors for seed in (0, 1))
    found = json.loads((tmp_path / "f" / "seeds.json").read_text())
    assert found["mean"]["loss"] == pytest.approx(sum(run["loss"] for run in found["runs"]) / 2)
    table = pq.read_table(tmp_path / "f" / "seed-1" / "predictions.parquet").to_pydict()
    assert list(table) == ["row", "label", "prediction"]
    assert table["label"] == [0.0, 1.0, 2.0]
    assert "not whole numbers" in tsds(*finetune, "--seeds", "0,x")[2]
    assert "holds runs of other seeds: resume it (--resume)" in tsds(*finetune, "--seeds", 2)[2]
    assert "seeds.json has seed 0 too: resume with all its seeds" in tsds(*finetune, "--seeds", "1,2", "--resume")[2]
    of_one = (*finetune[:-1], tmp_path / "f" / "seed-0")
    assert "seed-0 is a run's: give another for the runs of several seeds" in tsds(*of_one, "--seeds", "1,2")[2]
    assert json.loads((tmp_path / "f" / "seeds.json").read_text()) == found


@pytest.mark.parametrize("in_file", ["", "seed = 7", "seeds = [0, 1]"])
def test_one_seed_beside_several_is_refused_wherever_they_are_given(in_file, tsds, tmp_path):
    (tmp_path / "c.toml").write_text(in_file)
    flags = ["--seed", "7"] * ("seed =" not in in_file) + ["--seeds", "0,1"] * ("seeds =" not in in_file)
    told = ("--train", "t", "--model", "m", "--out", tmp_path / "o", "--config", tmp_path / "c.toml")
    code, _, errors = tsds("finetune", *told, *flags)
    assert (code, errors) == (2, "tsds: error: both seeds and seed were given: give one of them\n")


@pytest.mark.slow
def test_the_home_folder_is_meant_wherever_a_path_begins_with_its_sign(
    tsds, tiny_files, tiny_model, tmp_path, monkeypatch
):
    import tsds_jax.report  # noqa: F401 - matplotlib makes folders in the home that it finds when it is imported

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder(tiny_model)
    encoder.embed(["a film"], cache="~/cache")
    encoder.save_pretrained("~/model")
    write_rows(load_data(tiny_files["test"]), "~/rows", "train")
    (home / "c.toml").write_text(
        f"model = '~/model'\ntrain = '~/rows/train.csv'\ntest = '{tiny_files['test']}'\nsteps = 1"
    )
    code, _, errors = tsds("finetune", "--config", "~/c.toml", "--seeds", 0, "--out", "~/tuned")
    assert code == 0, errors
    np.savez(home / "a.npz", x=np.arange(12.0).reshape(6, 2), y=[0, 1] * 3)
    value = ("value", "--train", "~/a.npz", "--validation", "~/a.npz", "--source", "ridge", "--samples", 2)
    code, _, errors = tsds(*value, "--subset-size", 4, "--out", "~/values")
    assert code == 0, errors
    assert f"{home / 'values'} is a folder of `tsds value`" in tsds("report", "--out", "~/values")[2]
    found = {path.name for path in home.iterdir()}
    assert found == {"a.npz", "c.toml", "cache", "model", "rows", "tuned", "values"}
    assert (home / "tuned" / "seeds.json").exists()
    assert list(tmp_path.iterdir()) == [home]


@pytest.mark.slow
def test_methods_are_compared_from_the_command_line(tsds, tiny_files, tiny_model, tmp_path):
    told = ("--methods", "random,loss", "--flip-shares", "0.1", "--seeds", "0,1", "--pca", 8, "--out", tmp_path / "e")
    told += ("--layer", "-1,0", "--finetuned", "loss", "--finetuned-shares", "0.2", "--steps", 2)
    code, shown, errors = tsds("evaluate", "--data", tiny_files["train"], "--model", tiny_model, *told)
    assert code == 0, errors
    assert "## train, 10% of the labels flipped" in shown
    assert "| loss | 0." in shown
    assert "fine-tuned, 20 % removed" in shown
    assert json.loads((tmp_path / "e" / "manifest.json").read_text())["identity"]["options"]["layer"] == [-1, 0]
    assert (tmp_path / "e" / "curves" / "train-0.1.svg").exists()
    wrong = tsds("evaluate", "--data", "x", "--model", "m", "--out", "o", "--flip-shares", "a,b")
    assert wrong[0] == 2
    assert "flip_shares 'a,b' are not numbers" in wrong[2]


@pytest.mark.slow
def test_several_labels_a_row_from_the_command_line(tsds, tiny_model, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na good film,good|film\na bad film,film\ngood music,good\nso so,\n")
    rows = [argument for role in ("train", "test") for argument in (f"--{role}", tmp_path / "rows.csv")]
    told = ("--task", "multi_label", "--steps", 2, "--out", tmp_path / "f")
    code, shown, errors = tsds("finetune", *rows, "--model", tiny_model, *told)
    assert code == 0, errors
    assert "test micro_f1" in shown
    table = pq.read_table(tmp_path / "f" / "predictions.parquet").to_pydict()
    assert list(table) == ["row", "label", "prediction", "probability_film", "probability_good"]
    assert table["label"] == ["film|good", "film", "good", ""]
    said = ["|".join(n for n in ("film", "good") if table[f"probability_{n}"][row] >= 0.5) for row in range(4)]
    assert table["prediction"] == said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "--train is missing"),
        (["run", "--train", "x.csv"], "--model is missing"),
        (["run", "--train", "x.csv", "--model", "m", "--out", "o", "--config", "none.toml"], "cannot be read"),
        (["run", "--train", "no.csv", "--model", "m", "--out", "o"], "no.csv"),
        (["finetune", "--train", "t", "--model", "m", "--test", "t", "--out", "o", "--batch-size", "0"], "batch_size"),
        (["report", "--out", "nowhere"], "nowhere"),
        (["evaluate", "--data", "t.csv", "--model", "m"], "--out is missing"),
        (["no-such-command"], "no-such-command"),
        (["data", "--train", "no.csv", "--out", "d", "--seed", "-1"], "seed is -1"),
        (["value", "--train", "a.npz", "--validation", "b.npz", "--out", "o"], "there is no file a.npz"),
        (["embed", "--data", "x.csv", "--model", "m", "--out", "x.txt"], "does not end in .npz"),
        (
            ["run", "--train", "t.csv", "--model", "m", "--out", "o", "--checkpoint-every", "-1"],
            "checkpoint_every is -1.0: give a number of at least 0",
        ),
        (
            ["finetune", *("--train", "t", "--test", "t", "--model", "m", "--out", "o"), "--checkpoint-every", "-1"],
            "checkpoint_every is -1.0",
        ),
        (
            ["value", "--train", "a.npz", "--validation", "b.npz", "--out", "o", "--checkpoint-every", "nan"],
            "checkpoint_every is nan",
        ),
        (["run", "--no-such-flag"], "no-such-flag"),
        (["demo", "--validation-fraction", "0.3"], "validation-fraction"),
        (["run", "--samples", "many"], "--samples"),
    ],
)
def test_bad_input_ends_with_exit_code_2_and_names_it(tsds, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = tsds(*arguments)
    assert code == 2
    assert words in stderr
    assert stderr.startswith("tsds: error: ")
    assert stderr.count("\n") == 1
    assert stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("sampels = 3", "'sampels', which this command does not know"),
        ('samples = "many"', "samples is 'many': give a whole number"),
        ("samples = 2.5", "samples is '2.5': give a whole number"),
        ("samples = true", "samples is 'True': give a whole number"),
        ('C = "x"', "C is 'x': give a number"),
        ("model = 5", "model is '5': give a string"),
        ("text = 3", "text is '3': give a string"),
        ("text = [1, 2]", "text is '[1, 2]': give a string, or a list of such"),
        ("layer = [1, true]", "layer is '[1, True]': give a whole number, or a list of such"),
        ('layer = "a,b"', "layer 'a,b' are not whole numbers: give some, joined by commas"),
        ("layer = []", "layer is '[]': give a whole number"),
        ('overwrite = "no"', "overwrite is 'no': give true or false"),
        ("samples = ", "is no TOML"),
    ],
)
def test_a_config_entry_of_the_wrong_kind_is_named_before_anything_happens(tsds, entry, words, tmp_path):
    (tmp_path / "c.toml").write_text(entry + "\n")
    code, _, stderr = tsds("run", "--config", tmp_path / "c.toml", "--train", "no.csv", "--out", tmp_path / "o")
    assert code == 2
    assert words in stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_flag_can_switch_off_what_the_config_switches_on(tsds, tiny_files, tiny_model, tmp_path):
    (tmp_path / "c.toml").write_text("drop_overlap = true\nsamples = 16\npca = 8\nsubset-size = 40\ncheck_seeds = 0\n")
    arguments = [*files(tiny_files, "train"), "--model", tiny_model, "--config", tmp_path / "c.toml"]
    for flags, expected in (([], True), (["--no-drop-overlap"], False)):
        out = tmp_path / str(expected)
        code, _, stderr = tsds("select", *arguments, "--out", out, *flags)
        assert code == 0, stderr
        assert json.loads((out / "manifest.json").read_text())["options"]["drop_overlap"] is expected


def test_a_config_file_has_several_as_a_list_or_joined_as_a_flag_has_them(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(
        "tsds_jax.stages.evaluate_files",
        lambda sources, *_, **how: given.append({"data": sources, **how}) or sys.exit(0),
    )
    for data, methods, shares, seeds, layer in (
        ('["a.csv", "b.csv"]', '["random", "loss"]', "[0, 0.1]", "[0, 1]", "[-1, -2]"),
        ('"a.csv, b.csv"', '"random, loss"', '"0,0.1"', '"0,1"', '"-1,-2"'),
    ):
        (tmp_path / "c.toml").write_text(
            f"data = {data}\nmethods = {methods}\nflip_shares = {shares}\nseeds = {seeds}\nlayer = {layer}\n"
        )
        arguments = ["--model", "m", "--out", str(tmp_path / "o")]
        with pytest.raises(SystemExit):
            main(["evaluate", *arguments, "--config", str(tmp_path / "c.toml")])
    one, other = given
    assert one["data"] == ("a.csv", "b.csv")
    assert one["methods"] == ("random", "loss")
    assert one["flips"] == (0.0, 0.1)
    assert (one["seeds"], one["layer"]) == ((0, 1), (-1, -2))
    names = ("data", "methods", "flips", "seeds", "layer")
    assert [one[name] for name in names] == [other[name] for name in names]


@pytest.mark.parametrize("given", ["--overwrite", "config", None])
def test_what_goes_on_takes_the_place_of_overwrite_wherever_that_was_asked_for(tsds, given, monkeypatch, tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device", "o/x")
    (tmp_path / "c.toml").write_text("overwrite = true\n")
    arguments = ["finetune", "--train", "t.csv", "--model", "m", "--out", tmp_path / "o"]
    arguments += ["--config", tmp_path / "c.toml"] if given == "config" else [given] if given else []
    way_on = "the same command with --resume" + (" in place of --overwrite" if given else "") + " goes on"
    for error in (KeyboardInterrupt(), full):
        monkeypatch.setattr("tsds_jax.stages.finetune_files", mock.Mock(side_effect=error))
        assert way_on in tsds(*arguments)[2]


@pytest.mark.parametrize("command", ["finetune", "finetune --seeds 0,1", "demo"])
def test_a_run_that_was_not_overwritten_yet_is_overwritten_by_the_same_command_again(
    command, tsds, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    folder = "tsds-demo" if command == "demo" else "o/seed-0" if "seeds" in command else "o"
    manifest = tmp_path / folder / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    os.utime(manifest, (0, 0))
    given = [] if command == "demo" else ["--train", "t.csv", "--model", "m", "--out", "o"]
    arguments = [*command.split(), *given, "--overwrite"]

    def before(*_, **__):
        raise KeyboardInterrupt

    def behind(*_, **__):
        manifest.write_text('{"status": "running"}')
        raise KeyboardInterrupt

    called = {"demo": "demo.demo", "finetune": "stages.finetune_files"}.get(command, "stages.finetune_seed_files")
    monkeypatch.setattr(f"tsds_jax.{called}", before)
    assert "stopped: the same command goes on" in tsds(*arguments)[2]
    monkeypatch.setattr(f"tsds_jax.{called}", behind)
    assert "stopped: the same command with --resume in place of --overwrite goes on" in tsds(*arguments)[2]


@pytest.mark.parametrize(
    ("in_file", "flags", "expected"),
    [
        ("steps = 1000", ["--epochs", "5"], (None, 5.0)),
        ("epochs = 5.0", ["--steps", "7"], (7, 3.0)),
        ("steps = 1000", ["--batch-size", "4"], (1000, 3.0)),
        ("steps = 1000\nepochs = 5.0", ["--steps", "7"], (7, 3.0)),
        ("", ["--epochs", "5", "--steps", "7"], None),
        ("steps = 1000\nepochs = 5.0", [], None),
    ],
)
def test_a_flag_of_how_long_to_train_wins_over_the_files_other_and_two_are_refused(
    tsds, in_file, flags, expected, monkeypatch, tmp_path
):
    given = []
    monkeypatch.setattr("tsds_jax.pipeline.run", lambda **how: given.append(how["finetuning"]) or sys.exit(0))
    (tmp_path / "c.toml").write_text(in_file + "\n")
    places = ["--train", "t.csv", "--model", "m", "--out", tmp_path / "o", "--config", tmp_path / "c.toml"]
    code, _, stderr = tsds("run", *places, *flags)
    if expected is None:
        words = "tsds: error: epochs and steps both say how long to train: give one of them\n"
        assert (code, stderr) == (2, words)
    else:
        assert [(found.steps, found.epochs) for found in given] == [expected]


def test_a_flag_of_how_many_to_remove_wins_over_another_in_the_file(tsds, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("tsds_jax.pipeline.run", lambda **how: given.append(how) or sys.exit(0))
    (tmp_path / "c.toml").write_text("remove_share = 0.1\nsamples = 9\n")
    places = ["--train", "t.csv", "--model", "m", "--out", tmp_path / "o", "--config", tmp_path / "c.toml"]
    tsds("run", *places, "--remove-count", "5")
    tsds("run", *places)
    amounts = [[how.get(name) for name in ("remove_count", "remove_share", "samples")] for how in given]
    assert amounts == [[5, None, 9], [None, 0.1, 9]]


def test_a_name_that_the_terminal_cannot_show_ends_no_run(monkeypatch, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"a{k},\u2192\nb{k},\u00e9\n" for k in range(4)), "utf-8")
    shown = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", shown)
    with pytest.raises(SystemExit) as ended:
        main(["data", "--train", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o")])
    shown.flush()
    assert ended.value.code in (0, None)
    assert "\u00e9 3, ? 3" in shown.buffer.getvalue().decode("latin-1")


def test_data_sets_are_called_by_their_files_in_whatever_script(monkeypatch, tmp_path):
    names = []
    monkeypatch.setattr("tsds_jax.stages.evaluate", lambda data, **how: names.extend(data) or tmp_path)
    for name in ("\u8a13\u7df4", "\u0442\u0435\u0441\u0442", "a b"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"a{k},x\nb{k},y\n" for k in range(9)), "utf-8")
    evaluate_files([str(file) for file in sorted(tmp_path.glob("*.csv"))], "m", "o")
    assert names == ["a-b", "\u0442\u0435\u0441\u0442", "\u8a13\u7df4"]


def test_a_text_column_may_begin_with_a_space(tsds, tmp_path):
    (tmp_path / "t.csv").write_text("id, text,label\n" + "".join(f"1,a{k},x\n2,b{k},y\n" for k in range(4)))
    code, printed, error = tsds("data", "--train", tmp_path / "t.csv", "--text", " text", "--out", tmp_path / "o")
    assert code == 0, error
    assert "train" in printed


def test_embed_takes_one_data_set_whose_name_may_have_a_comma(tsds, tmp_path):
    arguments = ["embed", "--model", "m", "--out", tmp_path / "x.npz"]
    assert "a,b.csv: no such file or folder" in tsds(*arguments, "--data", "a,b.csv")[2]
    (tmp_path / "c.toml").write_text('data = ["a.csv", "b.csv"]\n')
    assert "give a string" in tsds(*arguments, "--config", tmp_path / "c.toml")[2]


def test_rows_of_one_class_are_embedded_with_their_labels(tsds, tiny_model, tmp_path):
    (tmp_path / "held.csv").write_text("text,label\na good film,pos\na fine dog,pos\n")
    told = ("embed", "--data", tmp_path / "held.csv", "--model", tiny_model, "--out", tmp_path / "x.npz")
    code, _, stderr = tsds(*told, "--label", "label")
    assert code == 0, stderr
    with np.load(tmp_path / "x.npz") as stored:
        assert (stored["x"].shape, stored["y"].tolist()) == ((2, 32), ["pos", "pos"])
    wrong = tsds(*told[:-1], tmp_path / "y.npz", "--label", "nosuch")
    assert (wrong[0], "held.csv (labelled data): no column 'nosuch'; it has 'text', 'label'" in wrong[2]) == (2, True)


@pytest.mark.slow
def test_select_checks_by_the_fine_tuning_that_its_flags_say(tsds, tiny_files, tiny_model, tmp_path):
    flags = ["--represent-by", "fine_tuned", "--check-seeds", "0", "--max-length", "16", "--learning-rate", "1e-3"]
    quick = [*QUICK[2:8], *QUICK[-2:]]
    out = tmp_path / "o"
    code, _, stderr = tsds("select", *files(tiny_files, "train"), "--model", tiny_model, "--out", out, *flags, *quick)
    assert code == 0, stderr
    used = json.loads((out / "manifest.json").read_text())["finetuning"]
    assert (used["max_length"], used["learning_rate"]) == (16, 1e-3)


@pytest.mark.parametrize("cache", ["o", "o/cache"])
def test_select_refuses_a_cache_before_the_work_that_its_new_folder_could_not_hold(tsds, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = tsds("select", "--train", "x.csv", "--model", "m", "--out", "o", "--cache", cache)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"cache {cache} lies in o, which has to be new or empty: give another place" in stderr
    assert not list(tmp_path.iterdir())
    assert "x.csv: no such file" in tsds("select", "--train", "x.csv", "--model", "m", "--out", "o", "--cache", "c")[2]


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ("run --train old/kept.csv --model m --out old", "old/kept.csv"),
        ("run --train t --validation link/validation.csv --model m --out old", "link/validation.csv"),
        ("run --train t --test old/kept@test --model m --out old", "old/kept@test"),
        ("run --train t --model old/model --out old", "old/model"),
        ("select --train old/kept.csv --model m --out old", "old/kept.csv"),
        ("select --train t --model old/model --out old", "old/model"),
        ("finetune --train t --model old/model --out link", "old/model"),
        ("finetune --train t --model old/seed-0/model --seeds 1,0 --out old", "old/seed-0/model"),
        ("evaluate --data t,old/kept.csv --model m --out old", "old/kept.csv"),
        ("evaluate --data t --model old/model --out old", "old/model"),
        ("value --train old/state/x.npz --validation v.npz --out old", "old/state/x.npz"),
    ],
)
def test_a_run_that_the_input_is_of_is_not_overwritten(tsds, told, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in (Path("old"), Path("old/seed-0"), Path("old/seed-1")):
        for name in ("kept", "model", "state"):
            (run / name).mkdir(parents=True)
        (run / "manifest.json").write_text('{"identity": {}, "status": "finished"}')
        for name in ("kept.csv", "validation.csv", "model/config.json", "state/x.npz"):
            (run / name).write_text("precious")
    Path("link").symlink_to("old")
    before = {file: file.read_bytes() for file in Path("old").rglob("*") if file.is_file()}
    code, _, stderr = tsds(*told.split(), "--overwrite")
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"{source} is of the run in " in stderr
    assert "that overwrite would remove: copy it elsewhere first, or give another folder" in stderr
    assert {file: file.read_bytes() for file in Path("old").rglob("*") if file.is_file()} == before


def test_the_way_out_names_only_flags_that_the_command_has(tsds, tmp_path):
    (tmp_path / "manifest.json").write_text('{"identity": {}}')
    run = tsds("run", "--train", "x.csv", "--model", "m", "--out", tmp_path)
    assert "resume it (--resume), overwrite it (--overwrite), or" in run[2]
    select = tsds("select", "--train", "x.csv", "--model", "m", "--out", tmp_path)
    assert "holds another run: overwrite it (--overwrite) or give another folder" in select[2]


@pytest.mark.slow
def test_an_interrupt_ends_with_130_and_says_how_to_go_on(tsds, tiny_files, tiny_model, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsds_jax.pipeline.selecting.value", interrupt)
    arguments = [*files(tiny_files), "--model", tiny_model, "--out", tmp_path / "r", *QUICK]
    code, _, stderr = tsds("run", *arguments)
    assert code == 130
    assert "--resume" in stderr
    monkeypatch.undo()
    assert tsds("run", *arguments, "--resume")[0] == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive at all"])
def test_damaged_arrays_are_refused_by_name(tsds, tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    code, _, stderr = tsds("value", "--train", tmp_path / "a.npz", "--validation", "b.npz", "--out", tmp_path / "o")
    assert code == 2
    assert "a.npz" in stderr


def test_pickled_arrays_are_refused_not_loaded(tsds, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"evil": 1}], dtype=object), y=np.zeros(1))
    code, _, stderr = tsds(
        "value", "--train", tmp_path / "a.npz", "--validation", tmp_path / "a.npz", "--out", tmp_path / "o"
    )
    assert code == 2
    assert "without pickle" in stderr


def test_values_of_fits_that_did_not_converge_or_of_few_samples_come_with_a_warning(tsds, tmp_path):
    # Ridge knows one scale: beside a column of a million a penalty of one is lost, and raised.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)) * [1e6, 1, 1, 1]
    np.savez(tmp_path / "a.npz", x=x, y=rng.integers(0, 2, 60))
    places = ("--train", tmp_path / "a.npz", "--validation", tmp_path / "a.npz", "--out", tmp_path / "out")
    code, stdout, _ = tsds("value", *places, "--source", "ridge", "--samples", 4, "--subset-size", 30)
    assert code == 0
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"]
    assert any("did not converge: lower C, or bring the features to one scale" in line for line in told)
    assert any("raise samples" in line for line in told)
    assert all(f"warning: {line}" in stdout for line in told)


@pytest.mark.parametrize("utility", ["neg_mean_squared_error", "r2"])
def test_rows_with_numbers_for_labels_are_valued_by_a_regression(utility, tsds, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    np.savez(tmp_path / "a.npz", x=x, y=x[:, 0] + 0.25)
    places = ("--train", tmp_path / "a.npz", "--validation", tmp_path / "a.npz", "--out", tmp_path / "out")
    code, _, stderr = tsds("value", *places, "--source", "ridge", "--utility", utility, "--samples", 20)
    assert code == 0, stderr
    table = pq.read_table(tmp_path / "out" / "values.parquet")
    assert np.array(table["label"].to_pylist(), float).tolist() == (x[:, 0] + 0.25).tolist()


@pytest.mark.slow
def test_a_job_that_is_told_to_end_says_how_to_go_on_and_does_to_the_same_values(tsds, tmp_path):
    rng = np.random.default_rng(0)
    for name, rows in (("train", 60), ("validation", 40)):
        x = rng.normal(size=(rows, 4))
        np.savez(tmp_path / f"{name}.npz", x=x, y=(x[:, 0] > 0).astype(int))
    places = ["--train", tmp_path / "train.npz", "--validation", tmp_path / "validation.npz"]
    value = ["value", *places, "--samples", 4000, "--subset-size", 30, "--source", "ridge", "--out"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    program = [sys.executable, "-m", "tsds_jax.cli", *value, out, "--checkpoint-every", 0]
    job = subprocess.Popen([str(part) for part in program], stderr=subprocess.PIPE, text=True)
    kept = out / "state" / "values-part.npz"
    while not kept.exists():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)
    job.terminate()
    _, told = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "stopped: the same command with --resume goes on" in told
    with np.load(kept) as reached:
        assert 0 < reached["counted"][0] < 4000
    assert tsds(*value, out, "--resume")[0] == 0
    assert not kept.exists()
    assert tsds(*value, whole)[0] == 0
    assert pq.read_table(out / "values.parquet") == pq.read_table(whole / "values.parquet")
    (out / "values.parquet").unlink()
    assert tsds(*value, out, "--resume")[0] == 0
    assert pq.read_table(out / "values.parquet") == pq.read_table(whole / "values.parquet")


def test_a_failure_while_running_is_exit_code_1_with_the_traceback_only_if_asked(
    tsds, tiny_files, tiny_model, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError("the device is on fire")

    monkeypatch.setattr("tsds_jax.pipeline.selecting.value", fail)
    arguments = ["select", *files(tiny_files, "train"), "--model", tiny_model, "--pca", "8"]
    code, _, stderr = tsds(*arguments, "--out", tmp_path / "a")
    assert code == 1
    assert "tsds: error: RuntimeError: the device is on fire" in stderr
    assert "Traceback" not in stderr
    assert "Traceback" in tsds(*arguments, "--out", tmp_path / "b", "--traceback")[2]


def test_help_is_quick_and_names_every_command():
    def timed(code, *arguments):
        began = time.perf_counter()
        command = [sys.executable, "-c", code, *arguments]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return time.perf_counter() - began, shown

    # In turn with what it stands on, which on a slow machine takes most of half a second by itself.
    tries, bare = [], []
    for _ in range(3):
        seconds, shown = timed("from tsds_jax.cli import main; main()", "--help")
        tries.append(seconds)
        bare.append(timed("import typer, rich.console")[0])
    for name in ("run", "demo", "data", "embed", "value", "select", "finetune", "evaluate", "report"):
        assert f" {name} " in shown
    assert min(tries) < max(0.5, 2.5 * min(bare))
    heavy = "import sys; from tsds_jax.cli import main; print({'jax', 'numpy', 'transformers'} & set(sys.modules))"
    assert timed(heavy)[1] == "set()\n"


def test_the_demo_cuts_texts_to_be_represented_where_a_run_does(capsys):
    shown = []
    for name in ("run", "demo"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown.append(re.search(r"--max-length.*?(?=--)", capsys.readouterr().out, re.DOTALL).group())
    run, demo = ([word for word in some.split() if word != "\u2502"] for some in shown)
    assert demo == run


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, ("--task", "--patience")) for name in ("run", "demo", "select", "evaluate")),
        ("select", ("--best-by", "--evaluate-every")),
    ],
)
def test_a_command_that_compares_models_has_no_flags_for_what_it_would_refuse_or_not_heed(name, flags, tsds, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert "--learning-rate" in shown
    for flag in flags:
        assert flag not in shown
        code, _, stderr = tsds(name, flag, "3")
        assert (code, stderr.startswith(f"tsds: error: No such option: {flag} (")) == (2, True)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom tsds_jax.cli import main\n"
        "for name in ('run', 'demo'):\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit as end:\n        assert end.code == 0\n"
        "heavy = {'jax', 'numpy', 'transformers', 'datasets', 'matplotlib', 'flax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_data_that_cannot_be_read_is_refused_before_transformers_is_imported():
    """With PyTorch it takes as long as all else that a run imports."""
    code = (
        "import sys\nfrom tsds_jax.cli import main\n"
        "try:\n    main(['run', '--train', 'none.csv', '--model', 'm', '--out', 'o'])\n"
        "except SystemExit as end:\n    assert end.code == 2\n"
        "assert 'transformers' not in sys.modules and 'jax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_documented():
    import tsds_jax

    for name in tsds_jax.__all__:
        assert getattr(tsds_jax, name).__doc__, name
    assert set(tsds_jax.__all__) <= set(dir(tsds_jax))
    with pytest.raises(AttributeError, match="shapley"):
        tsds_jax.shapley  # noqa: B018


def test_a_call_without_a_place_to_write_says_what_python_says():
    import tsds_jax

    with pytest.raises(TypeError, match=r"run\(\) missing 1 required keyword-only argument: 'out'"):
        tsds_jax.run("rows.csv", model="m")


@pytest.mark.parametrize("stage", ["value", "evaluate", "finetune"])
def test_a_folder_that_has_no_report_is_said_to_be_another_commands(tsds, tmp_path, stage):
    (tmp_path / "manifest.json").write_text(json.dumps({"identity": {"stage": stage}}))
    code, _, stderr = tsds("report", "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path} is a folder of `tsds {stage}`, which has no report: give one of `tsds run`" in stderr


def test_the_package_says_that_it_is_typed():
    import tsds_jax

    assert (Path(tsds_jax.__file__).parent / "py.typed").exists()
