"""The written result of the study says what its runs said."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="run from a source checkout")


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("open_questions", EXAMPLES / "open_questions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_written_tables_are_those_of_the_runs(study):
    text = study.WRITTEN.read_text("utf-8")
    parts = json.loads((study.HERE / "results.json").read_text("utf-8"))
    assert {"size", "chains"} <= set(parts)
    for part in parts:
        check_part(study, part, text)


def check_part(study, part, text):
    store = study.Store(study.HERE / "results.json").of(part)
    shown = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", text, re.DOTALL)[1]
    assert shown == study.TABLES[part](store)
    assert (study.HERE / f"{part}.svg").exists()
    assert f"open_questions/{part}.svg" in text
    assert store.content[part]["date"] in text


def test_a_study_computes_what_it_has_not_and_keeps_what_it_has(study, tmp_path):
    store = study.Store(tmp_path / "results.json").of("size")
    store.keep("a|1", lambda: {"auroc": 0.5})
    study.Store(tmp_path / "results.json").of("chains").keep("b|1", lambda: {"auroc": 0.25})
    again = study.Store(tmp_path / "results.json").of("size")
    again.keep("a|1", lambda: pytest.fail("computed twice"))
    again.keep("a|2", lambda: {"auroc": 0.75})
    assert [run["auroc"] for run in study.by(again, "a", None)] == [0.5, 0.75]
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"size", "chains"}


def test_runs_of_other_code_are_not_added_to_a_study(study, tmp_path):
    file = tmp_path / "results.json"
    study.Store(file).of("size").keep("a|1", lambda: {"auroc": 0.5})
    content = json.loads(file.read_text())
    content["size"]["code"]["games"] = "0" * 12
    file.write_text(json.dumps(content))
    store = study.Store(file).of("size")
    store.keep("a|1", lambda: pytest.fail("computed twice"))
    with pytest.raises(SystemExit, match=r"'size' are of other code \(games\): give another --out, or remove"):
        store.keep("a|2", lambda: pytest.fail("computed and not kept"))
    assert json.loads(file.read_text()) == content
    study.Store(file).of("chains").keep("b|1", lambda: {"auroc": 0.25})
