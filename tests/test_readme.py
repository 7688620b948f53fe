"""The README says only what a run said."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="run from a source checkout")


def test_the_readme_shows_what_the_demo_printed_and_where():
    shown = re.search(r"<!-- demo -->(.*?)<!-- /demo -->", README.read_text("utf-8"), re.DOTALL)
    assert shown
    printed = (ROOT / "benchmarks" / "results" / "demo.txt").read_text("utf-8").strip()
    result = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text("utf-8"))
    assert printed in shown[1]
    for fact in (result["date"], result["machine"]["processor"], f"{result['peak_memory_gib']} GiB"):
        assert fact in shown[1]
    assert f"{result['wall_seconds'] / 60:.1f} minutes" in shown[1]


def test_the_readme_names_the_test_line_that_ci_runs():
    assert "pip install '.[test]' && pytest" in README.read_text("utf-8").splitlines()


def test_every_name_that_the_readme_uses_exists():
    import tsds_jax

    used = set(re.findall(r"\btsds\.([a-z_]+)\(", README.read_text("utf-8")))
    assert used
    for name in used:
        assert hasattr(tsds_jax, name)
