"""What the benchmarks' results say of themselves."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
import pytest
from flax import nnx

from tsds_jax.data import load_data
from tsds_jax.encoders import EncoderConfig, load_encoder
from tsds_jax.options import FineTuneOptions

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


@pytest.fixture
def plots(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    return importlib.import_module("measures.plots")


@pytest.fixture
def figure_of(plots, code):
    """Draws the figure of a kept result, given its content or as it is."""

    def drawn(name, result=None):
        with matplotlib.style.context(["default", plots.STYLE]):
            result = result or json.loads((code.RESULTS / f"{name}.json").read_text("utf-8"))
            return plots.PLOTS[name].figure(result)

    return drawn


def test_results_of_other_code_than_the_packages_are_marked_stale(code):
    assert code.INDEX.read_text("utf-8") == code.index(), "run: python -m benchmarks index"


@pytest.mark.slow
def test_each_file_of_results_has_a_page_with_its_tables(code, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    results = loaded("results")
    files = sorted(code.RESULTS.glob("*.json"))
    assert len(files) > 5
    for file in files:
        if file.stem.startswith("demo"):  # its page is what it printed
            continue
        page, result = file.with_suffix(".md").read_text("utf-8"), json.loads(file.read_text("utf-8"))
        assert f"[{file.name}]({file.name})" in page
        for case in result["cases"].values() if "cases" in result else [result]:
            assert code.where(case["machine"]) in page
        if all("rows" in case for case in result.get("cases", {"": {}}).values()):
            assert results.case_tables(result) in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "made"),
    [
        ("cost", lambda script, result: script.table(result["axes"])),
        ("detection", lambda script, result: script.table(result["runs"])),
        ("pipeline", lambda script, result: script.table(result["runs"])),
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
    assert code.Kept("some.json", "case", now, "0", "cpu", None).stale == []
    other = {**now, "code": {**now["code"], "errors": "0" * 12}}
    assert code.Kept("some.json", "case", other, "0", "cpu", None).stale == ["errors"]


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "script", ["cost", "demo", "pipeline", "representations", "rules", "scaling", "selection", "soak"]
)
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


@pytest.mark.slow
def test_each_plot_was_drawn_from_the_file_of_results_beside_it_and_its_page_ends_with_it(plots, code):
    drawn = {svg.stem for svg in code.RESULTS.glob("*.svg")}
    assert drawn == set(plots.PLOTS)
    for name in drawn:
        file = code.RESULTS / f"{name}.json"
        svg, page = (file.with_suffix(kind).read_text("utf-8") for kind in (".svg", ".md"))
        assert f"<dc:source>{plots.source(file)}</dc:source>" in svg, "run: python -m benchmarks index"
        assert page.endswith(f"\n\n![{plots.PLOTS[name].alt}]({name}.svg)\n")
        assert page.count(f"({name}.svg)") == 1


@pytest.mark.slow
def test_a_plot_is_left_behind_by_its_figures_until_the_list_is_made_anew(plots, code, tmp_path, monkeypatch):
    file, svg = tmp_path / "cost.json", tmp_path / "cost.svg"
    shutil.copy(code.RESULTS / file.name, file)
    assert plots.draw(file).endswith("(cost.svg)")
    first = svg.read_bytes()
    assert plots.source(file) in first.decode()
    result = json.loads(file.read_text("utf-8"))
    result["axes"]["points"]["seconds"][0][0] *= 2
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    assert plots.source(file) not in first.decode()
    spec = importlib.util.spec_from_file_location("benchmarks_main", FOLDER.parent / "__main__.py")
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    monkeypatch.setattr(main, "RESULTS", tmp_path)
    monkeypatch.setattr(main, "INDEX", tmp_path / "README.md")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "index"])
    main.main()
    assert plots.source(file) in svg.read_text("utf-8")
    shutil.copy(code.RESULTS / file.name, file)
    plots.draw(file)
    assert svg.read_bytes() == first  # of the same file the same plot


@pytest.mark.slow
def test_a_page_is_written_with_its_plot_once_even_where_a_script_has_put_it_there(plots, code, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", {"cost": plots.PLOTS["cost"]})
    result = json.loads((code.RESULTS / "cost.json").read_text("utf-8"))
    shown = f"![{plots.PLOTS['cost'].alt}](cost.svg)"
    for name, tables, page in (
        ("cost", "a table", f"a table\n\n{shown}\n"),
        ("cost", f"a table\n\n{shown}", f"a table\n\n{shown}\n"),
        ("other", "a table", "a table\n"),
    ):
        loaded("results").write(tmp_path / f"{name}.json", result, tables)
        assert (tmp_path / f"{name}.md").read_text("utf-8").split("\n\n", 2)[2] == page
    assert [svg.name for svg in tmp_path.glob("*.svg")] == ["cost.svg"]


@pytest.mark.slow
def test_a_plot_of_speeds_has_the_ratios_of_the_tables_and_each_repeat(figure_of, code):
    cases = json.loads((code.RESULTS / "core.json").read_text("utf-8"))["cases"]
    rows = [row for case in cases.values() for row in case["rows"] if row.get("peer")]
    assert len(rows) > 5
    panels = figure_of("core").axes
    for axes, row in zip(panels, rows, strict=True):
        lines = {line.get_label(): line.get_xdata() for line in axes.lines[::-1]}  # of the first side, drawn first
        peers = [label.get_text() for label in axes.get_yticklabels()]
        of = row.get("rates") or row["seconds"]
        assert peers[0] == row["peer"]
        assert sorted(peers) == sorted(of.keys() - {"ours"})
        assert lines["ratio of the medians"] == pytest.approx([row["ratio"]])
        assert lines["wanted, of the first side"] == [row["wanted"]]
        pairs = zip(of["ours"], of[row["peer"]], strict=True)
        each = [ours / peer if "rates" in row else peer / ours for ours, peer in pairs]
        assert lines["one repeat"] == pytest.approx(each)
        assert row["measure"] in axes.get_title("left").replace("\n", " ")


@pytest.mark.slow
def test_a_plot_of_costs_has_every_call_and_the_exponents_of_the_table(figure_of, code):
    axes = json.loads((code.RESULTS / "cost.json").read_text("utf-8"))["axes"]
    page = (code.RESULTS / "cost.md").read_text("utf-8")
    for panel, entry in zip(figure_of("cost").axes, axes.values(), strict=False):
        called, fitted = panel.lines
        assert called.get_ydata() == pytest.approx(np.ravel(entry["seconds"]))
        assert called.get_xdata() == pytest.approx(np.repeat(entry["sizes"], len(entry["seconds"][0])))
        exponent = fitted.get_label().removeprefix("exponent ")
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {panel.get_xlabel()} |"))
        assert row.split(" | ")[4] == exponent
        end, start = fitted.get_ydata()[[-1, 0]]
        assert np.log(end / start) / np.log(entry["sizes"][-1] / entry["sizes"][0]) == pytest.approx(
            float(exponent), abs=0.005
        )


@pytest.mark.slow
def test_a_plot_of_gains_has_those_of_the_fine_tuned_model_or_at_the_index_with_their_intervals(figure_of, code):
    cases = json.loads((code.RESULTS / "selection.json").read_text("utf-8"))["cases"]
    panels = {axes.get_title("left"): axes for axes in figure_of("selection").axes}
    assert panels.keys() - {""} == {
        case for case, entry in cases.items() if any(run["removed"] for run in entry["runs"])
    }
    for case in panels.keys() - {""}:
        methods = [label.get_text() for label in panels[case].get_yticklabels()]
        for drawn in panels[case].containers:
            share = float(drawn.get_label().partition("%")[0]) / 100
            rows = {row["method"]: row for row in cases[case]["summary"] if row["flips"] == share}
            assert rows.keys() == set(methods)
            middles, _, (intervals,) = drawn.lines
            for x, y, ((low, _), (high, _)) in zip(*middles.get_data(), intervals.get_segments(), strict=True):
                row = rows[methods[round(y)]]
                points = row["finetuned_gain" if "finetuned" in case else "gain_at_index"]
                assert [x, low, high] == pytest.approx([100 * share for share in points])


@pytest.mark.slow
def test_a_plot_is_drawn_of_results_that_are_only_begun_or_is_left_out_where_they_have_nothing_to_show(
    figure_of, plots, code, tmp_path
):
    for name in ("core", "encoders", "selection"):
        cases = json.loads((code.RESULTS / f"{name}.json").read_text("utf-8"))["cases"]
        assert len(cases) > 5
        kept = {}
        for case, entry in cases.items():
            compared = any(row.get("peer") for row in entry.get("rows", ()))
            changed = any(run["removed"] for run in entry.get("runs", ()))
            assert bool(figure_of(name, {"cases": {case: entry}})) is (compared or changed), case
            kept |= {} if compared or changed else {case: entry}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"cases": kept}), "utf-8")
        file.with_suffix(".svg").write_text("of what is gone")
        assert plots.draw(file) == ""
        assert not file.with_suffix(".svg").exists()


@pytest.mark.slow
def test_nothing_of_a_plot_is_cut_off(figure_of, plots):
    for name in plots.PLOTS:
        figure = figure_of(name)
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= -0.01, name
        assert box.x1 <= width + 0.01, name
        assert box.y1 <= height + 0.01, name


@pytest.fixture
def measures(monkeypatch):
    """Imports a file of benchmarks/measures, by its name."""
    monkeypatch.syspath_prepend(FOLDER.parent)
    return lambda name: importlib.import_module(f"measures.{name}")


LARGE = {
    "measure": "m",
    "first": 9.0,
    "seconds": [1.0, 2.0, 4.0],
    "flop": 6e12,
    "peak": {"float32": 5e12, "float32 at default precision": 20e12},
    "device_memory": None,
}
ENCODED = {
    "measure": "m",
    "rates": {"ours": [50.0, 100.0, 200.0], "PyTorch": [40.0, 80.0, 90.0]},
    "first": 1.0,
    "share": {"ours": 0.4, "PyTorch": 0.3},
    "peak": 1e12,
}


@pytest.mark.parametrize(
    ("old", "more", "share", "limit", "shown"),
    [
        (LARGE, {"moved": 8e11, "memory_peak": 2e12}, 0.2, "memory", "| 0.8 TB, 20.0% | 2,000 GB/s | memory |"),
        (LARGE, {"moved": 4e11, "memory_peak": 2e12}, 0.1, "arithmetic", "| 0.4 TB, 10.0% | 2,000 GB/s | arithmetic |"),
        (
            ENCODED,
            {"moved": 5e6, "memory_peak": 1e9},
            {"ours": 0.5, "PyTorch": 0.4},
            "memory",
            "| 5 MB a sequence, ours 50%, PyTorch 40% | 1 GB/s | memory |",
        ),
        (
            ENCODED,
            {"moved": 5e6, "memory_peak": 2e9, "check": ("largest", 0.02)},
            {"ours": 0.25, "PyTorch": 0.2},
            "arithmetic",
            "| 5 MB a sequence, ours 25%, PyTorch 20% | 2 GB/s | arithmetic | largest: 0.02 |",
        ),
    ],
)
def test_a_share_of_the_memorys_peak_is_the_counted_bytes_over_the_median_seconds_and_that_peak(
    old, more, share, limit, shown, measures
):
    rows = measures("rows")
    row = rows.rebuilt(old | more)
    assert row.memory_share == pytest.approx(share)
    assert row.limit == limit
    table = rows.tables([row])
    assert shown in table
    kept = json.loads(json.dumps(rows.as_json(row)))
    assert (kept["memory_share"], kept["limit"]) == (pytest.approx(share), limit)
    assert rows.tables([rows.rebuilt(kept)]) == table


@pytest.mark.parametrize(
    ("entry", "head"),
    [
        (ENCODED, "| measure | sequences/s, share of the peak | measured peak | first call |"),
        (
            LARGE | {"device_memory": 2**30},
            "| measure | first call | later calls | arithmetic | measured peak, share of it | memory on the device |",
        ),
    ],
)
def test_a_row_from_before_the_memory_was_measured_has_the_table_that_it_had(entry, head, measures):
    rows = measures("rows")
    row = rows.rebuilt(entry)
    assert row.memory_share is row.limit is None
    assert not {"memory_share", "limit"} & rows.as_json(row).keys()
    assert rows.tables([row]).splitlines()[:2] == [head, "|" + "---|" * head.count(" | ") + "---|"]
    later = rows.rebuilt(entry | {"moved": 1e9, "memory_peak": 1e12})
    assert "| - | - | - |" in rows.tables([row, later]).splitlines()[2]


def test_peaks_are_the_arithmetic_and_the_bytes_of_all_calls_over_the_median_seconds(measures, monkeypatch):
    peaks, seconds = measures("peaks"), iter([4.0, 9.0, 2.0, 1.0, 8.0] * 4)
    monkeypatch.setattr(peaks, "timed", lambda work: (work(), next(seconds)))
    assert peaks.memory_peak(1000) == 8 * 2 * 4000 / 4
    assert set(peaks.matrix_peak(16).values()) == {8 * 2 * 16**3 / 4}


def test_the_stream_through_the_memory_changes_every_number_in_each_call_where_it_stands(measures):
    peaks, numbers = measures("peaks"), jnp.arange(1000, dtype=jnp.float32)
    found = peaks.stream(numbers, 5)
    np.testing.assert_array_equal(found, np.arange(1000) + 5)
    assert numbers.is_deleted()
    touched = peaks.one_more.lower(found).compile().cost_analysis()["bytes accessed"]
    assert touched == 2 * found.nbytes


# XLA does not know what a GPU's libraries move, nor is PyTorch sure to see the GPU that JAX does.
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="compared with what runs on a CPU")


@on_cpu
def test_the_bytes_counted_of_the_large_game_are_what_its_products_read_and_write(measures):
    points, features, rows = 300, 16, 20
    product = jax.jit(lambda change, x: jnp.einsum("pf,rf->pr", change, x))
    touched = product.lower(jnp.ones((points, features)), jnp.ones((rows, features))).compile().cost_analysis()
    assert measures("large").moved(points, features, rows, 7) == 7 * touched["bytes accessed"]


TINY = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}


@on_cpu
def test_what_is_counted_of_an_encoder_its_program_computes_and_moves_at_least(measures):
    encoder, config = measures("accelerated_encoder"), EncoderConfig.from_dict(TINY)
    graphdef, state = nnx.split(encoder.drawn(config))
    ids = jnp.ones((8, 32), jnp.int32)
    program = jax.jit(lambda state: nnx.merge(graphdef, state)(ids, ids, 0 * ids)).lower(state).compile()
    found = program.cost_analysis()
    assert 0.9 < encoder.flop(config, 8, 32) / found["flops"] <= 1
    assert 0.2 < encoder.moved(config, 8, 32, 4) / found["bytes accessed"] <= 1
    assert encoder.moved(config, 8, 32, 2) == encoder.moved(config, 8, 32, 4) / 2


def encoder_beside_pytorch(measures, dtype):
    reached = measures("peaks").Peaks({"float32": 1e11, "bfloat16": 1e11}, 1e10)
    return measures("accelerated_encoder").checked_sides("tiny", TINY, 4, 16, reached, repeats=1, dtype=dtype)()


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_encoder_is_timed_beside_pytorch_with_the_same_weights_and_its_row_says_how_far_they_agree(dtype, measures):
    pytest.importorskip("torch")
    encoder, config = measures("accelerated_encoder"), EncoderConfig.from_dict(TINY)
    row = encoder_beside_pytorch(measures, dtype)
    assert 0 < row.check[1] <= encoder.MOST[dtype]
    moved = encoder.moved(config, 4, 16, np.dtype(dtype).itemsize)
    assert len(row.rates) == 2
    for side, (rate,) in row.rates.items():
        assert row.share[side] == pytest.approx(encoder.flop(config, 4, 16) * rate / 4 / 1e11)
        assert row.memory_share[side] == pytest.approx(moved * rate / 4 / 1e10)


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_encoder_is_not_timed_where_pytorch_has_other_weights(dtype, measures, monkeypatch):
    pytest.importorskip("torch")
    encoder, name = measures("accelerated_encoder"), "embeddings.position_embeddings.weight"
    real = encoder.encoder_tensors

    def shifted(*given):
        tensors = real(*given)
        return tensors | {name: np.roll(tensors[name], 1, 0)}

    monkeypatch.setattr(encoder, "encoder_tensors", shifted)
    monkeypatch.setattr(encoder, "in_turn", lambda *given: pytest.fail("was timed"))
    with pytest.raises(SystemExit, match="the sides disagree: largest difference"):
        encoder_beside_pytorch(measures, dtype)


def test_sides_of_which_one_gives_no_number_disagree(measures):
    checked = measures("checked").checked
    assert checked("it", 0.1, 0.1) == ("it", 0.1)
    for difference in (0.11, float("nan")):
        with pytest.raises(SystemExit, match=r"the sides disagree: it is .*, and may be 0\.1"):
            checked("it", difference, 0.1)


def test_without_a_gpu_the_encoders_on_one_are_not_measured_but_in_a_trial(measures, monkeypatch, capsys):
    encoder, sizes, told = measures("accelerated_encoder"), [], []

    def checked_sides(name, values, *given, repeats):
        sizes.append((name, values, given))
        told.append("agrees")
        return lambda: told.append("timed")

    monkeypatch.setattr(encoder.jax, "default_backend", lambda: "cpu")
    assert encoder.on_gpu(256, repeats=5, quick=False) == []
    assert "no GPU here, nothing measured" in capsys.readouterr().err
    monkeypatch.setattr(encoder, "peaks", lambda dry: ("dry", dry))
    monkeypatch.setattr(encoder, "checked_sides", checked_sides)
    encoder.on_gpu(8, repeats=1, quick=True)
    assert [name for name, _, _ in sizes] == ["BERT-small", "RoBERTa-small"]
    assert all(values.items() >= encoder.SMALL.items() for _, values, _ in sizes)
    assert all(given == (8, 32, ("dry", True)) for _, _, given in sizes)
    assert told == ["agrees", "agrees", "timed", "timed"]  # an error of one that is checked later would lose it


@pytest.fixture
def steps(measures, tiny_model, tiny_files):
    """What trains, and a comparison of the losses of both sides' first steps on a tiny model."""
    pytest.importorskip("torch")
    training = measures("training")
    encoder, data = load_encoder(tiny_model), load_data(tiny_files["train"])
    options = FineTuneOptions(head="mean", batch_size=8, learning_rate=1e-3, warmup=0.0, dropout=0.1)
    return training, lambda: training.agreeing(encoder, data, options)


@on_cpu
def test_the_losses_of_the_first_steps_agree_with_pytorchs_from_the_same_weights_on_the_same_batches(steps):
    training, compare = steps
    what, apart = compare()
    assert "6 losses without dropout" in what
    assert apart <= training.MOST


@on_cpu
@pytest.mark.parametrize("other", ["head", "dropout", "batches", "rate", "clip"])
def test_steps_of_fine_tuning_are_not_timed_where_pytorchs_differ_in_one_thing(other, steps, monkeypatch):
    training, compare = steps
    real, drawn = training.peer.Training, training.draw_batches

    class Trainer(real):
        def __init__(self, folder, classes, rate, decay, clip):
            rate, clip = rate * (1.1 if other == "rate" else 1), clip * (100 if other == "clip" else 1)
            super().__init__(folder, classes, rate, decay, clip)

        def take_head(self, kernel, bias):
            if other != "head":
                super().take_head(kernel, bias)

        def eval(self):
            return self if other == "dropout" else super().eval()

    monkeypatch.setattr(training.peer, "Training", Trainer)
    if other == "batches":
        monkeypatch.setattr(training, "draw_batches", lambda *given: drawn(*given[:-1], given[-1] + 1))
    first = other in ("head", "dropout", "batches")
    with pytest.raises(SystemExit, match="disagree: the first loss" if first else "disagree: largest relative"):
        compare()


def test_values_of_a_pipeline_agree_with_converged_ones_by_their_slope_and_those_of_other_rows_do_not(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    script = importlib.import_module("pipeline")
    rng = np.random.default_rng(0)
    converged = rng.normal(size=2000)

    def agree(values):
        return script.agree({"agreement": script.against(list(values), [2.0] * 2000, converged)})

    drawn = converged + 2 * rng.normal(size=2000)
    assert script.against(list(drawn), [2.0] * 2000, converged)["spread"] == pytest.approx(1, abs=0.1)
    assert agree(drawn)
    assert not agree(rng.permutation(drawn))
    assert not agree(np.zeros(2000))
    assert not agree(-drawn)


def test_a_pipelines_stamp_has_the_reference_that_values_for_the_plain_side(code):
    files = {file.name for file in code._with_imports("benchmarks/peers/torch_pipeline.py")}
    assert {"torch_pipeline.py", "torch_encoder.py", "ts_dshapley.py"} <= files


@pytest.mark.parametrize("lasting", [False, True])
def test_a_lasting_peer_does_all_its_runs_in_one_process_and_others_each_in_their_own(lasting, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    environment = importlib.import_module("peers.environment")
    shutil.copy(FOLDER.parent / "peers" / "lasting.py", tmp_path)
    (tmp_path / "run_it.py").write_text(
        "import json, os, sys\n"
        "given = json.loads(sys.argv[3])\n"
        "print('what it prints is no answer')\n"
        "assert not given.get('fails')\n"
        "told = {'process': os.getpid(), 'ready': 0, 'versions': {}, 'seed': given['seed']}\n"
        "open(sys.argv[2], 'w').write(json.dumps(told))\n"
    )
    monkeypatch.setattr(environment, "HERE", tmp_path)
    monkeypatch.setattr(environment.Peer, "_python", lambda self: sys.executable)
    peer = environment.Peer("it", tmp_path, lasting=lasting)
    runs = [peer.run(*[np.zeros(1)] * 4, seed=seed) for seed in (3, 4)]
    assert [run["seed"] for run in runs] == [3, 4]
    assert (runs[0]["process"] == runs[1]["process"]) == lasting
    with pytest.raises(subprocess.CalledProcessError):
        peer.run(*[np.zeros(1)] * 4, fails=True)
