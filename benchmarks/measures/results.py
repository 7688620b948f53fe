"""Files of results, case by case."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measures.code import where


def merged(
    file: Path, about: dict[str, Any], order: Iterable[str], measured: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file is to hold once these cases are measured, and what it held from a machine and versions like these.

    Cases of the latter stay, unless they were measured again. Another build of the system is the same machine.

    Args:
      file: where the results are.
      about: machine, versions and whatever else must be the same.
      order: all cases.
      measured: those measured now.
    """
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    kept = found if all(_alike(found.get(name)) == _alike(entry) for name, entry in about.items()) else {}
    cases = kept.get("cases", {}) | measured
    # Of a case without rows nothing was measured.
    whole = {name: cases[name] for name in order if name in cases and cases[name].get("rows") != []}
    return {**about, "cases": whole}, kept


def _alike(about: Any) -> Any:
    return {name: entry for name, entry in about.items() if name != "platform"} if isinstance(about, dict) else about


def write(file: Path, result: dict[str, Any], tables: str) -> None:
    """The file, whole, and a page of its tables beside it."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    script = f"benchmarks/{file.stem.removesuffix('_gpu')}.py"
    on = [where(result["machine"])] if "machine" in result else []  # else each case says its own
    on += [f"{name} {version}" for name, version in result["versions"].items()]
    page = (
        f"# {file.stem}\n\nMade by `{script}`, whose first lines say what was measured, from "
        f"[{file.name}]({file.name}), which has every repeat. On {', '.join(on)}."
    )
    file.with_suffix(".md").write_text(f"{page}\n\n{tables}\n", "utf-8")
