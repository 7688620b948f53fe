"""What the benchmarks' results say of themselves."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "measures" / "code.py"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="run from a source checkout")


@pytest.fixture(scope="module")
def code():
    spec = importlib.util.spec_from_file_location("code_of_results", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_of_other_code_than_the_packages_are_marked_stale(code):
    assert code.INDEX.read_text("utf-8") == code.index(), "run: python -m benchmarks index"


def test_every_result_names_its_commit_and_the_parts_that_it_measured(code):
    kept = list(code.results())
    assert len(kept) > 10
    for result in kept:
        assert result.stamp["commit"], result
        assert result.stamp["code"], result
        assert all(code.code_digest(part) != "gone" for part in result.stamp["code"]), result


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
