"""Figures from files of results: each from one JSON file that it lies beside, and nothing is measured for it.

`write` in measures/results.py draws a result's figure with the page that shows it, and `python -m benchmarks index`
draws them all anew. An SVG names in its metadata what it was drawn from; a test fails where that is another by now.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from textwrap import fill
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from measures.code import bare_code
from measures.rows import Speed, Until, rebuilt

OURS, OTHER, SOFT = COLOURS = "#0b6fa4", "#c2500a", "#888888"
# Over matplotlib's own defaults, whatever a user's matplotlibrc says.
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tsds_jax",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
WIDTH = 9.0  # inches, which a page of GitHub shows at about 100 pixels each


@dataclass(frozen=True)
class Plot:
    """One kind of figure.

    Attributes:
      alt: what it shows, for who does not see it.
      figure: of a file's content; None where that has nothing to show.
    """

    alt: str
    figure: Callable[[dict[str, Any]], Figure | None]


@dataclass(frozen=True)
class Gain:
    """What removing a method's lowest rows gains, in points of test accuracy.

    Attributes:
      method: that ranks them.
      flips: share of the labels.
      tuned: whether it is the fine-tuned model's.
      middle: mean over seeds.
      low: end of its 95 % interval.
      high: the other end.
    """

    method: str
    flips: float
    tuned: bool
    middle: float
    low: float
    high: float


def draw(file: Path) -> str:
    """The figure of a file of results, as an SVG beside it; returns the Markdown that shows it, empty if there is none.

    Args:
      file: of results, a JSON file.
    """
    if file.stem not in PLOTS:
        return ""
    plot, svg = PLOTS[file.stem], file.with_suffix(".svg")
    with matplotlib.style.context(["default", STYLE]):
        figure = plot.figure(json.loads(file.read_text("utf-8")))
        if figure is None:
            svg.unlink(missing_ok=True)
            return ""
        figure.savefig(svg, metadata={"Date": None, "Source": source(file)})
    return f"![{plot.alt}]({svg.name})"


def source(file: Path) -> str:
    """What a figure is drawn from: the file's name, and a digest of its content and of the code here."""
    text = file.read_text("utf-8") + bare_code(Path(__file__).read_text("utf-8"))
    return f"{file.name} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def times_faster(row: Speed | Until, peer: str) -> tuple[float, list[float]]:
    """How many times faster ours is than another side: by the medians, as in the table, and repeat by repeat."""
    if isinstance(row, Speed):
        more, less = row.rates["ours"], row.rates[peer]
    else:
        more, less = row.seconds[peer], row.seconds["ours"]
    return median(more) / median(less), [one / other for one, other in zip(more, less, strict=True)]


def sides(row: Speed | Until) -> list[str]:
    """Those that ours is measured against, the first of them first."""
    every = row.rates if isinstance(row, Speed) else row.seconds
    return sorted((side for side in every if side != "ours"), key=lambda side: side != row.peer)


def speeds(result: dict[str, Any], log: bool) -> Figure | None:
    """How many times faster ours is than each other side: a panel a row of the tables, a line a side."""
    rows = [rebuilt(row) for case in result["cases"].values() for row in case["rows"]]
    rows = [row for row in rows if isinstance(row, Speed | Until) and sides(row)]
    if not rows:
        return None
    lines = [len(sides(row)) for row in rows]
    figure = Figure((WIDTH, 0.8 + 0.24 * sum(lines) + 0.3 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=lines)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        speed_panel(axes, row)
        axes.margins(x=0.12)
    last = panels[-1]
    if log:
        last.set_xscale("log")
        last.xaxis.set_minor_locator(NullLocator())
        last.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,g}"))
    last.set_xlabel(f"times as fast as the other side{' (log scale)' if log else ''}; right of the line ours is faster")
    legend(figure, panels)
    return figure


def speed_panel(axes: Axes, row: Speed | Until) -> None:
    """One row of the tables."""
    axes.axvline(1, color=SOFT, linewidth=0.8)
    for place, peer in enumerate(sides(row)):
        middle, each = times_faster(row, peer)
        axes.plot((min(each), max(each)), (place, place), color=OURS, linewidth=0.8)
        axes.plot(each, [place] * len(each), "o", color=OURS, markersize=3, alpha=0.5, label="one repeat")
        axes.plot(middle, place, "D", color=OURS, markersize=5.5, label="ratio of the medians")
        # Right of all marks of the line.
        end = max(*each, row.wanted or 0) if place == 0 else max(each)
        axes.annotate(
            f"{middle:,.{0 if middle >= 10 else 2}f}",
            (end, place),
            (7, 0),
            textcoords="offset points",
            verticalalignment="center",
        )
    if row.wanted:
        axes.plot(row.wanted, 0, "|", color=OTHER, markersize=13, markeredgewidth=2, label="wanted, of the first side")
    axes.set_title(fill(f"{row.measure} ({row.unit})" if isinstance(row, Speed) else f"until {row.measure}", 100))
    name_lines(axes, sides(row))


def cost(result: dict[str, Any]) -> Figure:
    """Seconds against each size that grew, and the power of it that fits them."""
    names = {"rows": "validation rows", "subset": "subset size"}
    figure = Figure((WIDTH, 5.2), layout="constrained")
    *panels, left = figure.subplots(2, 3, sharey=True).flat
    for axes, (axis, entry) in zip(panels, result["axes"].items(), strict=True):
        sizes = np.array(entry["sizes"], float)
        slope, start = np.polyfit(np.log(sizes), np.log([median(some) for some in entry["seconds"]]), 1)
        every = [(size, second) for size, some in zip(sizes, entry["seconds"], strict=True) for second in some]
        axes.plot(*zip(*every, strict=True), "o", color=OURS, markersize=4, alpha=0.6, label="one call")
        axes.plot(sizes, np.exp(start) * sizes**slope, "--", color=OTHER, label=f"exponent {slope:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=names.get(axis, axis), xticks=sizes)
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        axes.legend(loc="upper left")
        axes.set_ylabel("seconds" if axes.get_subplotspec().is_first_col() else "")
    left.axis("off")
    base = "\n".join(f"{names.get(axis, axis)}: {size:,}" for axis, size in result["base"].items())
    left.text(0.05, 0.9, f"One size grows at a time,\nall others are\n\n{base}", va="top", transform=left.transAxes)
    return figure


def scaling(result: dict[str, Any]) -> Figure:
    """How many times as fast as one device more of them are, and what the machine's cores allow at best."""
    runs, cores = result["runs"], result["machine"]["cores"]
    work = list(runs[0]["seconds"])
    figure = Figure((WIDTH, 3.4), layout="constrained")
    panels = figure.subplots(1, len(work), sharey=True, squeeze=False)[0]
    devices = sorted({run["processes"] * run["devices"] for run in runs})
    for axes, name in zip(panels, work, strict=True):
        base = median(runs[0]["seconds"][name])
        axes.plot(
            devices, [min(count, cores) for count in devices], "--", color=SOFT, label=f"at best, with {cores} cores"
        )
        for processes, colour in zip(sorted({run["processes"] for run in runs}), COLOURS, strict=False):
            some = [run for run in runs if run["processes"] == processes]
            seconds = [run["seconds"][name] for run in some]
            middle = np.array([base / median(one) for one in seconds])
            ends = np.array([(base / max(one), base / min(one)) for one in seconds]).T
            axes.errorbar(
                [processes * run["devices"] for run in some],
                middle,
                abs(ends - middle),
                fmt="o-",
                color=colour,
                capsize=2,
                label=f"{processes} process{'es' if processes > 1 else ''}",
            )
        axes.set(title=name, xscale="log", xlabel="devices in all")
        axes.set_xticks(devices, devices)
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0].set(ylabel="times as fast as one device", ylim=(0, None))
    legend(figure, panels)
    return figure


def selection(result: dict[str, Any]) -> Figure | None:
    """What each method gains at the removal index, with its interval: a panel a case."""
    cases = {case: gains for case, entry in result["cases"].items() if (gains := gains_of(entry))}
    if not cases:
        return None
    # Fewer methods are fine-tuned for: of like heights beside each other.
    names = sorted(cases, key=lambda case: cases[case][0].tuned)
    pairs = [names[place : place + 2] for place in range(0, len(names), 2)]
    lines = [max(len(methods_of(cases[case])) for case in pair) + 0.5 for pair in pairs]
    colours = dict(zip(sorted({gain.flips for gains in cases.values() for gain in gains}), COLOURS, strict=False))
    figure = Figure((WIDTH, 0.8 + 0.2 * sum(lines) + 0.35 * len(lines)), layout="constrained")
    grid = figure.subplots(len(pairs), 2, sharex=True, squeeze=False, height_ratios=lines)
    for panels, pair in zip(grid, pairs, strict=True):
        for axes, case in zip(panels, pair, strict=False):
            forest(axes, cases[case], colours)
            axes.set_title(case)
        for axes in panels[len(pair) :]:
            axes.axis("off")
    figure.supxlabel(
        "points of test accuracy gained at the index, mean and 95 % interval;\n"
        "the fine-tuned model's where a case is named so, else the source classifier's\n"
        "(not shown: where the index removes no row, and all gain nothing)",
        fontsize="medium",
    )
    legend(figure, grid.flat)
    return figure


def gains_of(entry: dict[str, Any]) -> list[Gain]:
    """Those of one case, of the fine-tuned model where there is one; none of a share where the index removes no row."""
    removing = {run["flips"] for run in entry["runs"] if run["removed"]}
    found = []
    for row in entry["summary"]:
        if row["flips"] in removing:
            tuned = "finetuned_gain" in row
            points = (100 * share for share in row["finetuned_gain" if tuned else "gain_at_index"])
            found.append(Gain(row["method"], row["flips"], tuned, *points))
    return found


def methods_of(gains: list[Gain]) -> list[str]:
    """Each once, as they come."""
    return list(dict.fromkeys(gain.method for gain in gains))


def forest(axes: Axes, gains: list[Gain], colours: dict[float, str]) -> None:
    """A line a method, and on it an interval for each share of flips."""
    methods, shares = methods_of(gains), sorted({gain.flips for gain in gains})
    axes.axvline(0, color=SOFT, linewidth=0.8)
    for number, share in enumerate(shares):
        some = [gain for gain in gains if gain.flips == share]
        middle = np.array([gain.middle for gain in some])
        axes.errorbar(
            middle,
            [methods.index(gain.method) + 0.36 * (number - (len(shares) - 1) / 2) for gain in some],
            xerr=([gain.middle - gain.low for gain in some], [gain.high - gain.middle for gain in some]),
            fmt="o",
            color=colours[share],
            markersize=3.5,
            linewidth=1.2,
            label=f"{share:.0%} of the labels flipped",
        )
    name_lines(axes, methods)


def rules(result: dict[str, Any]) -> Figure:
    """What each rule gains in every draw: a panel a setting."""
    runs = result["runs"]
    settings = list(dict.fromkeys((run["classes"], run["flips"]) for run in runs))
    colours = dict(zip(dict.fromkeys(run["utility"] for run in runs), COLOURS, strict=False))
    # The best first, as in the table.
    names = sorted(runs[0]["gain"], key=lambda name: name != "best")
    figure = Figure((WIDTH, 0.8 + 1.6 * -(-len(settings) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(settings) // 3), 3, sharex=True, sharey=True, squeeze=False)
    for axes, setting in zip(panels.flat, settings, strict=False):
        axes.axvline(0, color=SOFT, linewidth=0.8)
        for number, (utility, colour) in enumerate(colours.items()):
            some = [
                run["gain"] for run in runs if (run["classes"], run["flips"], run["utility"]) == (*setting, utility)
            ]
            for place, name in enumerate(names):
                line, every = place + 0.36 * (number - (len(colours) - 1) / 2), [gain[name] for gain in some]
                axes.plot(every, [line] * len(every), "o", color=colour, markersize=4, alpha=0.5, label="one draw")
                axes.plot(mean(every), line, "D", color=colour, markersize=6, label=f"mean, by {utility}")
        axes.set_title(f"{setting[0]} classes, {setting[1]:.0%} flipped")
    name_lines(panels[0, 0], names)
    for axes in panels[-1]:
        axes.set_xlabel("points of test accuracy gained")
    legend(figure, panels.flat)
    return figure


def soak(result: dict[str, Any]) -> Figure:
    """Memory held after each round."""
    rounds = result["rounds"]
    figure = Figure((WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([one["seconds"] / 60 for one in rounds], [one["MiB"] for one in rounds], ".-", color=OURS, linewidth=0.8)
    axes.set(xlabel="minutes since the start, one dot a round", ylabel="memory held (MiB)")
    axes.set_ylim(0, 1.1 * max(one["MiB"] for one in rounds))
    return figure


def pipeline(result: dict[str, Any]) -> Figure:
    """Seconds of each side, stage after stage, by the medians."""
    figure = Figure((WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    stages = list(result["runs"]["ours"][0]["stages"])
    for place, runs in enumerate(result["runs"].values()):
        # What is left of a run: its start, and what it writes at its end.
        every = [[*run["stages"].values(), run["seconds"] - sum(run["stages"].values())] for run in runs]
        middle = np.median(every, axis=0)
        colours = (SOFT, OURS, "#7fb8d8", OTHER, "#dddddd")
        for name, colour, length, left in zip(
            [*stages, "the rest"], colours, middle, np.cumsum(middle) - middle, strict=True
        ):
            axes.barh(place, length, left=left, color=colour, label=name)
    axes.set_xlabel("seconds, medians")
    name_lines(axes, list(result["runs"]))
    legend(figure, [axes])
    return figure


def detection(result: dict[str, Any]) -> Figure:
    """The script's own."""
    # What it measures comes with it, which no other figure needs.
    from detection import plot

    return plot(result["runs"])


def name_lines(axes: Axes, names: list[str]) -> None:
    """A name beside each line of a panel, the first at the top."""
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)


def legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Above all panels, each kind of mark once."""
    marks = {label: mark for axes in panels for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=len(marks))


PLOTS = {
    "core": Plot("How many times faster ours is than each other side", partial(speeds, log=True)),
    "cost": Plot("Seconds against each size that grows, with the fitted exponent", cost),
    "scaling": Plot("Speed against the number of devices, beside what the cores allow", scaling),
    "soak": Plot("Memory held against minutes", soak),
    "detection": Plot("AUROC against seconds", detection),
    "encoders": Plot("How many times faster ours is than PyTorch, repeat by repeat", partial(speeds, log=False)),
    "pipeline": Plot("Seconds of each side, stage after stage", pipeline),
    "rules": Plot("What each rule gains in every draw", rules),
    "selection": Plot("What each method gains at the removal index, with its interval", selection),
}
