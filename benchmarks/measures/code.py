"""When, and of which code, a result is; and whether that is the code as it is now.

Whatever a benchmark or an example's study keeps carries a `stamp`: the date, the commit, and a digest of each part of
the package that it measured. benchmarks/results/README.md lists all results, and says of which a part has changed
since: `python -m benchmarks index` writes it, and a test fails until it has been written.
"""

import ast
import hashlib
import json
import subprocess
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tsds_jax"
RESULTS = ROOT / "benchmarks" / "results"
EXAMPLES = ROOT / "examples"
INDEX = RESULTS / "README.md"
_HEAD = """# What was measured, and whether it is still so

Made by `python -m benchmarks index` from the files beside it. A result is *stale* where a part of the package that it
measured has other code now than at its commit; comments and docstrings do not count. The figures stay true of that
commit; a + marks changes in the package that were not in it yet, and are in a later one.

| result | case | measured | commit | jax | on | now |
|---|---|---|---|---|---|---|
"""


class Kept(NamedTuple):
    """One result with its stamp.

    Attributes:
      file: that it is in.
      case: its name there; empty if it is the only one.
      stamp: see `stamp`.
      jax: its version.
      device: that it ran on.
    """

    file: str
    case: str
    stamp: dict[str, Any]
    jax: str
    device: str

    @property
    def stale(self) -> list[str]:
        """Parts whose code is another now."""
        return [part for part, digest in self.stamp["code"].items() if _digest_now(part) != digest]


def stamp(*parts: str) -> dict[str, Any]:
    """What a result is to carry.

    Args:
      parts: of the package, that it measures: folders and modules, such as "games" and "valuation".
    """
    # A process that a measurement started has run what lay there by then.
    changed = any(code_digest(part) != _BEGAN_WITH.get(part, "gone") for part in parts)
    return {
        "date": date.today().isoformat(),
        "commit": f"{_BEGAN_AT}+" if changed and _BEGAN_AT and not _BEGAN_AT.endswith("+") else _BEGAN_AT,
        "code": {part: _BEGAN_WITH.get(part) or code_digest(part) for part in parts},
    }


def alike(about: dict[str, Any]) -> str:
    """A name for a folder of runs that may be gone on with: of one code, on one machine, with the same versions."""
    what = [about["code"], about["machine"]["processor"], about["machine"]["cores"], about["versions"]]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(part: str, package: Path = PACKAGE) -> str:
    """Of a part's code without comments, docstrings and empty lines: the same on every Python version."""
    place = package / part
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if not files or not files[0].exists():
        return "gone"
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(package).as_posix()}\n{bare_code(file.read_text('utf-8'))}".encode())
    return digest.hexdigest()[:12]


# Many results are of the same parts.
_digest_now = cache(code_digest)


def bare_code(text: str) -> str:
    """Source code without docstrings, lines of comment and empty lines."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def results() -> Iterator[Kept]:
    """All that is kept, file by file."""
    for file in sorted(RESULTS.glob("*.json")):
        found = json.loads(file.read_text("utf-8"))
        for case, entry in found.get("cases", {"": found}).items():
            if entry.get("rows") == []:  # of a device that was not there
                continue
            yield Kept(file.name, case, entry, entry["versions"]["jax"], where(entry["machine"]))
    for file in sorted(EXAMPLES.glob("*/results.json")):
        for case, entry in json.loads(file.read_text("utf-8")).items():
            name = f"../../examples/{file.parent.name}.json"
            yield Kept(name, case, entry, entry["versions"]["jax"], f"{entry['cpus']} cores")


def index() -> str:
    """The list of results, in Markdown."""
    lines = []
    for kept in results():
        now = f"**stale**: {', '.join(kept.stale)}" if kept.stale else "current"
        page, commit = (RESULTS / kept.file).with_suffix(".md"), kept.stamp["commit"] or "unknown"
        link = f"[{page.stem}]({Path(kept.file).with_suffix('.md') if page.exists() else kept.file})"
        cells = (link, kept.case, kept.stamp["date"], commit, kept.jax, kept.device, now)
        lines.append(f"| {' | '.join(cells)} |")
    return _HEAD + "\n".join(lines) + "\n"


def where(machine: dict[str, Any]) -> str:
    """Of a machine: an accelerator's kind, or the processor's name and cores."""
    kind = machine.get("device_kind", "cpu")
    return f"{machine['cores']} cores of an {machine['processor']}" if kind == "cpu" else kind


def _commit() -> str | None:
    """Of the checkout, with a plus where the package has changes that are in no commit; None where there is none."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", str(PACKAGE)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


# Of what runs, which was imported at the start: hours later other code may lie in its place.
_BEGAN_WITH = {part: code_digest(part) for part in sorted(place.stem for place in PACKAGE.iterdir())}
_BEGAN_AT = _commit()
