"""Files of results, case by case."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def merged(
    file: Path, about: dict[str, Any], order: Iterable[str], measured: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file is to hold once these cases are measured, and what it held from a machine and versions like these.

    Cases of the latter stay, unless they were measured again.

    Args:
      file: where the results are.
      about: machine, versions and whatever else must be the same.
      order: all cases.
      measured: those measured now.
    """
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    kept = found if all(found.get(name) == entry for name, entry in about.items()) else {}
    cases = kept.get("cases", {}) | measured
    return {**about, "cases": {name: cases[name] for name in order if name in cases}}, kept


def write(file: Path, result: dict[str, Any]) -> None:
    """The file, whole."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
