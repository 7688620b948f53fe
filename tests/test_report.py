"""The page says what the run found, no more; loads nothing; and shows every text of the data as text."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tsds_jax.data.csvtext import format_csv
from tsds_jax.errors import InputError
from tsds_jax.report import read_run, render_report, write_report
from tsds_jax.report.outcome import outcome

NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}} {% for x in y %}",
    "</summary></details></table><style>*{display:none}</style>",
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>",
    "' onmouseover='alert(1)' x='",
    "مرحبا بالعالم هذا نص طويل من اليمين إلى اليسار",
    "great film 🎬👩‍👩‍👧 &amp; not &lt;escaped&gt; twice",
    "first line\r\nsecond line\rthird",
    "a\x00b\x1bc $x_1$ \u202eoverride",
    "https://example.com/@import url(https://example.com/x.css)",
]
NASTY_LABEL = '<b onclick="x()">neg</b>'
SENTENCES = [
    "a warm, funny and deeply felt portrait of a family that refuses to fall apart",
    "the plot creaks along like a bus with a flat tyre",
    "I have seen worse, though not this year",
    "every scene earns its place; the last one is devastating",
    "two hours I will not get back",
    "gorgeous to look at and about nothing at all",
]


def save_json(path: Path, found: object) -> None:
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def change_json(path: Path, **changes: object) -> None:
    save_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def history(steps, level, rng):
    marks = np.linspace(steps // 10, steps, 10).astype(int)
    return [
        {
            "step": int(step),
            "train_loss": float(0.2 + 0.5 * np.exp(-place / 3) + rng.normal(0, 0.01)),
            "validation_loss": float(0.5 + 0.1 * np.cos(place)),
            "validation_accuracy": float(level - 0.15 * np.exp(-place / 2) + rng.normal(0, 0.004)),
        }
        for place, step in enumerate(marks)
    ]


def make_run(
    folder, rows=3000, removed=210, *, pairs=False, classes=("negative", "positive"), nasty=True, seed=0, suspects=0
):
    """A run folder as `tsds run` writes it, with made-up numbers of the right size."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    count = rng.poisson(95, rows) + 5
    value = rng.normal(4e-4, 7e-4, rows) - 2.2e-3 * (rng.random(rows) < 0.08)
    stderr = 3e-3 / np.sqrt(count)
    if rows > 10:
        count[[5, 6]], value[[5, 6]], stderr[[5, 6]] = 0, np.nan, np.nan
    order = np.argsort(np.where(np.isnan(value), np.inf, value), kind="stable")
    rank = np.empty(rows, int)
    rank[order] = np.arange(1, rows + 1)
    texts = [f"{SENTENCES[i % len(SENTENCES)]} ({i})" for i in range(rows)]
    labels = [classes[i] for i in rng.integers(0, len(classes), rows)]
    if nasty:
        for place, text in zip(order[: len(NASTY)], NASTY, strict=True):
            texts[place] = text
        texts[order[11]] = "very long " * 400
        labels[order[0]] = NASTY_LABEL
    table = {
        "row": np.arange(rows),
        "text": texts,
        **({"text_pair": [f"second of {i} <i>" for i in range(rows)]} if pairs else {}),
        "label": labels,
        "value": value,
        "stderr": stderr,
        "count": count,
        "rank": rank,
        "kept": rank > removed,
    }
    pq.write_table(pa.table(table), folder / "values.parquet")
    doubted = order[:suspects]
    if suspects:
        doubts = {
            **{
                name: [str(table[name][i]) for i in doubted]
                for name in ("row", "text", "text_pair", "label")
                if name in table
            },
            "suggested": [classes[0]] * len(doubted),
            "probability": [f"{0.99 - 0.01 * i:.4f}" for i in range(len(doubted))],
        }
        (folder / "suspects.csv").write_bytes(format_csv(pa.table(doubts), ","))
    grid = np.unique(np.linspace(0, rows * 0.5, 51).astype(int))
    gain = 0.02 * np.exp(-(((grid / rows - 0.08) / 0.08) ** 2)) - 0.08 * (grid / rows) ** 2
    difference = gain - gain[0] + rng.normal(0, 0.0015, len(grid)) * (grid > 0)
    save_json(
        folder / "selection.json",
        {
            "rule": "one_se",
            "removal_index": removed,
            "utility": "accuracy",
            "majority_share": 0.52,
            "curve": {
                "removed": grid.tolist(),
                "score": (0.742 + difference).tolist(),
                "difference": difference.tolist(),
                "stderr": (0.008 * np.sqrt(grid / max(grid[-1], 1))).tolist(),
            },
        },
    )
    arms = [("full", rows, 0.809), ("selection", rows - removed, 0.817), ("random", rows - removed, 0.803)]
    save_json(
        folder / "finetune.json",
        {
            "arms": [
                {
                    "name": name,
                    "rows": size,
                    "accuracy": accuracy,
                    "macro_f1": accuracy - 0.006,
                    "steps": 470,
                    "best_step": history(470, 0.8, rng)[6]["step"],
                    "seconds": 143.2,
                    "history": history(470, accuracy, rng),
                }
                for name, size, accuracy in arms
            ],
            "differences": [
                {"a": a, "b": b, "metric": metric, "estimate": estimate, "low": low, "high": high}
                for a, b, metric, estimate, low, high in [
                    ("selection", "full", "accuracy", 0.008, -0.0053, 0.0207),
                    ("selection", "full", "macro_f1", 0.0081, -0.005, 0.021),
                    ("selection", "random", "accuracy", 0.014, 0.0013, 0.0267),
                    ("random", "full", "accuracy", -0.006, -0.0187, 0.0067),
                ]
            ],
            "test_rows": 1500,
        },
    )
    source = '/data/"><img src=x onerror=alert(2)>.csv' if nasty else "/data/reviews/train.csv"
    save_json(
        folder / "manifest.json",
        {
            "tsds_jax": "0.1.0",
            "command": "tsds run --train train.csv --validation dev.csv --test test.csv --text sentence "
            "--label label --model ./all-MiniLM-L6-v2 --out runs/reviews --seed 0",
            "created": "2026-11-23T16:05:11+00:00",
            "seed": 0,
            "options": {
                "pca": 32,
                "pooling": "mean",
                "layer": -1,
                "note": NASTY[0] if nasty else "",
                "C": 1.0,
            },
            "versions": {"jax": "0.10.2", "flax": "0.12.8", "transformers": "5.23.0", "numpy": "2.4.6"},
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
            "cpus": 2,
            "devices": ["TFRT_CPU_0"],
            "finetuning": {"learning_rate": 2e-5, "seed": 0},
            "representation": {"width": 32, "explained": 0.71, "truncated_texts": 3},
            "model": {"name": "all-MiniLM-L6-v2", "parameters": 22713216},
            "data": {
                "train": {
                    "source": source,
                    "rows": rows,
                    "sha256": "9f2c1d7e" * 8,
                    "classes": {name: rows // len(classes) for name in classes},
                },
                "validation": {"source": "dev.csv", "rows": 500, "sha256": "ab" * 32, "classes": {"a": 1}},
                "test": None,
            },
            "stages": {"data": 0.31, "embed": 38.2, "value": 12.9, "select": 1.2, "finetune": 431.0},
            "warnings": [
                "2 rows were never drawn: their values are unknown and they were kept",
                *([f"label {NASTY_LABEL} has 1 row"] if nasty else []),
            ],
            "valuation": {
                "estimator": "add_one",
                "source": "logistic",
                "utility": "accuracy",
                "subset_size": 200,
                "samples": 100,
                "fits": 6200,
                "reliability": 0.913,
                "C": 1.0,
                "truncation": None,
                "points_never_drawn": 2,
            },
        },
    )
    return folder


class Page(HTMLParser):
    """Everything about a page that a test here asks for, with entities decoded."""

    void = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self) -> str:
        return "".join(self.text).replace("\u00a0", " ")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def page_of(run) -> Page:
    return Page(render_report(read_run(run)))


def assert_harmless(html: str) -> Page:
    """No scripts, no handlers, nothing loaded, and every link stays within the page."""
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "link",
            "form",
            "base",
            "foreignobject",
        }
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "src"
            if name.endswith("href") or name == "action":
                assert value.startswith("#")
            if name == "style":
                assert all(link.startswith("#") for link in re.findall(r"url\(['\"]?([^)]*)", value))
    styles = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    assert len(styles) == 1
    assert "@import" not in styles[0]
    assert "url(" not in styles[0]
    assert len(page.ids) == len(set(page.ids))
    return page


def test_the_page_runs_nothing_and_loads_nothing_whatever_the_data_say(run):
    assert_harmless(write_report(run).read_text(encoding="utf-8"))


def test_every_text_of_the_data_is_shown_as_it_is(run):
    page = page_of(run)
    for text in NASTY:
        assert re.sub("[\x00\x1b\u202e]", "\ufffd", text) in page.words
    assert NASTY_LABEL in page.words
    assert '"><img src=x onerror=alert(2)>.csv' in page.words
    assert "49" not in page.words.split("{{7*7}}")[1][:20]


@pytest.mark.slow
def test_every_reference_within_the_page_has_its_target(run):
    html = render_report(read_run(run))
    page = Page(html)
    wanted = set(re.findall(r"url\(#([^)]*)\)", html)) | set(re.findall(r'href="#([^"]*)"', html))
    wanted |= {i for _, a in page.tags for i in (a.get("aria-labelledby") or "").split()}
    assert wanted
    assert wanted <= set(page.ids)


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_nothing_but_the_page_is_left_in_the_folder(run):
    before = set(os.listdir(run))
    write_report(run)
    assert set(os.listdir(run)) == before | {"report.html"}


def test_a_run_in_the_home_folder_is_found_by_its_sign(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert write_report(f"~/{run.name}") == run / "report.html"


def test_an_old_page_survives_a_run_that_cannot_be_read(run):
    write_report(run)
    old = (run / "report.html").read_bytes()
    (run / "selection.json").write_text("{")
    with pytest.raises(InputError):
        write_report(run)
    assert (run / "report.html").read_bytes() == old


def summary_of(page: Page) -> str:
    return page.words.split("tsds_jax 0.1.0")[1].split("Warnings")[0]


def test_the_summary_says_so_when_the_interval_includes_zero(run):
    summary = summary_of(page_of(run))
    assert "2,998 of 3,000 training rows were valued and 210 of the least valuable (7.0 %) removed" in summary
    assert "changes by +0.8 points (95 % interval \u22120.5 to +2.1 on 1,500 test rows)" in summary
    assert "which these test rows cannot tell from no change" in summary
    assert "so the ranking chose better than this random draw" in summary


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.02, "higher by more than the choice of test rows explains (another fine-tuning seed may differ)"),
        (-0.02, -0.001, "lower by more than the choice of test rows explains (another fine-tuning seed may differ)"),
        (0.0, 0.02, "cannot tell from no change"),
        (-0.0, 0.0, "cannot tell from no change"),
        (None, None, "without a usable interval"),
    ],
)
def test_the_verdict_follows_the_interval(run, low, high, said):
    change = {"a": "selection", "b": "full", "metric": "accuracy", "estimate": 0.0, "low": low, "high": high}
    change_json(run / "finetune.json", differences=[change])
    assert said in summary_of(page_of(run))


def test_a_ranking_no_better_than_chance_is_called_that(run):
    change = {
        "a": "selection",
        "b": "random",
        "metric": "accuracy",
        "estimate": 0.01,
        "low": -0.01,
        "high": 0.03,
    }
    change_json(run / "finetune.json", differences=[change])
    assert "does not show that the ranking chooses better than chance" in page_of(run).words


def test_the_page_holds_every_section_and_its_figures(run):
    page = page_of(run)
    for heading in ("Fine-tuned model", "Removal curve", "Values", "By label", "How this was computed"):
        assert heading in page.words
    assert [tag for tag, _ in page.tags].count("svg") == 3
    assert "The 20 lowest-valued examples" in page.words
    assert "The 20 highest-valued examples" in page.words
    for fact in (
        "6,200 fits",
        "Reliability 0.91",
        "32 principal components (71.0 %",
        "finetune learning_rate",
        "--model ./all-MiniLM-L6-v2",
    ):
        assert fact in page.words
    assert "81.7 %" in page.words


@pytest.mark.slow
def test_where_groups_were_valued_it_is_groups_that_are_counted(run):
    options = json.loads((run / "manifest.json").read_text())["options"]
    for group, unit in ((None, "row"), ("doc", "group")):
        change_json(run / "manifest.json", options=options | {"group": group})
        words = page_of(run).words
        for said in (f"To value the {unit}s, ", f"contributions a {unit} were asked", f"a {unit}\u2019s value is its"):
            assert said in words


@pytest.mark.parametrize("by_class", [False, True])
def test_where_each_class_gave_its_share_the_order_is_said_to_be_that_of_classes(run, by_class):
    options = json.loads((run / "manifest.json").read_text())["options"]
    change_json(run / "manifest.json", options=options | {"by_class": by_class})
    words = page_of(run).words
    assert ("210 of the least valuable of their class (7.0 %) removed" in words) == by_class
    assert ("training rows removed, lowest of each class first" in words) == by_class
    assert ("training rows removed, lowest values first" in words) != by_class


@pytest.mark.slow
def test_the_model_that_made_the_vectors_is_said_to_be_fine_tuned_where_it_was(run):
    options = json.loads((run / "manifest.json").read_text())["options"]
    tuned = {"pretrained": "", "fine_tuned": "for one pass", "cross_fitted": "for two passes on the half"}
    for by, said in tuned.items():
        change_json(run / "manifest.json", options=options | {"represent_by": by})
        words = page_of(run).words
        assert f"fine-tuned {said}" in words if said else "fine-tuned for" not in words


def test_figures_have_a_title_and_words_for_those_who_do_not_see_them(run):
    page = page_of(run)
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert len(attributes["aria-labelledby"].split()) == 2
    assert [tag for tag, _ in page.tags].count("desc") == len(drawings)


def test_no_colour_is_fixed_in_a_figure_so_dark_pages_can_be_read(run):
    html = render_report(read_run(run))
    for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        assert re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", drawing) == []
        assert "var(--" in drawing
        assert "<style" not in drawing


def test_rows_never_drawn_are_counted_and_not_ranked(run):
    page = page_of(run)
    assert "2 rows were never drawn and have no value" in page.words
    assert "nan" not in page.words.lower().split("how this was computed")[0]


@pytest.mark.slow
def test_a_run_without_fine_tuning_says_what_is_not_known(run):
    (run / "finetune.json").unlink()
    page = assert_harmless(render_report(read_run(run)))
    words = "no fine-tuned models were compared in this run, so what that does to one is not known."
    assert words in page.words  # one may have been, to represent the rows
    assert "Fine-tuned model" not in page.words
    change_json(run / "selection.json", evidence="Checked by fine-tuning the model itself.")
    assert "\nChecked by fine-tuning the model itself.\n" in outcome(run)
    words = page_of(run).words
    assert "no fine-tuned models were compared" not in words
    assert "the model itself was asked on validation rows alone" in words


@pytest.mark.slow
@pytest.mark.parametrize("crossed", [False, True])
def test_a_cut_that_was_asked_for_is_not_said_to_be_chosen_for_its_score(run, crossed):
    change_json(run / "selection.json", rule="count", cross_fitted=crossed)
    words = page_of(run).words
    assert "only the choice of the best cut flatters" not in words
    assert "chose the cut" not in words
    change_json(run / "selection.json", removal_index=0)
    assert "by the number of rows that was asked for, nothing was removed" in page_of(run).words


def test_a_run_that_removed_nothing_says_so(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=0)
    page = assert_harmless(render_report(read_run(run)))
    assert "none was removed" in page.words
    assert "no cut was good enough to remove anything" in page.words


def test_where_nothing_was_removed_nothing_is_unknown_of_what_that_does(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=0)
    (run / "finetune.json").unlink()
    summary = summary_of(page_of(run))
    assert "none was removed; no fine-tuned models were compared in this run." in summary
    assert "not known" not in summary


@pytest.mark.slow
def test_a_run_that_is_not_finished_is_said_to_be_none_unless_it_ends_with_its_page(run):
    words = "this run is not finished"
    assert words not in page_of(run).words
    change_json(run / "manifest.json", status="running")
    page = page_of(run)
    assert words in page.words
    assert "2 rows were never drawn: their values are unknown" in page.words
    assert words in outcome(run)
    (run / "finetune.json").unlink()
    assert "no fine-tuned models have been compared yet, so what that does to one is not known." in page_of(run).words
    assert words in write_report(run).read_text(encoding="utf-8")
    assert words not in write_report(run, ends=True).read_text(encoding="utf-8")
    change_json(run / "manifest.json", status="finished")
    assert words not in write_report(run).read_text(encoding="utf-8")


def test_a_single_arm_claims_no_difference(run):
    found = json.loads((run / "finetune.json").read_text())
    change_json(run / "finetune.json", arms=[found["arms"][1]], differences=[])
    words = page_of(run).words
    assert "reaches 81.7 % test accuracy, and nothing in this run says what it would reach" in words
    assert "95 % interval" not in words


def test_an_arm_without_history_leaves_the_training_figure_out(run):
    found = json.loads((run / "finetune.json").read_text())
    arms = [arm | {"history": [], "best_step": None, "seconds": None} for arm in found["arms"]]
    change_json(run / "finetune.json", arms=arms)
    page = page_of(run)
    assert [tag for tag, _ in page.tags].count("svg") == 2


def test_both_texts_of_a_pair_are_shown(tmp_path):
    page = assert_harmless(render_report(read_run(make_run(tmp_path / "run", rows=100, removed=9, pairs=True))))
    assert page.words.count("second of") == 40


def test_many_classes_fold_away_and_stay_within_bounds(tmp_path):
    classes = [f"class {i} <u>" for i in range(500)]
    run = make_run(tmp_path / "run", rows=3000, classes=classes)
    page = assert_harmless(render_report(read_run(run)))
    assert "more classes are left out here" in page.words


@pytest.mark.parametrize("rows", [1, 2, 15, 39])
def test_few_rows_are_listed_once_each(tmp_path, rows):
    run = make_run(tmp_path / "run", rows=rows, removed=0, nasty=False)
    page = page_of(run)
    shown = sum(tag == "details" and a.get("class") == "text" for tag, a in page.tags)
    assert shown == (rows if rows <= 10 else rows - 2)


@pytest.mark.slow
def test_100_000_rows_make_a_page_below_3_megabytes(tmp_path):
    run = make_run(tmp_path / "run", rows=100_000, removed=8000)
    assert write_report(run).stat().st_size < 3_000_000


def test_a_page_of_huge_texts_stays_below_3_megabytes(tmp_path):
    run = make_run(tmp_path / "run", rows=50, removed=5, nasty=False)
    table = pq.read_table(run / "values.parquet")
    huge = pa.array(["&<>" * 100_000] * 50)
    pq.write_table(table.set_column(1, "text", huge), run / "values.parquet")
    html = render_report(read_run(run))
    assert len(html.encode()) < 3_000_000
    assert "296,000 more characters" in html


def test_no_value_at_all_is_said_and_not_drawn(run):
    table = pq.read_table(run / "values.parquet")
    blank = pa.array([None] * table.num_rows, pa.float64())
    pq.write_table(table.set_column(3, "value", blank), run / "values.parquet")
    page = page_of(run)
    assert "No row was drawn often enough" in page.words
    assert "0 of 3,000 training rows were valued" in page.words


@pytest.mark.slow
def test_equal_values_can_be_drawn(run):
    table = pq.read_table(run / "values.parquet")
    zero = pa.array(np.zeros(table.num_rows))
    pq.write_table(table.set_column(3, "value", zero), run / "values.parquet")
    assert_harmless(render_report(read_run(run)))


def test_a_utility_that_is_no_share_is_not_shown_in_percent(run):
    found = json.loads((run / "selection.json").read_text())
    curve = found["curve"] | {"score": [-0.5 - s for s in found["curve"]["score"]]}
    change_json(run / "selection.json", utility="log_likelihood", curve=curve)
    words = page_of(run).words
    assert "mean validation log-likelihood goes from \u22121.2" in words
    assert "always the most frequent class" not in words


@pytest.mark.slow
def test_a_bare_manifest_is_enough(run):
    save_json(run / "manifest.json", {})
    page = assert_harmless(render_report(read_run(run)))
    assert "Training data valuation: run" in page.words
    save_json(run / "manifest.json", {"data": 3, "stages": [1], "warnings": "no", "options": None, "model": []})
    assert_harmless(render_report(read_run(run)))


def test_values_of_arrays_have_no_text_and_still_make_a_page(run):
    table = pq.read_table(run / "values.parquet").drop_columns(["text"])
    pq.write_table(table, run / "values.parquet")
    assert_harmless(render_report(read_run(run)))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "manifest.json").unlink(), "manifest.json in .* is missing.*--resume"),
        (lambda run: (run / "values.parquet").unlink(), "values.parquet in .* is missing"),
        (lambda run: (run / "selection.json").unlink(), "selection.json in .* is missing"),
        (
            lambda run: (run / "manifest.json").write_bytes(b"\xff\xfe"),
            "manifest.json .* cannot be read as JSON",
        ),
        (lambda run: (run / "manifest.json").write_text("[]"), "manifest.json .* holds a list"),
        (lambda run: (run / "manifest.json").write_text("[" * 100_000), "manifest.json .* cannot be read"),
        (lambda run: (run / "values.parquet").write_bytes(b"PAR1" * 9), "values.parquet .* cannot be read"),
        (lambda run: change_json(run / "selection.json", curve=None), "no object 'curve'"),
        (lambda run: change_json(run / "selection.json", removal_index="x"), "no integer 'removal_index'"),
        (
            lambda run: change_json(
                run / "selection.json", curve={"removed": [0], "score": [], "difference": [0], "stderr": [0]}
            ),
            "lists are empty or differ in length",
        ),
        (
            lambda run: change_json(
                run / "selection.json",
                curve={"removed": [0], "score": ["<b>"], "difference": [0], "stderr": [0]},
            ),
            "place 0 of 'score'",
        ),
        (lambda run: change_json(run / "finetune.json", arms=[]), "finetune.json .* 'arms'"),
        (lambda run: change_json(run / "finetune.json", arms=[{"accuracy": "high"}]), "no number 'accuracy'"),
        (lambda run: change_json(run / "finetune.json", differences=[1]), "'differences'"),
    ],
)
def test_a_broken_file_is_named_with_the_way_out(run, break_it, message):
    break_it(run)
    with pytest.raises(InputError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_broken_values_are_refused_by_column(run):
    table = pq.read_table(run / "values.parquet")
    pq.write_table(table.drop_columns(["rank"]), run / "values.parquet")
    with pytest.raises(InputError, match="no column 'rank'"):
        read_run(run)
    words = pa.array(["x"] * table.num_rows)
    pq.write_table(table.set_column(3, "value", words), run / "values.parquet")
    with pytest.raises(InputError, match="wrong type"):
        read_run(run)
    pq.write_table(table.slice(0, 0), run / "values.parquet")
    with pytest.raises(InputError, match="no rows"):
        read_run(run)


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_run(tmp_path / "nothing")


@pytest.mark.slow
def test_the_most_doubtful_labels_are_shown_with_the_class_that_would_fit(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=20, pairs=True, suspects=30)
    page, shown = page_of(run), outcome(run)
    for text in (page.words, shown):
        assert "30 labels are doubted by classifiers that had not seen them (suspects.csv has all)" in text
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["options"]["represent_by"] = "fine_tuned"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "that had not seen them, but of vectors by a model that had (suspects.csv has all)" in " ".join(
        outcome(run).split()
    )
    assert page.words.count("would fit better") == 1
    assert "99.0 %" in page.words
    assert "80.0 %" in page.words  # the twentieth
    assert "79.0 %" not in page.words
    line = next(line for line in shown.splitlines() if "(98 %)" in line)
    assert "negative (98 %)" in line
    assert "/ second of" in shown
    assert "(96 %)" not in shown
    assert_harmless(render_report(read_run(run)))
    assert all(c.isprintable() for line in shown.splitlines() for c in line)


def test_a_lowest_valued_row_whose_label_is_doubted_says_so_and_doubted_judges_are_counted(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=20, suspects=3)
    assert "validation labels, which judge" not in page_of(run).words + outcome(run)
    (run / "suspects.csv").rename(run / "validation-suspects.csv")
    page, shown = page_of(run), outcome(run)
    assert "doubted: " not in page.words
    for text in (page.words, " ".join(shown.split())):
        assert "Of the validation labels, which judge all others, 3 of the" in text
        assert "are doubted too (validation-suspects.csv)" in text
    shutil.copy(run / "validation-suspects.csv", run / "suspects.csv")
    page = page_of(run)
    assert page.words.count("doubted: negative ?") + page.words.count("doubted: negative?") == 3
    assert_harmless(render_report(read_run(run)))


def test_a_run_without_suspects_has_a_page_all_the_same_and_a_broken_file_is_named(tmp_path):
    run = make_run(tmp_path / "run", rows=40, removed=2)
    for broken in (b"row,label\n1,a\n", b"row,label,suggested,probability\n1,a,b,high\n", b"\xff\xfe\x00"):
        (run / "suspects.csv").write_bytes(broken)
        with pytest.raises(InputError, match=r"suspects.csv in .* cannot be read as suspects"):
            read_run(run)
    (run / "suspects.csv").unlink()
    assert "Labels in doubt" not in page_of(run).words


def test_of_several_seeds_the_means_are_shown_with_what_they_deviate_by(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=20)
    found = json.loads((run / "finetune.json").read_text())
    found["seeds"] = 3
    for arm in found["arms"]:
        arm["accuracies"] = [arm["accuracy"] - 0.01, arm["accuracy"], arm["accuracy"] + 0.01]
    found["differences"][0] |= {"low": 0.001}
    (run / "finetune.json").write_text(json.dumps(found))
    page, shown = page_of(run).words, " ".join(outcome(run).split())
    for text in (page, shown):
        assert "higher by more than the choice of test rows and 3 fine-tuning seeds explain" in text
        assert "81.7 % ± 1.0" in text
        assert "another fine-tuning seed" not in text
        assert "Means of 3 fine-tuning seeds, whose differences the intervals include" in text
        assert "than these random draws" in text or text is shown
    alone = make_run(tmp_path / "alone", rows=400, removed=0)
    (alone / "finetune.json").write_text(json.dumps(found))
    for text in (page_of(alone).words, " ".join(outcome(alone).split())):
        assert "Means of 3 fine-tuning seeds; ± is the standard deviation" in text


def test_where_nothing_was_removed_one_training_is_shown(tmp_path):
    run = make_run(tmp_path / "run", rows=400, removed=0)
    shown = outcome(run)
    assert "all rows" in shown
    assert "at random" not in shown
    assert "not told apart" not in shown
    assert "at random" not in page_of(run).words
