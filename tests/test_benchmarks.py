"""What the benchmarks' results say of themselves."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
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


def test_a_stamp_is_of_the_package_that_runs_and_one_to_be_kept_must_be_the_checkouts(code, tmp_path, monkeypatch):
    installed = tmp_path / "tsds_jax"
    shutil.copytree(code.PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tsds_jax", raising=False)
    same = loaded("code")
    assert installed == same.IMPORTED
    assert same.stamp("games", "errors", keep=True)["code"] == same.stamp("games", "errors")["code"]
    (installed / "games" / "other.py").write_text("x = 1\n")
    monkeypatch.setattr(same, "_BEGAN_AT", "abc")
    assert same.stamp("games", keep=True)["commit"] == "abc+"  # by now other code lies there
    assert same.stamp("errors", keep=True)["commit"] == "abc"
    other = loaded("code")
    assert other.stamp("games")["code"] == {"games": code.code_digest("games", installed)}
    assert other.code_digest("games") == code.code_digest("games") != code.code_digest("games", installed)
    assert other.stamp("errors", "benchmarks/cost.py", keep=True)
    with pytest.raises(SystemExit, match=r"not this checkout's \(games\).*pip install -e .*PYTHONPATH=") as refused:
        other.stamp("games", "errors", keep=True)
    assert "\n" not in str(refused.value)


@pytest.fixture
def checkout(code, tmp_path, monkeypatch):
    """A checkout of a few files in place of this one."""
    files = {
        "benchmarks/one.py": "from measures.two import two\nfrom measures.rows import Row\nimport json\n",
        "benchmarks/measures/two.py": "def two():\n    from peers import three\n\n    return three\n",
        "benchmarks/measures/rows.py": "Row = tuple\n",
        "benchmarks/measures/apart.py": "apart = 1\n",
        "benchmarks/peers/three.py": "from four import four\n",
        "benchmarks/peers/four.py": "four = 4  # of three's folder\n",
        "benchmarks/results/one.md": "1\n",
        "tsds_jax/errors.py": "error = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "tsds_jax")
    monkeypatch.setattr(code, "RESULTS", tmp_path / "benchmarks" / "results")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("one.py", True),
        ("measures/two.py", True),
        ("peers/three.py", True),
        ("peers/four.py", True),
        ("measures/rows.py", False),
        ("measures/apart.py", False),
    ],
)
def test_what_measured_is_stale_when_it_changes_or_what_it_imports_does_but_not_by_bookkeeping(
    file, stale, code, checkout
):
    place = checkout / "benchmarks" / file
    before = code.code_digest("benchmarks/one.py")
    place.write_text(f"# Words.\n{place.read_text()}")
    assert code.code_digest("benchmarks/one.py") == before
    place.write_text(f"{place.read_text()}more = 1\n")
    assert (code.code_digest("benchmarks/one.py") != before) is stale
    assert code.code_digest("benchmarks/none.py") == "gone"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize(
    ("file", "marked"), [("benchmarks/measures/two.py", True), ("benchmarks/results/one.md", False)]
)
def test_a_commit_is_marked_when_the_benchmarks_have_changed_since_and_not_by_their_results(
    file, marked, code, checkout
):
    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", checkout, *command],
            check=True,
            capture_output=True,
        )

    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    assert not code._commit().endswith("+")
    (checkout / file).write_text("other\n")
    assert code._commit().endswith("+") is marked


def test_the_list_names_the_file_that_measured_where_that_is_what_changed(code, tmp_path, monkeypatch):
    now = {**code.stamp("errors", "benchmarks/cost.py"), "machine": {"cores": 2, "processor": "abacus"}}
    now["versions"] = {"jax": "0"}
    monkeypatch.setattr(code, "RESULTS", tmp_path)
    (tmp_path / "some.json").write_text(json.dumps(now))
    assert "abacus | current |" in code.index()
    now["code"]["benchmarks/cost.py"] = "0" * 12
    (tmp_path / "some.json").write_text(json.dumps(now))
    assert "abacus | **stale**: benchmarks/cost.py |" in code.index()


@pytest.mark.parametrize("script", ["cost", "demo", "representations", "rules", "scaling", "selection", "soak"])
def test_a_script_of_one_result_is_a_part_of_what_is_stamped(script, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    assert f"benchmarks/{script}.py" in importlib.import_module(script).MEASURED


@pytest.mark.parametrize("script", ["core", "accelerator", "encoders"])
def test_a_case_names_the_files_that_measure_it(script, code, monkeypatch):
    if script == "encoders":
        pytest.importorskip("torch")
    monkeypatch.syspath_prepend(FOLDER.parent)
    for name, case in importlib.import_module(script).CASES.items():
        assert case.by
        for part in case.parts:
            assert code.code_digest(part) != "gone", name


def test_a_case_is_stamped_with_what_measured_it_and_the_peers_that_it_ran_itself(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    core = importlib.import_module("core")

    def first(bench):
        bench.peers["valda"].versions = {"valda": "0"}
        return []

    stamped = []
    cases = {"first": core.Case(("rates",), first), "second": core.Case(("memory",), lambda bench: [])}
    monkeypatch.setattr(core, "CASES", cases)
    monkeypatch.setattr(core, "provenance", lambda *parts, keep: stamped.append((parts[-2:], keep)) or {})
    monkeypatch.setattr(sys, "argv", ["core.py", "--quick", "--cache", str(tmp_path)])
    core.main()
    rates, memory = (f"benchmarks/measures/{name}.py" for name in ("rates", "memory"))
    assert stamped == [((rates, "benchmarks/peers/run_valda.py"), False), (("valuation", memory), False)]


def test_machines_whose_processors_have_one_name_are_told_apart(code, tmp_path, monkeypatch):
    machine = loaded("machine")
    text = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nstepping\t: 1\n\n"
    found = []
    for model in (1, 17):
        monkeypatch.setattr(machine, "CPUINFO", tmp_path / str(model))
        machine.CPUINFO.write_text(2 * text.format(model))
        found.append(machine.machine())
    assert [(one["processor"], one["cpu"]) for one in found] == [("AMD EPYC", "25/1/1"), ("AMD EPYC", "25/17/1")]
    old = {name: what for name, what in found[0].items() if name != "cpu"}
    assert len({code.alike({"code": {}, "machine": one, "versions": {}}) for one in (*found, old)}) == 3
    assert code.where(found[0]) == code.where(old)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.machine()["cpu"] == ""


def test_versions_are_in_one_order_however_packages_are_found(monkeypatch):
    machine = loaded("machine")
    installed = list(importlib.metadata.distributions())
    for found in (installed, installed[::-1]):
        monkeypatch.setattr(machine.importlib.metadata, "distributions", lambda found=found: found)
        names = list(machine.versions("filelock"))
        assert names == ["tsds_jax", "python", "jax", "jaxlib", "numpy", "scipy", "scikit-learn", "filelock"]


def test_cases_of_the_same_versions_in_another_order_stand_together(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    row = {"measure": "m", "peak": [2**30], "most": 2**31, "seconds": [1.0], "about": {}}
    about = {"machine": {"cores": 2, "processor": "abacus"}, "rows": [row]}
    cases = {
        "a": {**about, "versions": {"jax": "1", "numpy": "2"}},
        "b": {**about, "versions": {"numpy": "2", "jax": "1"}},
    }
    found = loaded("results").case_tables({"cases": cases})
    assert found.count("On 2 cores of an abacus, jax 1, numpy 2:") == found.count("On ") == 1
    assert found.count("| m |") == 2


def test_scaling_says_that_it_ran_on_the_cpu_as_its_workers_do(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    scaling = importlib.import_module("scaling")
    told, seen = {}, []

    def stopped(quick):
        raise InterruptedError

    monkeypatch.setattr(scaling.jax.config, "update", told.__setitem__)
    monkeypatch.setattr(scaling, "provenance", lambda *parts, keep: seen.append(dict(told)))
    monkeypatch.setattr(scaling, "points", stopped)
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--quick"])
    with pytest.raises(InterruptedError):
        scaling.main()
    assert seen == [{"jax_platforms": "cpu"}]
