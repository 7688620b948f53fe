"""The package's folders import each other one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import tsds_jax

PACKAGE = Path(tsds_jax.__file__).parent


def test_no_two_folders_import_each_other_directly_or_not():
    imported = {}
    for file in PACKAGE.rglob("*.py"):
        folder = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tsds_jax"):
                parts = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                imported.setdefault(folder, set()).update({*parts} - {folder, "__version__"})
    del imported["__init__"]  # which names what all of them give
    assert {"games", "valuation", "pipeline"} <= set(imported)
    order = list(TopologicalSorter(imported).static_order())  # or it names a circle
    assert order.index("games") < order.index("valuation") < order.index("selection") < order.index("pipeline")
