"""The report's figures as inline SVG, drawn once and readable on light, dark and printed pages.

Matplotlib draws with placeholder colours that become CSS variables, so the page's style sheet decides what
they are. No text from the data is drawn: names belong in the page's own legends, where they are escaped.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tsds_jax.report.contents import Arm, Curve

# CSS variable of the page -> the colour that stands for it until the SVG is written.
INK, SOFT, GRID = "#a00001", "#a00002", "#a00003"
KEPT, REMOVED = "#a00004", "#a00005"
ARM_COLOURS = ("#a00006", "#a00007", "#a00008", "#a00009")
ARM_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--rule",
    KEPT: "--kept",
    REMOVED: "--removed",
    **{colour: f"--arm-{place}" for place, colour in enumerate(ARM_COLOURS)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "svg.hashsalt": "tsds_jax",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.unicode_minus": True,
}
_WIDTH = 6.4  # inches: with 8.5 pt text this is about 14 px on a page 46 rem wide
_POINTS = 1500  # more than the figure has pixels


def removal_curve(
    curve: Curve, chosen: int, percent: bool, axis: str, first: str, majority: float | None, alt: str
) -> str:
    """Score against rows removed, with the paired standard error as a band and the chosen cut marked.

    Args:
      curve: the removal curve.
      chosen: rows removed by the chosen cut.
      percent: whether the score is a share, shown in percent.
      axis: the label of the score's axis.
      first: which rows are removed first.
      majority: the majority class's share, drawn as a reference, or nothing; see :func:`majority_fits`.
      alt: what the figure shows, in words.
    """
    scale = 100.0 if percent else 1.0
    keep = _thin(len(curve.removed))
    x, y = curve.removed[keep], scale * curve.score[keep]
    band = scale * np.nan_to_num(curve.stderr[keep])
    with plain_style(_STYLE):
        figure, axes = _figure(2.9)
        axes.fill_between(x, y - band, y + band, color=KEPT, alpha=0.18, linewidth=0)
        axes.axhline(scale * float(curve.score[0]), color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)))
        if majority is not None:
            axes.axhline(scale * majority, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
        dots = "o" if len(x) <= 60 else None
        axes.plot(x, y, color=KEPT, linewidth=1.5, marker=dots, markersize=2.4)
        at = scale * float(np.interp(chosen, curve.removed, curve.score))
        axes.axvline(chosen, color=REMOVED, linewidth=1.0)
        axes.plot([chosen], [at], "D", color=REMOVED, markersize=5)
        axes.set_xlim(0, max(float(x[-1]), 1.0))
        axes.set_xlabel(f"training rows removed, {first}")
        axes.set_ylabel(f"{axis}, %" if percent else axis)
        axes.xaxis.set_major_formatter(_format(lambda v: f"{v:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        return _svg(figure, "curve", "Removal curve", alt)


def majority_fits(curve: Curve, majority: float) -> bool:
    """Whether the majority share can be drawn without pressing the curve flat at the figure's edge."""
    low, high = float(np.nanmin(curve.score)), float(np.nanmax(curve.score))
    return low - majority <= 1.5 * max(high - low, 0.02) and majority - high <= 1.5 * max(high - low, 0.02)


def value_histogram(value: np.ndarray, kept: np.ndarray, exponent: int, alt: str) -> tuple[str, int]:
    """Histogram of values, kept and removed rows stacked in one bar.

    Args:
      value: finite values, ``[rows]``.
      kept: whether each row was kept, ``[rows]``.
      exponent: values are shown in units of ten to this power.
      alt: what the figure shows, in words.

    Returns:
      The figure, and how many extreme values were moved into the two outermost bars.
    """
    shown = value * 10.0**-exponent
    low, high = np.quantile(shown, [0.002, 0.998]) if len(shown) >= 1000 else (shown.min(), shown.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    outside = int(np.sum((shown < low) | (shown > high)))
    edges = np.linspace(low, high, int(np.clip(np.sqrt(len(shown)), 8, 60)) + 1)
    clipped = np.clip(shown, low, high)
    removed_rows, kept_rows = (np.histogram(clipped[part], edges)[0] for part in (~kept, kept))
    with plain_style(_STYLE):
        figure, axes = _figure(2.5)
        places: dict[str, Any] = {"x": edges[:-1], "width": np.diff(edges), "align": "edge", "linewidth": 0}
        axes.bar(height=removed_rows, color=REMOVED, **places)
        axes.bar(height=kept_rows, bottom=removed_rows, color=KEPT, **places)
        if low < 0 < high:
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.grid(visible=False, axis="x")
        axes.set_xlim(low, high)
        axes.set_xlabel(f"value{in_powers(exponent)}")
        axes.set_ylabel("training rows")
        axes.yaxis.set_major_formatter(_format(lambda v: f"{v:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _svg(figure, "values", "Values of the training rows", alt), outside


def training_curves(arms: Sequence[Arm], alt: str) -> str | None:
    """Training loss and validation accuracy of every arm over its steps; nothing if no arm has a history."""
    panels = [
        ("train_loss", "training loss", 1.0),
        ("validation_accuracy", "validation accuracy, %", 100.0),
    ]
    drawn = [panel for panel in panels if any(len(_series(arm, panel[0])[0]) for arm in arms)]
    if not drawn:
        return None
    with plain_style(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.5), layout="constrained")
        for place, (key, label, scale) in enumerate(drawn):
            axes = figure.add_subplot(1, len(drawn), place + 1)
            for number, arm in enumerate(arms):
                _draw_arm(axes, arm, key, scale, number)
            axes.set_xlabel("step")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.xaxis.set_major_formatter(_format(lambda v: f"{v:,.0f}"))
        return _svg(figure, "training", "Fine-tuning over its steps", alt)


def in_powers(exponent: int) -> str:
    """The unit of values shown in powers of ten, such as ``10⁻³`` in brackets; nothing for plain ones."""
    if exponent == 0:
        return ""
    return f" (\u00d710{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))})"


def _draw_arm(axes: Axes, arm: Arm, key: str, scale: float, number: int) -> None:
    steps, heights = _series(arm, key)
    keep = _thin(len(steps))
    colour = ARM_COLOURS[number % len(ARM_COLOURS)]
    line = ARM_LINES[number % len(ARM_LINES)]
    marker = "o" if len(steps) == 1 else None
    axes.plot(
        steps[keep],
        scale * heights[keep],
        color=colour,
        linestyle=line,
        linewidth=1.4,
        marker=marker,
        markersize=3,
    )
    if key == "validation_accuracy" and arm.best_step is not None and arm.best_step in steps:
        axes.plot(arm.best_step, scale * heights[steps == arm.best_step][0], "D", color=colour, markersize=4)


def _series(arm: Arm, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite heights of one figure of an arm's history."""
    pairs = np.array([(e.get("step", np.nan), e.get(key, np.nan)) for e in arm.history]).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    return pairs[:, 0], pairs[:, 1]


def _thin(points: int) -> np.ndarray:
    """Evenly spread places of at most ``_POINTS`` points, the first and the last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, _POINTS)).round().astype(int))


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _format(write: Callable[[float], str]) -> FuncFormatter:
    return FuncFormatter(lambda value, _: write(value).replace("-", "\u2212"))


def plain_style(ours: Mapping[Any, Any]) -> AbstractContextManager[None]:
    """Matplotlib's own defaults with ours over them, whatever the user's matplotlibrc says."""
    own: dict[Any, Any] = {
        key: matplotlib.rcParamsDefault[key] for key in matplotlib.rcParamsDefault if not key.startswith("backend")
    }
    return matplotlib.rc_context(own | dict(ours))


def _svg(figure: Figure, name: str, title: str, alt: str) -> str:
    """The figure as an ``<svg>`` to stand beside others in one page: its ids and links bear its name."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    inner = text[text.index(">") + 1 :]
    # The metadata block and the style sheet (which would rule the whole page) are not part of the drawing.
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<style[^>]*>.*?</style>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"\s*<!--.*?-->", "", inner, flags=re.DOTALL)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', inner)
    inner = inner.replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        inner = inner.replace(colour, f"var({variable})")
    return (
        f'<svg {view.group()} role="img" aria-labelledby="{name}-title {name}-alt">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-alt">{escape(alt)}</desc>' + inner.strip()
    )
