"""The page: what a run folder holds, put into words, figures and tables, in one file that loads nothing."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tsds_jax.report import plots, words
from tsds_jax.report.contents import RunContents, Suspects, Values, as_float, part_of, read_run
from tsds_jax.runtime.files import as_path, atomic

_EXAMPLES = 20
_TEXT = 4000  # characters of one text; forty of them stay far below the size a browser is slow at
_CLASSES = 200
_CLASSES_OPEN = 12
# Control characters other than tab and line breaks have no place in HTML, lone surrogates no encoding, and the
# two direction overrides would show a text as something that it is not.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff\ufffe\uffff]")


def write_report(folder: Path | str, *, ends: bool = False) -> Path:
    """Write ``report.html`` into a run folder from the files that are there.

    The page is complete or absent: it is written beside its place and moved there at once. The same files
    give the same bytes.

    Args:
      folder: the folder that ``tsds run --out`` wrote.
      ends: whether the run ends with this page, and says that it is finished once it is there.

    Returns:
      The path of the page.

    Raises:
      InputError: if a file of the run is missing or cannot be used.
    """
    contents = read_run(folder)
    page = render_report(replace(contents, finished=True) if ends else contents)
    target = as_path(folder) / "report.html"
    with atomic(target) as temporary:
        Path(temporary).write_text(page, encoding="utf-8", newline="\n")
    return target


def render_report(contents: RunContents) -> str:
    """The page as HTML text: one self-contained document without scripts and without outside links.

    Args:
      contents: what :func:`~tsds_jax.report.contents.read_run` read.

    Returns:
      HTML; every text of the data is escaped.
    """
    manifest, values = contents.manifest, contents.values
    tuned = contents.finetuning
    exponent = _exponent(values.value[values.valued])
    return _environment().get_template("template.html.j2").render(
        title=_title(contents),
        byline=_byline(manifest),
        summary=words.summary(contents),
        against_random=words.against_random(tuned) if tuned else None,
        warnings=[*words.unfinished(contents), *(_text(w, 1000) for w in _list(manifest.get("warnings")))],
        finetuning=_finetuning(contents),
        curve=_curve(contents),
        histogram=_histogram(values, exponent),
        examples=_examples(values, exponent, contents.suspects),
        labels=_labels(values, exponent),
        suspects=_suspects(contents),
        doubted_judges=words.doubted_judges(contents),
        unit=plots.in_powers(exponent).strip(),
        never_drawn=int((~values.valued).sum()),
        method=words.method(manifest),
        facts=_facts(manifest),
        data=_data(manifest),
        stages=_stages(manifest),
        command=_text(manifest["command"], 5000) if manifest.get("command") else None,
        options=_options(manifest),
        versions=_pairs(_versions(manifest)),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Jinja set to escape everything: its own choice by file ending would miss ``.html.j2``."""
    return Environment(
        loader=PackageLoader("tsds_jax.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(found: Any) -> Any:
    """Text of the data without what HTML cannot hold; our own markup as it is."""
    if isinstance(found, str) and not isinstance(found, Markup):
        return _UNPRINTABLE.sub("\ufffd", found)
    return found


def _title(contents: RunContents) -> str:
    train = part_of(part_of(contents.manifest, "data"), "train")
    source = str(train.get("source") or contents.name)
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2] or source
    return f"Training data valuation: {words.short(name, 120)}"


def _byline(manifest: Mapping[str, Any]) -> str:
    model = part_of(manifest, "model").get("name")
    created = str(manifest.get("created") or "")[:16].replace("T", " ")
    version = f"tsds_jax {manifest.get('tsds_jax', '')}".strip()
    return " · ".join(words.short(part, 120) for part in (model, created, version) if part)


def _finetuning(contents: RunContents) -> dict[str, Any] | None:
    tuned = contents.finetuning
    if tuned is None:
        return None
    alt = "Lines of training loss and validation accuracy against the step, one for each training set."
    svg = plots.training_curves(tuned.arms, alt)
    return {
        "arms": [
            words.arm_cells(arm) | {"style": number % len(plots.ARM_COLOURS)} for number, arm in enumerate(tuned.arms)
        ],
        "differences": [words.difference_cells(change) for change in tuned.differences],
        "test_rows": tuned.test_rows,
        "seeds": words.seeds_in_words(tuned),
        "svg": Markup(svg) if svg else None,
        "best_marked": any(arm.best_step is not None for arm in tuned.arms),
    }


def _curve(contents: RunContents) -> dict[str, Any]:
    cut = contents.cut
    percent = words.is_share(cut.utility)
    majority = cut.majority_share if cut.utility == "accuracy" else None
    majority = majority if majority is not None and math.isfinite(majority) else None
    sentence = words.cut_in_words(cut)
    axis = words.utility_name(cut.utility)
    drawn = majority if majority is not None and plots.majority_fits(cut.curve, majority) else None
    first = "lowest of each class first" if contents.by_class else "lowest values first"
    svg = plots.removal_curve(cut.curve, cut.removal_index, percent, axis, first, drawn, sentence)
    return {
        "svg": Markup(svg),
        "sentence": sentence,
        "axis": axis,
        "majority": words.share(majority) if majority is not None else None,
        "majority_drawn": drawn is not None,
        "chosen": cut.removal_index,
    }


def _histogram(values: Values, exponent: int) -> dict[str, Any] | None:
    valued = values.valued
    if not valued.any():
        return None
    value, kept = values.value[valued], values.kept[valued]
    negative = float(np.mean(value < 0))
    alt = (
        f"Histogram of {len(value):,} values from {value.min():.3g} to {value.max():.3g}, "
        f"{int((~kept).sum()):,} of them of removed rows."
    )
    svg, outside = plots.value_histogram(value, kept, exponent, alt)
    return {
        "svg": Markup(svg),
        "outside": outside,
        "negative": words.share(negative),
        "kept": int(values.kept.sum()),
        "removed": int((~values.kept).sum()),
    }


def _examples(values: Values, exponent: int, suspects: Suspects | None) -> list[dict[str, Any]]:
    """The lowest- and the highest-valued rows, at most twenty of each and none in both."""
    places = np.flatnonzero(values.valued)
    places = places[np.lexsort((values.row[places], values.rank[places]))]
    low = places[:_EXAMPLES]
    high = places[len(low) :][-_EXAMPLES:][::-1]
    doubted = {} if suspects is None else dict(zip(suspects.row, suspects.suggested, strict=True))
    return [
        {"name": name, "rows": [_example(values, int(place), exponent, doubted) for place in chosen]}
        for name, chosen in (("lowest", low), ("highest", high))
        if len(chosen)
    ]


def _example(values: Values, place: int, exponent: int, doubted: Mapping[str, str]) -> dict[str, Any]:
    texts = [_text(column[place].as_py() or "", _TEXT) for column in (values.text, values.text_pair) if column]
    return {
        "rank": words.whole(int(values.rank[place])),
        "row": int(values.row[place]),
        "label": words.short(values.label[place], 100),
        "doubted": words.short(doubted.get(str(values.row[place]), ""), 100),
        "value": words.fixed(float(values.value[place]) * 10.0**-exponent, 2),
        "stderr": words.fixed(float(values.stderr[place]) * 10.0**-exponent, 2),
        "count": words.whole(int(values.count[place])),
        "kept": bool(values.kept[place]),
        "texts": texts,
    }


def _suspects(contents: RunContents) -> dict[str, Any] | None:
    """The most doubtful labels, at most twenty."""
    found = contents.suspects
    if found is None or not len(found):
        return None
    rows = [
        {
            "row": found.row[place],
            "label": words.short(found.label[place], 100),
            "suggested": words.short(found.suggested[place], 100),
            "probability": words.share(float(found.probability[place])),
            "texts": [_text(column[place], _TEXT) for column in found.texts],
        }
        for place in range(min(_EXAMPLES, len(found)))
    ]
    return {"sentence": words.doubts(found, contents.manifest), "rows": rows}


def _labels(values: Values, exponent: int) -> dict[str, Any]:
    """Rows, removals and mean value of every class, the most depleted first."""
    names, classes = np.unique(values.label.astype(str), return_inverse=True)
    size = np.bincount(classes, minlength=len(names))
    removed = np.bincount(classes, weights=~values.kept, minlength=len(names))
    valued = values.valued
    drawn = np.bincount(classes[valued], minlength=len(names))
    total = np.bincount(classes[valued], weights=values.value[valued], minlength=len(names))
    mean = np.divide(total, drawn, out=np.full(len(names), np.nan), where=drawn > 0)
    order = np.lexsort((names, -removed / size))
    return {
        "rows": [
            {
                "name": words.short(names[k], 100),
                "rows": words.whole(int(size[k])),
                "removed": words.whole(int(removed[k])),
                "share": words.share(removed[k] / size[k]),
                "mean": words.fixed(float(mean[k]) * 10.0**-exponent, 2),
            }
            for k in order[:_CLASSES]
        ],
        "left_off": max(0, len(names) - _CLASSES),
        "open": len(names) <= _CLASSES_OPEN,
        "classes": len(names),
    }


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings and figures of the valuation, as they stand in the manifest."""
    found = dict(part_of(manifest, "valuation"))
    cut_texts = part_of(manifest, "representation").get("truncated_texts")
    facts = [("seed", manifest.get("seed")), *found.items(), ("texts cut to the length limit", cut_texts)]
    return [(words.short(key, 60).replace("_", " "), _plain(value)) for key, value in facts if value is not None]


def _data(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for role, part in part_of(manifest, "data").items():
        if not isinstance(part, Mapping):
            continue
        classes = part_of(part, "classes")
        shown = ", ".join(f"{words.short(k, 60)} {_plain(n)}" for k, n in list(classes.items())[:12])
        more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
        rows.append(
            {
                "role": words.short(role, 60),
                "source": words.short(part.get("source", ""), 300),
                "rows": words.whole(as_float(part.get("rows"))),
                "classes": shown + more,
                "sha256": str(part.get("sha256") or "")[:12],
            }
        )
    return rows


def _stages(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    times = {str(k): as_float(v) for k, v in part_of(manifest, "stages").items()}
    times = {stage: time for stage, time in times.items() if math.isfinite(time)}
    total = sum(times.values())
    return [
        {"name": words.short(name, 60), "time": words.seconds(time), "share": words.share(time / total, 0)}
        for name, time in times.items()
        if total > 0
    ]


def _options(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every option of the run; those of fine-tuning bear its name, for both have some of the same names."""
    tuning = {f"finetune {key}": value for key, value in part_of(manifest, "finetuning").items()}
    return _pairs(dict(part_of(manifest, "options")) | tuning)


def _versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    machine = {
        "python": manifest.get("python"),
        "platform": manifest.get("platform"),
        "cpus": manifest.get("cpus"),
        "devices": ", ".join(str(d) for d in _list(manifest.get("devices"))) or None,
    }
    own = {"tsds_jax": manifest.get("tsds_jax")}
    return own | dict(part_of(manifest, "versions")) | {k: v for k, v in machine.items() if v is not None}


def _pairs(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(words.short(key, 100), _plain(value)) for key, value in list(found.items())[:300]]


def _plain(value: object) -> str:
    """A JSON value as a reader would write it."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return words.short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 300)


def _text(value: object, length: int) -> str:
    """A long text cut with a note of what is missing."""
    text = str(value)
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text) - length:,} more characters)"


def _exponent(value: np.ndarray) -> int:
    """A power of ten, in steps of three, that brings typical values between about 1 and 1,000."""
    typical = float(np.quantile(np.abs(value), 0.9)) if len(value) else 0.0
    if typical == 0 or 0.5 <= typical < 1000:
        return 0
    return 3 * math.floor((math.log10(typical) + 0.3) / 3)


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []
