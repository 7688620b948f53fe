"""Every example in a docstring runs, and prints what it says."""

import doctest
import importlib
import pkgutil
import shutil

import pytest

import tsds_jax


def examples():
    """All docstrings with examples, whatever module they are in."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(tsds_jax.__path__, "tsds_jax."):
        there = importlib.import_module(module.name)
        yield from (found for found in finder.find(there, module=there) if found.examples)


@pytest.fixture(scope="module")
def place(tiny_files, tiny_model, tmp_path_factory):
    """What the examples say is there: an encoder, and labelled texts."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(tiny_model, folder / "models" / "minilm")
    for role, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        shutil.copy(tiny_files[role], folder / f"{name}.csv")
    return folder


def example_of(found):
    """Of what trains or selects by itself a slow one."""
    slow = found.name.startswith(("tsds_jax.finetuning.", "tsds_jax.pipeline.", "tsds_jax.selection."))
    return pytest.param(found, id=found.name, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("example", list(map(example_of, examples())))
def test_an_example_prints_what_it_says(example, place, monkeypatch):
    monkeypatch.chdir(place)
    told = []
    assert doctest.DocTestRunner(verbose=False).run(example, out=told.append).failed == 0, "".join(told)
