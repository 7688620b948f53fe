"""What the benchmarks' results say of themselves."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "measures"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="run from a source checkout")


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"measures_{name}", FOLDER / f"{name}.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def code():
    return loaded("code")


def test_results_of_other_code_than_the_packages_are_marked_stale(code):
    assert code.INDEX.read_text("utf-8") == code.index(), "run: python -m benchmarks index"


def test_each_file_of_results_has_a_page_with_its_tables(code, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    results = loaded("results")
    files = sorted(code.RESULTS.glob("*.json"))
    assert len(files) > 5
    for file in files:
        if file.stem == "demo":  # its page is what it printed
            continue
        page, result = file.with_suffix(".md").read_text("utf-8"), json.loads(file.read_text("utf-8"))
        assert f"[{file.name}]({file.name})" in page
        for case in result["cases"].values() if "cases" in result else [result]:
            assert code.where(case["machine"]) in page
        if all("rows" in case for case in result.get("cases", {"": {}}).values()):
            assert results.case_tables(result) in page


@pytest.mark.parametrize(
    ("script", "made"),
    [
        ("cost", lambda script, result: script.table(result["axes"])),
        ("detection", lambda script, result: script.table(result["runs"])),
        ("representations", lambda script, result: script.table(result["runs"])),
        ("rules", lambda script, result: script.tables(result["runs"])),
        ("scaling", lambda script, result: script.table(result["runs"])),
        ("selection", lambda script, result: script.pages(result)),
        ("soak", lambda script, result: script.table(result["rounds"])),
    ],
)
def test_each_page_is_what_its_script_makes_of_the_file(script, made, code, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    result = json.loads((code.RESULTS / f"{script}.json").read_text("utf-8"))
    assert made(importlib.import_module(script), result).strip() in (code.RESULTS / f"{script}.md").read_text("utf-8")


@pytest.mark.slow
def test_every_result_names_its_commit_and_the_parts_that_it_measured(code):
    kept = list(code.results())
    assert len(kept) > 10
    gone = {
        part for part in set().union(*(result.stamp["code"] for result in kept)) if code.code_digest(part) == "gone"
    }
    for result in kept:
        assert result.stamp["commit"], result
        assert result.stamp["code"], result
        assert not gone.intersection(result.stamp["code"]), result


def test_a_case_without_rows_is_neither_kept_nor_listed(code, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    about = {**code.stamp("errors"), "machine": {"cores": 2, "processor": "abacus"}, "versions": {"jax": "0"}}
    cases = {name: {**about, "rows": rows} for name, rows in (("full", [{}]), ("empty", []))}
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"cases": cases}))
    assert list(loaded("results").merged(file, cases, {})["cases"]) == ["full"]
    monkeypatch.setattr(code, "RESULTS", tmp_path)
    assert [kept.case for kept in code.results() if kept.file == "some.json"] == ["full"]


def test_a_case_measured_on_another_machine_leaves_the_others_as_they_are_and_each_says_where(
    code, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(FOLDER.parent)
    results = loaded("results")
    row = {"measure": "m", "peak": [2**30], "most": 2**31, "seconds": [1.0], "about": {}}

    def case(processor):
        machine = {"cores": 2, "processor": processor}
        return {**code.stamp("errors"), "machine": machine, "versions": {"jax": processor}, "rows": [row]}

    file = tmp_path / "some.json"
    file.write_text(json.dumps({"cases": {"a": case("abacus"), "b": case("abacus"), "c": case("abacus")}}))
    found = results.merged(file, "abc", {"b": case("slide rule")})
    assert {name: entry["machine"]["processor"] for name, entry in found["cases"].items()} == {
        "a": "abacus",
        "b": "slide rule",
        "c": "abacus",
    }
    first, second = results.case_tables(found).split("On 2 cores of an slide rule, jax slide rule:")
    assert first.startswith("On 2 cores of an abacus, jax abacus:")
    assert first.count("| m |") == 2
    assert second.count("| m |") == 1


def test_a_part_is_stale_when_its_code_changes_and_not_when_its_words_do(code, tmp_path):
    file = tmp_path / "games" / "one.py"
    file.parent.mkdir()
    text = '"""Words."""\n\n# Why.\ndef one():\n    """More words,\n    two lines."""\n    return "# no comment"\n'
    file.write_text(text)
    before = code.code_digest("games", tmp_path)
    file.write_text(text.replace("Words", "Others").replace("two lines", "three\n    lines").replace("# Why.", "#\n\n"))
    assert code.code_digest("games", tmp_path) == before
    for old, new in (("return", "yield"), ("# no comment", "# a comment"), ("def one", "def two")):
        file.write_text(text.replace(old, new))
        assert code.code_digest("games", tmp_path) != before
    file.write_text(text)
    (tmp_path / "games" / "two.py").write_text("x = 1\n")
    assert code.code_digest("games", tmp_path) != before
    assert code.code_digest("elsewhere", tmp_path) == "gone"


def test_a_result_tells_which_of_its_parts_have_changed(code):
    now = code.stamp("games", "errors")
    assert now["commit"] is None or now["commit"].rstrip("+").isalnum()
    assert code.Kept("some.json", "case", now, "0", "cpu").stale == []
    other = {**now, "code": {**now["code"], "errors": "0" * 12}}
    assert code.Kept("some.json", "case", other, "0", "cpu").stale == ["errors"]
