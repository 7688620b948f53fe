"""When, and of which code, a result is; and whether that is the code as it is now.

Whatever a benchmark or an example's study keeps carries a `stamp`: the date, the commit, and a digest of each part of
the package that it measured, as it was imported, and of each file of benchmarks/ that measured it. What is to be kept
must have run the checkout's own code. benchmarks/results/README.md lists all results, and says of which a part has
changed since: `python -m benchmarks index` writes it, and a test fails until it has been written.
"""

import ast
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tsds_jax"
RESULTS = ROOT / "benchmarks" / "results"
EXAMPLES = ROOT / "examples"
INDEX = RESULTS / "README.md"
# What runs may be installed elsewhere; to list results it need not be installed.
_FOUND = find_spec("tsds_jax")
IMPORTED = Path(_FOUND.origin).parent if _FOUND and _FOUND.origin else PACKAGE
# They decide no number that is measured.
BOOKKEEPING = {f"benchmarks/measures/{name}.py" for name in ("code", "machine", "plots", "results", "rows")}
_HEAD = """# What was measured, and whether it is still so

Made by `python -m benchmarks index` from the files beside it. A result is *stale* where a part of the package that it
measured, or a file of benchmarks/ that measured it or that this one imports, has other code now than at its commit;
comments and docstrings do not count. (Older results do not say what measured them.) The figures stay true of that
commit; a + marks changes in the package or the benchmarks that were not in it yet, and are in a later one.

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
      seconds: that it took; None if it does not say.
    """

    file: str
    case: str
    stamp: dict[str, Any]
    jax: str
    device: str
    seconds: float | None

    @property
    def stale(self) -> list[str]:
        """Parts whose code is another now."""
        return [part for part, digest in self.stamp["code"].items() if _digest_now(part) != digest]


def stamp(*parts: str, keep: bool = False) -> dict[str, Any]:
    """What a result is to carry.

    Args:
      parts: what it measures, folders and modules of the package such as "games" and "valuation", and what measures it,
        files such as "benchmarks/cost.py".
      keep: whether the result is to be kept: then it must be the checkout's.

    Raises:
      SystemExit: it is to be kept, and a part that was imported is other code than the checkout's.
    """
    if keep and (other := [part for part in parts if _BEGAN_WITH.get(part) != _CHECKED_OUT.get(part)]):
        raise SystemExit(
            f"{IMPORTED} runs, whose code is not this checkout's ({', '.join(other)}), so no result is kept: "
            f"pip install -e {ROOT}, or set PYTHONPATH={ROOT}"
        )
    # A process that a measurement started has run what lay there by then.
    changed = any(code_digest(part, IMPORTED) != _BEGAN_WITH.get(part, "gone") for part in parts)
    return {
        "date": date.today().isoformat(),
        "commit": f"{_BEGAN_AT}+" if changed and _BEGAN_AT and not _BEGAN_AT.endswith("+") else _BEGAN_AT,
        "code": {part: _BEGAN_WITH.get(part) or code_digest(part, IMPORTED) for part in parts},
    }


class Case(NamedTuple):
    """One case of a script that has several.

    Attributes:
      by: names of the files of benchmarks/measures that measure it. The script is none of them, so that a case more
        makes no other stale.
      run: the case.
    """

    by: tuple[str, ...]
    run: Callable[[Any], Any]

    @property
    def parts(self) -> list[str]:
        """Those files, for `stamp`."""
        return [f"benchmarks/measures/{name}.py" for name in self.by]


def alike(about: dict[str, Any]) -> str:
    """A name for a folder of runs that may be gone on with: of one code, on one machine, with the same versions."""
    machine = about["machine"]
    what = [about["code"], machine["processor"], machine.get("cpu"), machine["cores"], about["versions"]]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(part: str, package: Path = PACKAGE) -> str:
    """Of a part's code without comments, docstrings and empty lines: the same on every Python version.

    Args:
      part: of the package, or a file of the checkout, which stands for all of benchmarks/ that it imports too.
      package: where the package is.
    """
    place, base = package / part, package
    if part.endswith(".py"):
        files, base = _with_imports(part), ROOT
    else:
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if not files or not files[0].exists():
        return "gone"
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(base).as_posix()}\n{bare_code(file.read_text('utf-8'))}".encode())
    return digest.hexdigest()[:12]


# Many results are of the same parts.
_digest_now = cache(code_digest)


def _with_imports(script: str) -> list[Path]:
    """A file of the checkout and what it imports of benchmarks/, directly or not, without bookkeeping."""
    found = [script] if (ROOT / script).exists() else []
    for one in found:  # which grows
        for name in _imported((ROOT / one).read_text("utf-8")):
            # As scripts find them: beside themselves, or from benchmarks/.
            for folder in (Path(one).parent, Path("benchmarks")):
                file = (folder / f"{name.replace('.', '/')}.py").as_posix()
                if file not in found and file not in BOOKKEEPING and (ROOT / file).exists():
                    found.append(file)
    return [ROOT / one for one in sorted(found)]


@cache
def _imported(text: str) -> set[str]:
    """Modules that source code may import, wherever it does: "a", "a.b" and "a.c" of `from a import b, c`."""
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return plain.union(*({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} for node in sources))


@cache
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
            seconds = entry.get("seconds") or entry.get("wall_seconds")
            yield Kept(file.name, case, entry, entry["versions"]["jax"], where(entry["machine"]), seconds)
    for file in sorted(EXAMPLES.glob("*/results.json")):
        for case, entry in json.loads(file.read_text("utf-8")).items():
            name = f"../../examples/{file.parent.name}.json"
            yield Kept(name, case, entry, entry["versions"]["jax"], f"{entry['cpus']} cores", None)


def index() -> str:
    """The list of results, in Markdown."""
    lines, every = [], list(results())
    took = [kept.seconds for kept in every if kept.seconds]
    for kept in every:
        now = f"**stale**: {', '.join(kept.stale)}" if kept.stale else "current"
        page, commit = (RESULTS / kept.file).with_suffix(".md"), kept.stamp["commit"] or "unknown"
        link = f"[{page.stem}]({Path(kept.file).with_suffix('.md') if page.exists() else kept.file})"
        cells = (link, kept.case, kept.stamp["date"], commit, kept.jax, kept.device, now)
        lines.append(f"| {' | '.join(cells)} |")
    hours = f"The {len(took)} that say how long they took, took {sum(took) / 3600:.1f} hours in all."
    return "\n".join([_HEAD.removesuffix("\n"), *lines, "", hours, ""])


def where(machine: dict[str, Any]) -> str:
    """Of a machine: an accelerator's kind, or the processor's name and cores."""
    kind = machine.get("device_kind", "cpu")
    return f"{machine['cores']} cores of an {machine['processor']}" if kind == "cpu" else kind


def _commit() -> str | None:
    """Of the checkout, with a plus where its code has changes that are in no commit; None where there is none."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code = (str(PACKAGE), str(ROOT / "benchmarks"), f":(exclude){RESULTS}")
    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", *code) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


BEGAN = time.perf_counter()
# Of what runs, which was imported at the start: hours later other code may lie in its place.
_PARTS = [
    *sorted(place.stem for place in PACKAGE.iterdir()),
    *(
        file.relative_to(ROOT).as_posix()
        for folder in (".", "measures", "peers", "reference")
        for file in sorted((ROOT / "benchmarks" / folder).glob("*.py"))
    ),
]
_BEGAN_WITH = {part: code_digest(part, IMPORTED) for part in _PARTS}
_CHECKED_OUT = {part: code_digest(part) for part in _PARTS}
_BEGAN_AT = _commit()
