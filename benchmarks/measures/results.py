"""Files of results, case by case."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measures.code import BEGAN, stamp, where
from measures.machine import machine, versions
from measures.rows import rebuilt, tables


def provenance(*parts: str, keep: bool, packages: Iterable[str] = ()) -> dict[str, Any]:
    """When, of which code, where and with what a result was measured.

    Args:
      parts: of tsds_jax, that it measures, and files of benchmarks/, that measure it.
      keep: whether the result is to be kept, see `stamp`.
      packages: whose versions it hangs on besides those that all hang on.
    """
    return {**stamp(*parts, keep=keep), "machine": machine(), "versions": versions(*packages)}


def merged(file: Path, order: Iterable[str], measured: dict[str, Any]) -> dict[str, Any]:
    """What the file is to hold once these cases are measured: all others stay, each with its own provenance.

    What a case compares ran on one machine, one in turn with the other; of two cases that need not be so.

    Args:
      file: where the results are.
      order: all cases.
      measured: those measured now.
    """
    cases = (json.loads(file.read_text("utf-8"))["cases"] if file.exists() else {}) | measured
    # Of a case without rows nothing was measured.
    return {"cases": {name: cases[name] for name in order if name in cases and cases[name].get("rows") != []}}


def case_tables(result: dict[str, Any]) -> str:
    """Markdown: the tables of all rows in a file of results, those of a machine and its versions together."""
    together: dict[str, list[Any]] = {}
    for case in result["cases"].values():
        together.setdefault(_on(case), []).extend(rebuilt(row) for row in case["rows"])
    return "\n\n".join(f"On {on}:\n\n{tables(rows)}" for on, rows in together.items())


def write(file: Path, result: dict[str, Any], tables: str) -> None:
    """The file, whole, and beside it a page of its tables and its plot, if it has one."""
    if not {"cases", "seconds"} & result.keys():  # cases say each how long they took
        result = result | {"seconds": round(time.perf_counter() - BEGAN, 1)}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    script = f"benchmarks/{file.stem.removesuffix('_gpu')}.py"
    page = (
        f"# {file.stem}\n\nMade by `{script}`, whose first lines say what was measured, from "
        f"[{file.name}]({file.name}), which has every repeat."
    )
    page += f" On {_on(result)}." if "machine" in result else ""  # else each case says its own
    # Not at the top: what is measured need not run beside matplotlib.
    from measures.plots import draw

    shown = draw(file)
    # A script may have put its own there.
    picture = f"\n\n{shown}" if shown and shown not in tables else ""
    file.with_suffix(".md").write_text(f"{page}\n\n{tables}{picture}\n", "utf-8")


def _on(entry: dict[str, Any]) -> str:
    versions = (f"{name} {version}" for name, version in sorted(entry["versions"].items()))
    return ", ".join([where(entry["machine"]), *versions])
