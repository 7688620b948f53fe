"""What `evaluate` writes: every run's numbers, tables of their means with intervals, and curves."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tsds_jax.evaluation.scores import Interval, mean_interval
from tsds_jax.evaluation.stability import stability
from tsds_jax.report.plots import plain_style
from tsds_jax.runtime.files import atomic
from tsds_jax.runtime.folder import RunFolder

# Knows which labels are wrong, and removes those and no others: what there is to be had.
ORACLE = "oracle"

# Columns of the tables: field of a run -> (heading, times what, digits).
_COLUMNS: dict[str, tuple[str, float, int]] = {
    "auroc": ("AUROC", 1, 3),
    "average_precision": ("AP", 1, 3),
    "f1": ("F1", 1, 3),
    "gain_5": ("5 % removed", 100, 2),
    "gain_10": ("10 % removed", 100, 2),
    "gain_20": ("20 % removed", 100, 2),
    "gain_at_index": ("at the index", 100, 2),
    "weighted_drop": ("weighted drop", 1, 3),
    "seconds": ("seconds", 1, 2),
    "finetuned_gain": ("fine-tuned, at the index", 100, 2),
}


def write_summary(
    folder: RunFolder,
    runs: list[dict[str, Any]],
    values: Mapping[tuple[str, str], np.ndarray],
    notes: Sequence[str] = (),
) -> None:
    """evaluation.json, evaluation.md and curves/ in the run's folder.

    Args:
      folder: the run's.
      runs: the numbers of each data set, share of flips, seed and method.
      values: of (setting's key, method), ``[points]``.
      notes: what should be known of the data and of the methods.
    """
    groups: dict[tuple[str, float], dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        groups.setdefault((run["data"], run["flips"]), {}).setdefault(run["method"], []).append(run)
    tables, summary = [], []
    for (data, flips), methods in groups.items():
        rows = []
        for method, some in methods.items():
            about: dict[str, Any] = {"data": data, "flips": flips, "method": method, "runs": len(some)}
            for name in _columns(some):
                if all(name in run for run in some):
                    numbers = [run[name] for run in some]
                    # Some runs compile for the others: their seconds are no draws alike.
                    timed = name == "seconds"
                    found = Interval(float(np.median(numbers)), *[math.nan] * 2) if timed else mean_interval(numbers)
                    about[name] = [None if math.isnan(number) else number for number in found]
            if flips == 0 and len(some) > 1 and method != ORACLE:
                # The same rows and labels in every run, so that rankings can be compared.
                # Where all values of a run are the same there is no correlation.
                alike = stability([values[run["key"], method] for run in some])._asdict()
                about["stability"] = {name: None if math.isnan(mean) else mean for name, mean in alike.items()}
            rows.append(about)
        summary += rows
        first = next(iter(methods.values()))
        cut = [run["removed"] for method, some in methods.items() if method != ORACLE for run in some]
        removed = sorted({number for number in cut if number is not None})
        proposed = sorted({run["proposed"] for some in methods.values() for run in some if "proposed" in run})
        tables.append(_table(data, flips, rows, float(np.mean([run["accuracy"] for run in first])), removed, proposed))
    folder.write_json("evaluation.json", {"runs": runs, "summary": summary})
    folder.write_text("evaluation.md", "".join(f"{note}\n\n" for note in notes) + "\n".join(tables))
    folder.remove("curves")  # of other flips, before a resumed run was asked for these
    (folder.path / "curves").mkdir()
    for (data, flips), methods in groups.items():
        with atomic(folder.path / "curves" / f"{data}-{share_name(flips)}.svg") as temporary:
            _draw(methods, f"{data}, {percent(flips)} of the labels flipped", temporary)


def share_name(share: float) -> str:
    """For file names: another for every share that flips other rows."""
    return f"{share:.12g}"


def percent(share: float) -> str:
    """In words: 10%, or 12.5%."""
    return f"{100 * share:.12g}%"


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, float, int]]:
    """All columns, with one for each share of rows that models were fine-tuned without."""
    start = "finetuned_gain_"
    shares = sorted({float(name.removeprefix(start)) for row in rows for name in row if name.startswith(start)})
    return _COLUMNS | {f"{start}{share:g}": (f"fine-tuned, {share:g} % removed", 100, 2) for share in shares}


def _table(
    data: str, flips: float, rows: list[dict[str, Any]], accuracy: float, removed: list[int], proposed: list[int]
) -> str:
    """Markdown; ``proposed`` are the rule's cuts before the check on the model, and ``removed`` what it left."""
    columns = {name: about for name, about in _columns(rows).items() if any(name in row for row in rows)}
    stable = any("stability" in row for row in rows)
    heads = [head for head, _, _ in columns.values()] + (["rank stability"] if stable else [])
    index = f"the index removes {_either(removed)} rows" if removed else ""
    if proposed:
        index = f"the rule proposed {_either(proposed)} rows, and after the check on the model {index}"
    index = f"; {index}" if index else ""
    lines = [
        f"## {data}, {percent(flips)} of the labels flipped",
        "",
        f"Means of {rows[0]['runs']} runs, with half the width of their 95 % interval over seeds, which draw flips and "
        "samples: splits are the same in all, and another choice of test rows is not covered. Gains are in points of "
        f"test accuracy, of the source classifier ({accuracy:.1%} on all rows) where nothing else is said{index}. "
        "Seconds are the median run's, since some runs compile for the others.",
        "",
        f"| method | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for row in rows:
        cells = [_cell(row.get(name), times, digits, name) for name, (_, times, digits) in columns.items()]
        if stable:
            spearman = row.get("stability", {}).get("spearman")
            cells.append("-" if spearman is None else f"{spearman:.2f}")
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(f"{number:,}" for number in numbers)


def _cell(found: list[float | None] | None, times: float, digits: int, name: str) -> str:
    if found is None or found[0] is None:
        return "-"
    sign = "+" if "gain" in name else ""
    # Without a minus sign where it rounds to nothing.
    middle = f"{times * found[0]:{sign}z.{digits}f}"
    return middle if found[2] is None else f"{middle} ± {times * (found[2] - found[0]):.{digits}f}"


def _draw(methods: Mapping[str, list[dict[str, Any]]], title: str, path: str | os.PathLike) -> None:
    """Mean test accuracy of the source classifier against the share of the lowest rows that is removed, as SVG."""
    with plain_style({"svg.hashsalt": "tsds_jax", "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for method, some in methods.items():
            removed = 100 * (1 - np.asarray(some[0]["kept"]))
            shown = removed <= 51
            axes.plot(removed[shown], 100 * np.mean([run["highest_kept"] for run in some], 0)[shown], label=method)
        axes.set_xlabel("rows removed, lowest values first (%)")
        axes.set_ylabel("test accuracy of the source classifier (%)")
        axes.set_title(title)
        axes.legend(fontsize="small")
        figure.savefig(path, format="svg", metadata={"Date": None})
