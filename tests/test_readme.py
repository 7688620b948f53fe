"""The README, and that of the benchmarks, say only what a run said."""

import json
import re
from pathlib import Path
from statistics import mean, median, stdev

import pytest
from scipy.stats import t

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "benchmarks" / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="run from a source checkout")


@pytest.mark.parametrize("name", ["demo", "demo_flipped"])
def test_the_readme_shows_what_the_demo_printed_and_where(name):
    shown = re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", README.read_text("utf-8"), re.DOTALL)
    assert shown
    printed = (ROOT / "benchmarks" / "results" / f"{name}.txt").read_text("utf-8").strip()
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    assert printed in shown[1]
    for fact in (result["date"], result["machine"]["processor"], f"{result['peak_memory_gib']} GiB"):
        assert fact in shown[1]
    assert f"{result['wall_seconds'] / 60:.1f} minutes" in shown[1]


def read():
    return README.read_text("utf-8") + BENCHMARKS.read_text("utf-8")


def test_the_readmes_speeds_are_those_that_the_benchmark_measured():
    text = read()
    table = re.search(r"<!-- core -->(.*?)<!-- /core -->", text, re.DOTALL)[1].strip().splitlines()[2:]
    result = json.loads((ROOT / "benchmarks" / "results" / "core.json").read_text("utf-8"))
    cases = ["logistic-200", "logistic-1000", "ridge-1000", "until-compiled", "until-cold", "until-cold-10000"]
    cases.append("until-compiled-20000")
    for line, case in zip(table, cases, strict=True):
        row = result["cases"][case]["rows"][0]
        sides = row.get("rates") or row["seconds"]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        shown = [float(cell.split()[-1].replace(",", "")) for cell in cells[1:] if cell != "-"]
        expected = [median(sides["ours"]), *([median(sides[row["peer"]]), row["ratio"]] if "ratio" in row else [])]
        assert shown == pytest.approx(expected, rel=0.01)
    facts = []
    for name, case in result["cases"].items():
        where = f"on {case['machine']['cores']} cores of an {case['machine']['processor']}"
        if name == "memory-2000000":
            peak = f"{case['rows'][0]['peak'][0] / 2**30:.2f} GiB"
            facts.append(f"{peak} ({where}, {case['date']})")
        else:
            versions = f"(jax {case['versions']['jax']}, Python {case['versions']['python']}, {case['date']}; "
            facts.append(f"{where} without accelerator {versions}`python benchmarks/core.py`")
    facts.append(f"{result['cases']['memory-100000']['rows'][0]['peak'][0] / 2**30:.2f} GiB")
    coverage = result["cases"]["coverage"]["rows"][:3]
    spans = [f"{100 * min(row['shares']):.0f} to {100 * max(row['shares']):.0f}" for row in coverage]
    facts.append(f"{spans[0]}, {spans[1]} and {spans[2]} %")
    held = [f"{row['share']:.1%}"[:-1] for row in coverage]
    facts.append(f"{held[0]}, {held[1]} and {held[2]} %")
    few, many = (result["cases"][case]["rows"][0] for case in ("until-compiled", "until-cold-10000"))
    needed = [row["samples"][row["peer"]] for row in (few, many)]
    facts.append(f"{needed[0]:,} a point, of 10,000 points {needed[1]:,}")
    assert all(fact in " ".join(text.split()) for fact in facts)


def test_the_readmes_encoder_speeds_are_those_that_the_benchmark_measured():
    text = read()
    table = re.search(r"<!-- encoders -->(.*?)<!-- /encoders -->", text, re.DOTALL)[1].strip().splitlines()[2:]
    cases = json.loads((ROOT / "benchmarks" / "results" / "encoders.json").read_text("utf-8"))["cases"]
    rows = [cases[name]["rows"][-1] for name in ("product", "embed", "embed-text", "train-32", "train-64")]
    for line, row in zip(table, rows, strict=True):
        shown = [float(cell.replace(",", "")) for cell in line.strip("|").split("|")[1:]]
        expected = [median(row["rates"]["ours"]), median(row["rates"]["PyTorch"]), row["ratio"]]
        assert shown == pytest.approx(expected, rel=0.01)
    memory = cases["memory"]["rows"][0]
    for number in (memory["grown"][0], memory["output"][0]):
        assert f"{number / 2**20:.0f} MiB" in text
    said = " ".join(text.split())
    assert all(f"on 2 cores of an {case['machine']['processor']} ({case['date']};" in said for case in cases.values())
    embedding, *training = (cases[name]["rows"][-1]["ratio"] for name in ("embed", "train-32", "train-64"))
    tuned = f"is fine-tuned {min(training):.2f} to {max(training):.2f} times as fast a step"
    assert f"embeds {embedding:.2f} times as fast as by PyTorch and {tuned}" in said


def test_the_readmes_whole_pipeline_is_the_medians_of_what_was_measured():
    text, folder = read(), ROOT / "benchmarks" / "results"
    shown = re.search(r"<!-- pipeline -->\n(.*?)\n<!-- /pipeline -->", text, re.DOTALL)[1].splitlines()
    page = re.sub(r" \([\d.]+ to [\d.]+\)", "", (folder / "pipeline.md").read_text("utf-8")).splitlines()
    assert all(line in page for line in shown[2:])
    runs = json.loads((folder / "pipeline.json").read_text("utf-8"))
    whole = [median(run["seconds"] for run in runs["runs"][side]) for side in ("ours", "plain")]
    assert shown[-1] == f"| **all** | {whole[0]:.1f} | {whole[1]:.1f} | {whole[1] / whole[0]:.3g} |"
    memory = [max(run["peak_memory"] for run in runs["runs"][side]) for side in ("ours", "plain")]
    said = " ".join(text.split())
    assert f"takes ours {(memory[0] - memory[1]) / 2**30:.1f} GiB more" in said
    assert re.search(rf"its end, takes {whole[0]:.0f} s where one put together .* takes {whole[1]:.0f} s", said)
    machine = runs["machine"]
    where = f"{machine['cores']} cores of an {machine['processor']}, {runs['date']}; `python benchmarks/pipeline.py`"
    assert where in said


def test_what_launching_says_of_devices_that_share_cores_is_what_the_benchmark_measured():
    said = " ".join((ROOT / "examples" / "launching.md").read_text("utf-8").split())
    result = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text("utf-8"))
    assert result["date"] in said
    one = result["runs"][0]["seconds"]
    for run in result["runs"][1:]:
        names = ["values by add-one", "values by chains", *(["embedding"] if run["processes"] == 1 else [])]
        for name in names:
            times = f"{median(one[name]) / median(run['seconds'][name]):.2f}"
            assert times in said, (run["processes"], run["devices"], name, times)


def test_the_readmes_speeds_on_a_gpu_are_those_that_the_benchmarks_measured():
    text = read()

    def tables(name):
        return re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", text, re.DOTALL)[1].strip().splitlines()[2:]

    core, encoders = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
        for name in ("accelerator", "encoders_gpu")
    )
    for line, case in zip(tables("accelerator"), ("logistic-200", "logistic-1000", "ridge-1000"), strict=True):
        shown = float(line.strip("|").split("|")[1].replace(",", ""))
        assert shown == pytest.approx(median(core["cases"][case]["rows"][0]["rates"]["ours"]), abs=0.5)
    for line, row in zip(tables("encoders-gpu"), encoders["cases"]["gpu"]["rows"], strict=True):
        shown = [float(cell.strip(" %").replace(",", "")) for cell in line.strip("|").split("|")[1:]]
        sides = [(median(row["rates"][side]), 100 * row["share"][side]) for side in ("ours", "PyTorch, compiled")]
        assert shown == [round(number) for side in sides for number in side]
    large = core["cases"]["large"]["rows"][0]
    said = " ".join(text.split())
    assert f"in {median(large['seconds']):.1f} s ({large['first']:.0f} s the first time" in said
    assert (
        f"{large['device_memory'] / 2**30:.1f} GiB on the device. That is {100 * large['share']['float32']:.0f} %"
        in said
    )
    assert f"and {100 * large['share']['float32 at default precision']:.0f} % of what TF32's do" in said
    few, many = (core["cases"][f"until-compiled{name}"]["rows"][0] for name in ("", "-10000"))
    ranks, seconds = (
        [median(numbers) for numbers in both]
        for both in ((few["spearman"], many["spearman"]), (few["seconds"]["ours"], many["seconds"]["ours"]))
    )
    assert (
        f"at {ranks[0]:.3f}, after {seconds[0]:.2f} s, of 10,000 points at {ranks[1]:.3f} after {seconds[1]:.2f} s."
        in said
    )
    for result in (core, encoders):
        for case in result["cases"].values():
            about = f"({case['machine']['device_kind']}, jax {case['versions']['jax']}, {case['date']}; "
            assert f"{about}`python benchmarks/accelerator.py`" in said


def test_the_readmes_gains_of_the_rules_are_those_that_the_benchmark_measured():
    text = " ".join(read().split())
    runs = json.loads((ROOT / "benchmarks" / "results" / "rules.json").read_text("utf-8"))["runs"]
    # The sentence is about values by accuracy, of which alone the first runs were.
    runs = [run for run in runs if run.get("utility", "accuracy") == "accuracy"]
    # As many draws in every setting, so the mean over all is the mean of the settings' means.
    gains = {rule: [run["gain"][rule] for run in runs] for rule in ("best", "cross_fitted", "one_se", "argmax")}
    assert f"over {len(runs)} draws" in text
    assert f"rose by {mean(gains['cross_fitted']):.2f} points on average" in text
    assert f"fell by {-min(gains['cross_fitted']):.2f} at worst" in text
    assert f"by argmax it rose by {mean(gains['argmax']):.2f} and fell by {-min(gains['argmax']):.2f}" in text
    assert f"by `one_se` it rose by {mean(gains['one_se']):.2f} and fell by {-min(gains['one_se']):.2f}" in text
    assert f"which flatters it, gained {mean(gains['best']):.2f}" in text
    still = [run["gain"]["cross_fitted"] for run in runs if (run["flips"], run["classes"]) == (0, "two")]
    assert len(still) == 4
    assert "over four splits the default rule's cuts by accuracy" in text
    assert f"gained {min(still):.2f} to {max(still):.2f} points where nothing was flipped" in text


@pytest.mark.parametrize(("name", "cuts_at_flips"), [("two", {200, 300}), ("three", {100, 200})])
def test_the_readmes_tables_of_methods_are_what_the_benchmark_measured(name, cuts_at_flips):
    text = read()
    table = re.search(rf"<!-- {name} classes -->(.*?)<!-- /{name} classes -->", text, re.DOTALL)[1]
    table = table.strip().splitlines()[2:]
    case = json.loads((ROOT / "benchmarks" / "results" / "selection.json").read_text("utf-8"))["cases"][name]
    rows = {(row["method"], row["flips"]): row for row in case["summary"]}
    run = {"two": "`python benchmarks/selection.py --only two`", "three": "`--only three`"}[name]
    assert f"{case['date']}; {run}" in " ".join(text.split())
    assert len(table) >= 8
    for line in table:
        method, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        still, flipped = rows[method, 0.0], rows[method, 0.1]
        gains = (still["gain_10"], flipped["gain_10"], flipped["gain_at_index"])
        check_cells(cells, (flipped["auroc"], rows[method, 0.2]["auroc"], *gains), (1, 1, 100, 100, 100))
    if name == "two":
        fifth = [-100 * rows["accuracy_shapley", flips]["gain_20"][0] for flips in (0.1, 0.0)]
        assert f"cost it {fifth[0]:.1f} to {fifth[1]:.0f} points without a fifth" in " ".join(text.split())
    else:
        behind = [rows["loss", flips]["auroc"][0] - rows["shapley", flips]["auroc"][0] for flips in (0.1, 0.2)]
        assert f"values come {behind[0]:.3f} behind at 10 % and {behind[1]:.3f} at 20 %" in " ".join(text.split())
    cuts = {(run["flips"], run["removed"]) for run in case["runs"] if run["method"] == "shapley"}
    assert {removed for flips, removed in cuts if flips == 0} == {0}
    assert {removed for flips, removed in cuts if flips == 0.1} == cuts_at_flips


def test_what_the_readme_says_of_uneven_flips_is_what_the_benchmark_measured():
    text = read()
    said = " ".join(text.split())
    table = re.search(r"<!-- uneven -->(.*?)<!-- /uneven -->", text, re.DOTALL)[1].strip().splitlines()[2:]
    found = json.loads((ROOT / "benchmarks" / "results" / "selection.json").read_text("utf-8"))["cases"]
    cases = {name: found[f"{name}-class_dependent"] for name in ("two", "three")}
    rows = {(name, row["method"], row["flips"]): row for name, case in cases.items() for row in case["summary"]}
    assert len(table) >= 8
    for line in table:
        method, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        measured = [rows[name, method, 0.2][key] for key in ("auroc", "gain_at_index") for name in cases]
        check_cells(cells, measured, (1, 1, 100, 100))
    assert all(f"{case['date']}; `--only two --noise class_dependent`" in said for case in cases.values())

    def more(name, key, scale, digits, one="shapley", other="loss"):
        runs = {(run["method"], run["seed"]): run for run in cases[name]["runs"] if run["flips"] == 0.2}
        each = [scale * (runs[one, seed][key] - runs[other, seed][key]) for method, seed in runs if method == one]
        return f"{mean(each):.{digits}f} ± {t.ppf(0.975, len(each) - 1) * stdev(each) / len(each) ** 0.5:.{digits}f}"

    assert f"than losses, by {more('three', 'auroc', 1, 3)}" in said
    assert f"gains the classifier {more('three', 'gain_at_index', 100, 2)} points more" in said
    assert f"losses find {more('two', 'auroc', 1, 3, 'loss', 'shapley')} more" in said
    assert f"removal by values gains {more('two', 'gain_at_index', 100, 2)} points more" in said
    tenth = [rows[name, "shapley", 0.1]["gain_at_index"] for name in cases]
    gains = [f"{100 * middle:+.2f} ± {100 * (high - middle):.2f}" for middle, _, high in tenth]
    assert f"({gains[0]} by values of two classes, {gains[1]} of three)" in said
    chosen = [run for case in cases.values() for run in case["runs"] if run["method"] == "shapley"]
    removed = {run["removed"] for run in chosen if run["flips"] == 0.2}
    assert (min(removed), max(removed)) == (400, 700)


def check_cells(cells, found, times):
    for cell, (middle, _, high), scale in zip(cells, found, times, strict=True):
        digits = len(cell.split(" ± ")[1].split(".")[1])
        expected = [round(scale * middle, digits), round(scale * (high - middle), digits)]
        assert [float(part) for part in cell.split(" ± ")] == pytest.approx(expected, abs=1e-9)


def test_the_readmes_table_of_fine_tuned_models_is_what_the_benchmark_measured():
    text = read()
    table = re.search(r"<!-- finetuned -->(.*?)<!-- /finetuned -->", text, re.DOTALL)[1].strip().splitlines()[2:]
    cases = json.loads((ROOT / "benchmarks" / "results" / "selection.json").read_text("utf-8"))["cases"]
    flipped = [cases[f"two-finetuned-{flips}"] for flips in (0.1, 0.2)]
    rows = [{row["method"]: row for row in case["summary"]} for case in flipped]
    assert len({case["date"] for case in flipped}) == 1
    run = "`python benchmarks/selection.py --only two --finetune 0.2` and with 0.1"
    assert f"{run}, {flipped[0]['date']})" in " ".join(text.split())
    assert len(table) >= 4
    for line in table:
        method, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        found = [row[method][key] for key in ("auroc", "finetuned_gain") for row in rows]
        check_cells(cells, found, (1, 1, 100, 100))
    said = " ".join(text.split())
    for case, other, sign, words in (
        (flipped[1], "random", 1, "{} more than random"),
        (flipped[1], "loss", 1, "losses ({})"),
        (flipped[1], "knn_shapley", -1, "{} less"),
        (flipped[0], "random", 1, "random rows ({} more)"),
        (flipped[0], "knn_shapley", -1, "{} worse than KNN-Shapley"),
    ):
        gains = {}
        for run in case["runs"]:
            gains.setdefault(run["method"], []).append(100 * run["finetuned_gain"])
        won = [sign * (mine - theirs) for mine, theirs in zip(gains["shapley"], gains[other], strict=True)]
        half = t.ppf(0.975, len(won) - 1) * stdev(won) / len(won) ** 0.5
        assert words.format(f"{mean(won):.2f} ± {half:.2f}") in said

    third = cases["three-finetuned-0.2"]
    (row,) = third["summary"]
    middle, _, high = row["finetuned_gain"]
    assert f"cost the fine-tuned model {-100 * middle:.2f} ± {100 * (high - middle):.2f} points" in said
    assert f"Intel Xeon, {third['date']}, `--only three --finetune 0.2 --methods 1`" in said

    uneven = cases["three-class_dependent-finetuned-0.2"]
    (row,) = uneven["summary"]
    (middle, _, high), (index, _, top) = row["finetuned_gain"], row["gain_at_index"]
    gained, before = (f"{100 * a:.2f} ± {100 * (b - a):.2f}" for a, b in ((middle, high), (index, top)))
    assert sum(run["finetuned_gain"] > 0 for run in uneven["runs"]) == 4
    assert f"({uneven['date']}), they gained it {gained} points, by four seeds of five" in said
    assert f"where the classifier had gained {before}." in said

    def removed(case):
        return {run["removed"] for run in case["runs"] if run["method"] == "shapley"}

    assert [removed(case) for case in (cases["two-finetuned-0"], *flipped, third)] == [{0}, {300}, *[{600, 700}] * 2]


def test_what_the_readme_says_of_the_checked_default_is_what_the_benchmark_measured():
    text = README.read_text("utf-8")
    (case,) = json.loads((ROOT / "benchmarks" / "results" / "checked.json").read_text("utf-8"))["cases"].values()
    assert re.search(r"<!-- checked -->\n(.*?)\n<!-- /checked -->", text, re.DOTALL)[1] == case["table"]
    said, runs = " ".join(text.split()), [run for run in case["runs"] if run["method"] == "shapley"]
    where = f"on {case['machine']['cores']} cores of an {case['machine']['processor']}, {case['date']}; "
    assert f"{where}`python benchmarks/checked.py --flips 0.4" in said
    gains = [100 * run["finetuned_gain"] for run in runs if run["removed"]]
    assert {run["flips"] for run in runs} == {0.4}
    assert f"gained the fine-tuned model {min(gains):.1f} to {max(gains):.1f} points" in said
    by_seed = {run["seed"]: 100 * run["finetuned_gain"] for run in case["runs"] if run["method"] == "random"}
    random = [by_seed[run["seed"]] for run in runs if run["removed"]]
    assert f"as many random rows gained it {min(random):.1f} to {max(random):.1f}" in said
    won = [100 * run["finetuned_gain"] - by_seed[run["seed"]] for run in runs]
    half = t.ppf(0.975, len(won) - 1) * stdev(won) / len(won) ** 0.5
    assert f"values won {mean(won):.2f} ± {half:.2f} points more than random rows" in said
    proposed, removed = ([run[key] for run in runs if run["removed"]] for key in ("proposed", "removed"))
    assert f"{min(removed)} to {max(removed)} rows where the rule alone would remove {min(proposed)} to" in said
    assert f"to {max(proposed)}" in said


def test_the_readmes_table_of_representations_is_what_the_benchmark_measured():
    text = read()
    table = re.search(r"<!-- representations -->(.*?)<!-- /representations -->", text, re.DOTALL)[1]
    runs = json.loads((ROOT / "benchmarks" / "results" / "representations.json").read_text("utf-8"))["runs"]
    before = {(run["flips"], run["seed"]): run for run in runs if run["by"] == "pretrained"}
    after = [(run, before[run["flips"], run["seed"]]) for run in runs if run["by"] != "pretrained"]
    values, losses = ([run[key] > plain[key] for run, plain in after] for key in ("value_auroc", "loss_auroc"))
    helped = f"helped values in {sum(values)} of {len(values)} comparisons and losses in {sum(losses)}"
    assert helped in " ".join(text.split())
    keys = [(flips, key) for flips in (0.1, 0.2) for key in ("value_auroc", "loss_auroc")]
    for line in table.strip().splitlines()[2:]:
        by, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        for cell, (flips, key) in zip(cells, keys, strict=True):
            some, plain = (
                [run[key] for run in runs if (run["by"], run["flips"]) == (of, flips)] for of in (by, "pretrained")
            )
            assert len(some) == len(plain) == 3
            gains = [one - other for one, other in zip(some, plain, strict=True)]
            half = t.ppf(0.975, 2) * stdev(gains) / 3**0.5
            gained = "" if by == "pretrained" else f" ({mean(gains):+.3f} ± {half:.3f})"
            assert cell == f"{mean(some):.3f}{gained}"


def test_the_readmes_rows_of_detection_are_what_the_benchmark_measured():
    text = read()
    rows = re.search(r"<!-- detection -->(.*?)<!-- /detection -->", text, re.DOTALL)[1].strip().splitlines()[2:]
    result = json.loads((ROOT / "benchmarks" / "results" / "detection.json").read_text("utf-8"))
    assert f"(2 cores of an {result['machine']['processor']}, {result['date']};" in " ".join(text.split())
    assert len(rows) >= 5
    for row in rows:
        method, seconds, *scores = (cell.strip() for cell in row.strip("|").split("|"))
        some = [run for run in result["runs"] if run["method"] == method]
        assert len(some) == 5
        assert float(seconds) == pytest.approx(median(run["seconds"] for run in some), rel=0.05)
        for shown, key in zip(scores, ("auroc", "average_precision"), strict=True):
            found = [run[key] for run in some]
            middle, half = (float(part) for part in shown.split(" ± "))
            assert middle == round(mean(found), 3)
            assert half == pytest.approx(2.776 * stdev(found) / 5**0.5, abs=6e-4)  # Student's t of four degrees


def test_the_readmes_first_example_prints_what_it_shows(capsys):
    code, shown = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", README.read_text("utf-8"), re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == shown


def test_the_readme_names_the_flips_that_the_demo_found():
    printed = (ROOT / "benchmarks" / "results" / "demo_flipped.txt").read_text("utf-8")
    doubted, flipped = re.search(r"(\d+) of the (\d+) labels that were flipped are among the doubted", printed).groups()
    said = " ".join(README.read_text("utf-8").split())
    assert f"{doubted} of the {flipped} flipped labels are among the doubted" in said


def test_the_readme_names_the_test_line_that_ci_runs():
    assert "pip install '.[test]' && pytest" in README.read_text("utf-8").splitlines()


def test_every_name_that_the_readme_uses_exists():
    import tsds_jax

    used = set(re.findall(r"\btsds\.([a-z_]+)\(", README.read_text("utf-8")))
    assert used
    for name in used:
        assert hasattr(tsds_jax, name)


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "examples/README.md", "examples/launching.md"])
def test_every_file_that_a_page_points_to_is_there(page):
    pointed = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text("utf-8"))
    assert pointed
    missing = [one for one in pointed if "://" not in one and not ((ROOT / page).parent / one).exists()]
    assert not missing
