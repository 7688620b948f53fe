"""A run's outcome in a few lines of plain text, for a terminal."""

import textwrap
from pathlib import Path

from tsds_jax.report.contents import Suspects, read_run, read_suspects
from tsds_jax.report.words import (
    NBSP,
    arm_cells,
    difference_cells,
    doubted_judges,
    doubts,
    seeds_in_words,
    share,
    short,
    summary,
    unfinished,
)

_ARM_COLUMNS = {
    "name": "fine-tuned on",
    "rows": "rows",
    "accuracy": "test accuracy",
    "macro_f1": "macro-F1",
    "steps": "steps",
    "best_step": "best step",
    "seconds": "time",
}
# Of the most doubtful labels, and as much of their texts as a line holds.
_SHOWN, _TEXT = 3, 60
_SUSPECT_COLUMNS = {"label": "label", "suggested": "would fit better", "text": "text"}
_DIFFERENCE_COLUMNS = {
    "pair": "difference",
    "metric": "metric",
    "estimate": "points",
    "interval": "95 % interval",
    "reading": "reading",
}


def outcome(folder: Path | str) -> str:
    """What `report.html` says first, without the page.

    One sentence, what decided the cut where the model was asked, the warnings, the tables, the doubtful labels.

    Raises:
      InputError: a file of the run is missing or broken.
    """
    contents = read_run(folder)
    told = [*unfinished(contents), *(contents.manifest.get("warnings") or [])]
    warnings = [f"warning: {warning}" for warning in told]
    first = [line for line in (summary(contents), contents.cut.evidence, *warnings) if line]
    parts = ["\n".join(textwrap.fill(line, 100) for line in first)]
    tuned = contents.finetuning
    if tuned is not None:
        parts.append(_table(_ARM_COLUMNS, [arm_cells(arm) for arm in tuned.arms]))
        if said := seeds_in_words(tuned):
            parts.append(textwrap.fill(said, 100))
        if tuned.differences:
            parts.append(_table(_DIFFERENCE_COLUMNS, [difference_cells(change) for change in tuned.differences]))
    doubted = contents.suspects
    if doubted is not None and len(doubted):
        parts.append(doubts(doubted, contents.manifest))
        parts.append(_first(doubted))
    if judges := doubted_judges(contents):
        parts.append(textwrap.fill(judges, 100, break_on_hyphens=False))
    return _plain("\n\n".join(parts)) + "\n"


def most_doubtful(file: Path) -> str:
    """The first rows of a file such as suspects.csv, as a table for a terminal.

    Raises:
      InputError: the file is missing or broken.
    """
    return _plain(_first(read_suspects(file))) + "\n"


def _plain(text: str) -> str:
    """Without what a file name or a label from the data could steer a terminal by."""
    return "".join(c for c in text if c == "\n" or c.isprintable() or c == NBSP).replace(NBSP, " ")


def _first(doubted: Suspects) -> str:
    return _table(_SUSPECT_COLUMNS, [_suspect(doubted, place) for place in range(min(_SHOWN, len(doubted)))])


def _suspect(doubted: Suspects, place: int) -> dict[str, str]:
    text = " / ".join(column[place] for column in doubted.texts)
    fit = f"{short(doubted.suggested[place], 40)} ({share(float(doubted.probability[place]), 0)})"
    return {"label": short(doubted.label[place], 40), "suggested": fit, "text": short(" ".join(text.split()), _TEXT)}


def _table(columns: dict[str, str], rows: list[dict[str, str]]) -> str:
    """Words to the left, numbers to the right."""
    cells = [list(columns.values()), *([row[key] for key in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    words = [key in ("name", "pair", "metric", "reading", *_SUSPECT_COLUMNS) for key in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in cells
    )
