"""Bad input at every entry: one line that names it and the way out, with nothing written; or the stated result."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

import tsds_jax as tsds
from tsds_jax.cli import main
from tsds_jax.errors import InputError, TsdsError

ROWS = b"good film,pos\nbad film,neg\nfine plot,pos\ndull plot,neg\n"
HEAD = b"text,label\n"
FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_bytes(HEAD + ROWS)
    return tmp_path


def held(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and (path.is_file() or path.is_dir())
    }


def refused(here, do, words, kind=InputError):
    before = held(here)
    with pytest.raises(kind) as caught:
        do()
    told = str(caught.value)
    assert words in told
    assert "\n" not in told
    assert len(told) < 450
    assert held(here) == before


def lines(*rows) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def parquet(**columns) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out)
    return out.getvalue().to_pybytes()


TWO = parquet(text=["a", "b"], label=["x", "y"])
FILES = {
    "latin-1": ("a.csv", HEAD + "café,pos\n".encode("latin-1") + ROWS, "not UTF-8 at byte 14 (0xe9)"),
    "utf-16": ("a.csv", (HEAD + ROWS).decode().encode("utf-16"), "iconv -f UTF-16"),
    "open quote": ("a.csv", HEAD + b'"never closed,pos\n' + ROWS, "row 0: a quoted value does not end"),
    "row too long": ("a.csv", HEAD + b"a,b,c\n" + ROWS, "row 0: 3 values in a table of 2 columns"),
    "row too short": ("a.csv", HEAD + ROWS + b"a\n", "row 4: 1 values in a table of 2 columns"),
    "column twice": ("a.csv", b"text,text\n" + ROWS, "two columns are called 'text'"),
    "other columns": ("a.csv", b"txt,label\n" + ROWS, "no column 'text'; it has 'txt', 'label'"),
    "no label column": ("a.csv", b"text,lbl\n" + ROWS, "no column 'label'"),
    "nothing": ("a.csv", b"", "the file is empty"),
    "header alone": ("a.csv", HEAD, "has no rows"),
    "one class": ("a.csv", HEAD + b"a,pos\nb,pos\n", "at least two classes"),
    "ragged lines": (
        "a.jsonl",
        lines({"text": "a", "label": "x"}, {"text": "b"}),
        "row 1: column 'label' has no label",
    ),
    "half a character in a key": ("a.jsonl", b'{"te\\ud800xt":"a","label":"x"}\n', "row 0: the key 'te"),
    "a list": ("a.jsonl", lines({"text": "a", "label": "x"}, ["b"]), "row 1: ['b'] is not a JSON object"),
    "cut line": ("a.jsonl", b'{"text":"a","label":"x"}\n{"text":"b","lab', "row 1: not valid JSON"),
    "deep": ("a.jsonl", b'{"text":' + b"[" * 10**5 + b"]" * 10**5 + b',"label":"x"}\n', "row 0: not valid JSON"),
    "half a character": ("a.jsonl", b'{"text":"a\\ud800","label":"x"}\n', "row 0: column 'text' holds half of"),
    "label NaN": ("a.jsonl", b'{"text":"a","label":NaN}\n', "row 0: column 'label' has no label (NaN)"),
    "label null": ("a.jsonl", lines({"text": "a", "label": None}), "row 0: column 'label' has no label (null)"),
    "label 0.5": ("a.jsonl", lines({"text": "a", "label": 0.5}), "row 0: column 'label' holds the fraction 0.5"),
    "labels mixed": (
        "a.jsonl",
        lines({"text": "a", "label": 1}, {"text": "b", "label": "1"}),
        "row 1: column 'label' holds the string '1', but row 0 holds the number 1",
    ),
    "text a number": ("a.jsonl", lines({"text": 5, "label": "x"}), "row 0: column 'text' holds the number 5"),
    "text a record": ("a.jsonl", lines({"text": {"a": 1}, "label": "x"}), "row 0: column 'text' holds the record"),
    "text null": ("a.jsonl", lines({"text": None, "label": "x"}), "row 0: column 'text'"),
    "cut parquet": ("a.parquet", TWO[:-20], "cannot be read"),
    "no parquet": ("a.parquet", b"PAR1 nothing PAR1", "cannot be read"),
    "parquet of bytes": ("a.parquet", parquet(text=[b"a", b"b"], label=["x", "y"]), "holds the value b'a'"),
    "parquet of lists": ("a.parquet", parquet(text=[["a"], ["b"]], label=["x", "y"]), "holds the list ['a']"),
    "parquet without rows": ("a.parquet", parquet(text=pa.array([], "str"), label=pa.array([], "str")), "no rows"),
    "a spreadsheet": ("a.xlsx", b"PK\3\4", "files ending in '.xlsx' cannot be read"),
    "a pickle": ("a.pkl", pickle.dumps([1]), "files ending in '.pkl' cannot be read"),
}
PLANES = [f"a{chr(plane * 2**16 + 0x100)}b" for plane in range(17)]
GOOD = {
    "byte order mark": ("a.csv", b"\xef\xbb\xbf" + HEAD + ROWS, ["good film", "bad film", "fine plot", "dull plot"]),
    "NUL in a text": ("a.csv", HEAD + b"a\0b,pos\nc,neg\n", ["a\0b", "c"]),
    "every plane": ("a.csv", HEAD + "".join(f"{text},{i % 2}\n" for i, text in enumerate(PLANES)).encode(), PLANES),
    "right to left": ("a.csv", HEAD + "\u202eخير,a\nb,c\n".encode(), ["\u202eخير", "b"]),
    "a field of 10 MB": ("a.csv", HEAD + b"x" * 10**7 + b",pos\nb,neg\n", ["x" * 10**7, "b"]),
    "2,000 columns": (
        "a.csv",
        HEAD.strip() + b"".join(b",c%d" % i for i in range(2000)) + b"\na,x" + b",1" * 2000 + b"\nb,y" + b",1" * 2000,
        ["a", "b"],
    ),
    "labels -1 and 1": ("a.jsonl", lines({"text": "a", "label": -1}, {"text": "b", "label": 1}), ["a", "b"]),
    "a label of 70 bits": ("a.jsonl", lines({"text": "a", "label": 2**70}, {"text": "b", "label": 1}), ["a", "b"]),
    "a formula": ("a.jsonl", lines({"text": FORMULA, "label": FORMULA}, {"text": "b", "label": "c"}), [FORMULA, "b"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_is_refused(here, case):
    name, content, words = FILES[case]
    (here / name).write_bytes(content)
    refused(here, lambda: tsds.load_data(name), words)


@pytest.mark.parametrize("case", GOOD)
def test_an_odd_file_is_read_as_it_is(here, case):
    name, content, texts = GOOD[case]
    (here / name).write_bytes(content)
    assert list(tsds.load_data(name).texts) == texts


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "NoneType"),
        (5, "type int"),
        ("", "is no path (it is empty)"),
        ("a\0b.csv", "is no path"),
        ("a" * 300 + ".csv", "is no path (file name too long)"),
        ("nowhere.csv", "no such file"),
        (".", "not a folder written by save_to_disk"),
        ("/dev/null", "files ending in ''"),
        ("pipe.csv", "no plain file"),
        ("dangling.csv", "no such file"),
    ],
)
def test_what_is_no_file_is_refused(here, source, words):
    os.symlink("nowhere.csv", "dangling.csv")
    if source == "pipe.csv":  # nobody writes to it: to read it would wait for ever
        os.mkfifo(source)
    refused(here, lambda: tsds.load_data(source), words)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": 3}, "text is 3"),
        ({"text": [1, 2]}, "text is [1, 2]"),
        ({"text": ("a", "b", "c")}, "give one column, or two"),
        ({"text": "label", "label": "label"}, "cannot be both text and label"),
    ],
)
def test_columns_that_are_none_are_refused(here, columns, words):
    refused(here, lambda: tsds.load_data("good.csv", **columns), words)


X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.arange(30) % 2


def at(place, value):
    changed = X.copy()
    changed[place] = value
    return changed


ARRAYS = {
    "NaN": ({"x_train": at((3, 1), np.nan)}, "x_train is nan at row 3, feature 1"),
    "infinity": ({"x_val": at((4, 0), -np.inf)}, "x_val is -inf at row 4, feature 0"),
    "beyond float32": ({"x_train": X * 1e300}, "x_train is"),
    "squares beyond float32": ({"x_train": at((2, 2), 1e20)}, "at row 2, feature 2: scale features"),
    "scores beyond float32": ({"x_val": at((3, 1), -3.4e38), "source": "ridge"}, "at row 3, feature 1: scale features"),
    "ragged": ({"x_train": [[1, 2], [3]]}, "x_train holds no numbers"),
    "strings": ({"x_train": np.full((30, 3), "a")}, "x_train holds no numbers"),
    "complex": ({"x_train": X + 1j}, "x_train holds no numbers"),
    "nothing": ({"x_train": None}, "x_train holds no numbers"),
    "one axis": ({"x_train": X[:, 0]}, "x_train has shape [30]"),
    "three axes": ({"x_train": X[:, :, None]}, "x_train has shape [30, 3, 1]"),
    "no rows": ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
    "one row": ({"x_train": X[:1], "y_train": Y[:1]}, "y_train has one class only"),
    "no features": ({"x_train": X[:, :0], "x_val": X[:, :0]}, "x_train is empty"),
    "no validation rows": ({"x_val": X[:0], "y_val": Y[:0]}, "x_val is empty"),
    "fewer labels": ({"y_train": Y[:5]}, "y_train has shape [5] for 30 rows"),
    "label NaN": ({"y_train": np.where(Y == 0, np.nan, 1.0)}, "y_train is nan at row 0"),
    "labels mixed": ({"y_train": [1, "a"] * 15}, "y_train mixes strings and integers"),
    "fewer features": ({"x_val": X[:, :2]}, "x_val has 2 features and x_train 3"),
    "unseen label": ({"y_val": np.where(np.arange(30) == 3, 7, Y)}, "y_val is 7 at row 3"),
    "one class": ({"y_train": np.zeros(30, int)}, "one class only"),
    "10,000 classes": (
        {"x_train": np.ones((10_000, 3)), "y_train": np.arange(10_000)},
        "10,000 classes are more than the 1,000",
    ),
    "samples 0": ({"samples": 0}, "samples is 0"),
    "samples beyond int32": ({"samples": 10**10}, "samples is 10000000000: give a whole number from 1 to 2147418112"),
    "samples True": ({"samples": True}, "samples is True"),
    "samples many": ({"samples": "many"}, "samples is 'many'"),
    "seed": ({"seed": 2**32}, "seed is 4294967296"),
    "subset": ({"subset_size": 31}, "subset_size 31 is more than the 30"),
    "C": ({"C": float("nan")}, "C is nan"),
    "estimator": ({"estimator": []}, "estimator [] is unknown"),
    "source": ({"source": None}, "source None is unknown"),
    "utility": ({"utility": "f1"}, "utility 'f1' is unknown"),
    "weights": ({"sample_weight": -np.ones(30)}, "sample_weight is -1.0 at row 0"),
    "no weights": ({"sample_weight": np.zeros(30)}, "sample_weight is zero everywhere"),
    "groups": ({"groups": [0] * 3}, "groups must be one whole number"),
    "checkpoint": ({"checkpoint": "."}, ". is a folder"),
    "no checkpoint": ({"checkpoint": "a\0b"}, "is no path"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_and_options_that_cannot_be_valued_are_refused(here, case):
    given, words = ARRAYS[case]
    arrays = {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y}
    refused(here, lambda: tsds.value(**arrays | given), words)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: tsds.baseline("magic", X, Y, X, Y), "method 'magic' is unknown"),
        (lambda: tsds.detection([1.0, 2.0, 3.0], [True, False]), "values have shape [3], wrong [2]"),
        (lambda: tsds.detection([1.0, 2.0], [False, False]), "0 of 2 points are wrong"),
        (lambda: tsds.stability([[1.0, 2.0]]), "at least two"),
        (lambda: tsds.stability([[1.0, 2.0], [1.0]]), "values of the same points"),
    ],
)
def test_evaluations_of_nothing_are_refused(here, do, words):
    refused(here, do, words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"texts": "one text"}, "not one text"),
        ({"texts": pandas.DataFrame({"text": ["a text"]})}, "not a table"),
        ({"texts": {"text": ["a text"]}}, "not a table"),
        ({"texts": [None]}, "row 0 is not"),
        ({"texts": [b"a"]}, "row 0 is not"),
        ({"texts": ["a", " "]}, "row 1 is empty"),
        ({"texts": ["a", "b\ud800"]}, "row 1 holds half of a surrogate pair"),
        ({"texts": ["a"], "pooling": "x"}, "pooling 'x'"),
        ({"texts": ["a"], "batch_size": 0}, "batch_size"),
        ({"texts": ["a"], "max_length": 10**9}, "max_length"),
        ({"texts": ["a"], "layer": 9}, "layer"),
    ],
)
def test_texts_that_cannot_be_embedded_are_refused(here, tiny_model, given, words):
    refused(here, lambda: tsds.load_encoder(tiny_model).embed(**given), words)


def without(*names):
    return lambda folder: [path.unlink() for name in names for path in folder.glob(name)]


def config(**changes):
    def change(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def own_code(folder):
    """Whatever can be told of a model's own code, and the code."""
    classes = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    config(auto_map=classes, model_type="evil")(folder)
    (folder / "evil.py").write_text("open('evil-ran', 'w').close()")


class Evil:
    def __reduce__(self):
        return open, ("evil-ran", "w")


def pickled(folder):
    without("*.safetensors")(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


MODELS = {
    "no config": (without("config.json"), "there is no config.json in it; give the folder of a Hugging Face model"),
    "half a config": (write("config.json", b"{"), "cannot be read as JSON"),
    "another family": (config(model_type="t5"), "model_type 't5' is not supported"),
    "no width": (config(hidden_size=33), "hidden_size 33 is not a multiple"),
    "no layers": (config(num_hidden_layers=-1), "num_hidden_layers must be a positive whole number"),
    "another width": (config(hidden_size=64, intermediate_size=128), "shape"),
    "no weights": (without("*.safetensors"), "holds no model.safetensors"),
    "pickled weights": (pickled, "holds pickled weights only"),
    "cut weights": (cut, "cannot be read as safetensors"),
    "no weights at all": (write("model.safetensors", b"\xff" * 40), "cannot be read as safetensors"),
    "code of its own": (own_code, "model_type 'evil' is not supported"),
    "no tokenizer": (without("*tok*", "vocab*"), "has no tokenizer"),
    "half a tokenizer": (write("tokenizer.json", b"{"), "tokenizer"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_folder_that_cannot_be_used_is_refused_and_nothing_in_it_is_run(here, tiny_model, case):
    change, words = MODELS[case]
    shutil.copytree(tiny_model, here / "model")
    change(here / "model")
    refused(here, lambda: tsds.load_encoder(here / "model").embed(["a film"]), words)
    assert not (here / "evil-ran").exists()


def test_a_tokenizers_own_code_is_not_run(here, tiny_model):
    shutil.copytree(tiny_model, here / "model")
    config(auto_map={"AutoModel": "evil.Evil"})(here / "model")
    (here / "model" / "evil.py").write_text("open('evil-ran', 'w').close()")
    classes = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (here / "model" / "tokenizer_config.json").write_text(json.dumps(classes))
    np.testing.assert_array_equal(
        tsds.load_encoder(here / "model").embed(["a film"]), tsds.load_encoder(tiny_model).embed(["a film"])
    )
    assert not (here / "evil-ran").exists()


def test_weights_that_are_no_numbers_are_named(here, tiny_model):
    shutil.copytree(tiny_model, here / "model")
    weights = load_file(here / "model" / "model.safetensors")
    nothing = {name: np.full_like(array, np.nan) for name, array in weights.items() if array.dtype.kind == "f"}
    save_file(weights | nothing, here / "model" / "model.safetensors")
    encoder = tsds.load_encoder(here / "model")
    refused(here, lambda: encoder.embed(["a film"]), "NaN or an infinity for row 0; check its weights", TsdsError)


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code, capsys.readouterr()


@pytest.fixture
def arrays(here):
    np.savez("t.npz", x=X, y=Y)
    np.savez("v.npz", x=X[:9], y=Y[:9])
    np.save("one.npy", X)
    np.savez("other.npz", a=1)
    np.savez("objects.npz", x=np.array([Evil()], object), y=[1])
    Path("text.npz").write_bytes(HEAD + ROWS)
    return here


VALUE = ("value", "--validation", "v.npz", "--samples", "2", "--subset-size", "4")
COMMANDS = {
    "one array": ((*VALUE, "--train", "one.npy", "--out", "o"), "one.npy cannot be read as .npz"),
    "other arrays": ((*VALUE, "--train", "other.npz", "--out", "o"), "other.npz has no array 'x', only a"),
    "pickled arrays": ((*VALUE, "--train", "objects.npz", "--out", "o"), "cannot be read as .npz without pickle"),
    "no archive": ((*VALUE, "--train", "text.npz", "--out", "o"), "it is no whole .npz"),
    "a pipe": ((*VALUE, "--train", "/dev/stdin", "--out", "o"), "there is no file /dev/stdin"),
    "out a file": ((*VALUE, "--train", "t.npz", "--out", "good.csv"), "good.csv is a file"),
    "out under a file": ((*VALUE, "--train", "t.npz", "--out", "good.csv/o"), "good.csv is a file"),
    "out nothing": ((*VALUE, "--train", "t.npz", "--out", ""), "is no path (it is empty)"),
    "out too long": ((*VALUE, "--train", "t.npz", "--out", "o" * 300), "is no path (file name too long)"),
    "out NUL": ((*VALUE, "--train", "t.npz", "--out", "a\0b"), "is no path"),
    "out not writable": ((*VALUE, "--train", "t.npz", "--out", "/proc/o"), "cannot be written"),
    "out of others": ((*VALUE, "--train", "t.npz", "--out", "thesis"), "holds files that are no run's"),
    "out a link to nowhere": ((*VALUE, "--train", "t.npz", "--out", "link"), "link cannot be made"),
    "config YAML": ((*VALUE, "--train", "t.npz", "--out", "o", "--config", "c.yaml"), "is no TOML"),
    "config latin-1": ((*VALUE, "--train", "t.npz", "--out", "o", "--config", "l.toml"), "is no TOML"),
    "config a folder": ((*VALUE, "--train", "t.npz", "--out", "o", "--config", "."), "cannot be read"),
    "report of a file": (("report", "--out", "good.csv"), "good.csv is not a folder"),
    "report of nothing": (("report", "--out", "empty"), "manifest.json in empty is missing"),
    "embed over a file": (("embed", "--data", "good.csv", "--model", "m", "--out", "t.npz"), "t.npz exists"),
    "embed nowhere": (("embed", "--data", "good.csv", "--model", "m", "--out", "no/e.npz"), "folder no does not exist"),
    "embed up and away": (("embed", "--data", "good.csv", "--model", "m", "--out", "../../no/e.npz"), "does not exist"),
    "a model that is a file": (("embed", "--data", "good.csv", "--model", "t.npz", "--out", "e.npz"), "this is a file"),
    "seeds": (
        ("finetune", "--train", "t", "--model", "m", "--test", "t", "--out", "f", "--seeds", "1,a"),
        "seeds '1,a' are not whole numbers",
    ),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_cannot_be_obeyed_ends_with_2_and_leaves_everything(arrays, capsys, case):
    words = COMMANDS[case][1]
    (arrays / "thesis").mkdir()
    (arrays / "thesis" / "thesis.tex").write_text("years of work")
    (arrays / "empty").mkdir()
    os.symlink("nowhere", "link")
    Path("c.yaml").write_text("!!python/object/apply:os.system ['touch evil-ran']")
    Path("l.toml").write_bytes(b"model='caf\xe9'")
    before = held(arrays)
    code, printed = command(capsys, *COMMANDS[case][0])
    assert code == 2
    assert words in printed.err
    assert printed.err.startswith("tsds: error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert held(arrays) == before


@pytest.mark.slow
def test_a_damaged_run_folder_says_which_file_to_delete(arrays, capsys):
    run = (*VALUE, "--train", "t.npz", "--out", "run")
    assert command(capsys, *run)[0] == 0
    code, printed = command(capsys, *run)
    assert (code, "holds another run" in printed.err) == (2, True)
    code, printed = command(capsys, *run, "--resume", "--seed", "3")
    assert (code, "options.seed 0 instead of 3" in printed.err) == (2, True)
    code, printed = command(capsys, *run, "--resume", "--overwrite")
    assert (code, "both resume and overwrite" in printed.err) == (2, True)

    manifest = json.loads(Path("run/manifest.json").read_text())
    Path("run/manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    whole = Path("run/state/values.npz").read_bytes()
    for content, words in ((b"garbage", "it is no whole .npz"), (whole[:-50], "it is no whole .npz")):
        Path("run/state/values.npz").write_bytes(content)
        code, printed = command(capsys, *run, "--resume")
        assert (code, words in printed.err, "delete it" in printed.err) == (1, True, True)
    for other in ({"values": np.ones(3)}, {"values": np.array([Evil()], object)}):
        np.savez("run/state/values.npz", **other)
        code, printed = command(capsys, *run, "--resume")
        assert (code, "delete" in printed.err, printed.err.count("\n")) == (1, True, 1)
    assert not Path("evil-ran").exists()
    Path("run/state/values.npz").unlink()
    assert command(capsys, *run, "--resume")[0] == 0


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line_and_what_was_complete_stays(arrays):
    # Of files beyond so many bytes: values.npz does not fit, the manifest does.
    full = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    told = [sys.executable, "-m", "tsds_jax.cli", *VALUE, "--train", "t.npz", "--out", "run", "--resume"]
    how = {"env": os.environ | {"JAX_PLATFORMS": "cpu"}, "capture_output": True, "text": True}
    small = how | {"env": how["env"] | {"JAX_ENABLE_COMPILATION_CACHE": "0"}}
    stopped = subprocess.run([sys.executable, "-c", full, *told], **small, check=False)
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines()[-1].startswith("tsds: error: run cannot be written (file too large): make room")
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "running"
    assert not [path for path in Path("run").rglob("*") if ".part" in path.name]
    # Of two samples a point the values are noise, and it is said.
    lines = subprocess.run(told, **how, check=True).stdout.splitlines()
    assert [line for line in lines if not line.startswith("warning: ")] == ["values: run/values.parquet"]


def test_a_run_goes_where_a_link_leads(arrays, capsys):
    Path("real").mkdir()
    os.symlink("real", "link")
    assert command(capsys, *VALUE, "--train", "t.npz", "--out", "link")[0] == 0
    assert (arrays / "real" / "values.parquet").exists()
    assert Path("link").is_symlink()


@pytest.mark.slow
def test_what_a_spreadsheet_or_a_page_would_run_stays_text(here, tiny_model, capsys):
    """Kept and doubted rows hold the data's own texts; the report shows them (see test_report.py)."""
    texts = [FORMULA, "../../../etc/passwd", "<script>alert(1)</script>", "'; DROP TABLE rows; --", "$(touch evil-ran)"]
    rows = [{"text": f"{text} {i}", "label": ("=1+1", "../up")[i % 2]} for i in range(12) for text in texts]
    (here / "rows.jsonl").write_bytes(lines(*rows))
    told = ("--pca", 4, "--samples", 2, "--subset-size", 8, "--check-seeds", 0, "--remove-count", 6)
    code, printed = command(capsys, "select", "--train", "rows.jsonl", "--model", tiny_model, "--out", "run", *told)
    assert code == 0, printed.err
    kept = tsds.load_data("run/kept.jsonl")
    assert set(kept.texts) <= {row["text"] for row in rows}
    assert kept.classes == ("../up", "=1+1")
    doubted = tsds.load_data("run/suspects.csv", label="label", classes=kept.classes)
    assert set(doubted.texts) <= {row["text"] for row in rows}
    page = Path("run/report.html").read_text("utf-8")
    assert "<script>alert(1)" not in page
    assert not list(here.rglob("evil-ran"))
    assert sorted(path.name for path in here.iterdir()) == ["good.csv", "rows.jsonl", "run"]
