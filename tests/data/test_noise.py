"""Flipped labels are wrong, evenly spread, marked, and written to the rows in the column's own type."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from tsds_jax.data import flip_labels, load_data, write_rows
from tsds_jax.errors import InputError


def data(labels, feature=None):
    features = Features({"text": Value("string"), "label": feature}) if feature else None
    columns = {"text": [f"t {k}" for k in range(len(labels))], "label": labels}
    return load_data(Dataset.from_dict(columns, features=features))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_exactly_the_marked_rows_change_class(share):
    before = data(["x", "y", "z", "x"] * 25)
    after, flipped = flip_labels(before, share, seed=0)
    assert flipped.dtype == bool
    assert flipped.sum() == round(100 * share)
    assert ((after.labels != before.labels) == flipped).all()
    assert after.rows["label"][:] == after.label_names
    assert after.texts == before.texts
    assert before.rows["label"][:] == ["x", "y", "z", "x"] * 25


def test_flips_are_even_over_rows_and_classes():
    before = data(["x", "y", "z"] * 1000)
    after, flipped = flip_labels(before, 0.3, seed=3)
    pairs, counts = np.unique(np.stack([before.labels, after.labels])[:, flipped], axis=1, return_counts=True)
    assert pairs.shape == (2, 6)
    assert abs(counts - 150).max() < 5 * np.sqrt(150)


def test_class_dependent_flips_go_to_one_class_each_and_some_classes_have_twice_as_many():
    before = data(["x", "y", "z", "w"] * 1000)
    after, flipped = flip_labels(before, 0.2, seed=3, noise="class_dependent")
    assert flipped.sum() == 800
    pairs, counts = np.unique(np.stack([before.labels, after.labels])[:, flipped], axis=1, return_counts=True)
    assert sorted(pairs[0]) == sorted(pairs[1]) == [0, 1, 2, 3]
    assert (pairs[0] != pairs[1]).all()
    low, high = np.sort(counts)[:2].sum(), np.sort(counts)[2:].sum()
    assert abs(high / low - 2) < 0.4
    with pytest.raises(InputError, match="noise 'odd' is unknown: use one of uniform, class_dependent"):
        flip_labels(before, 0.2, seed=3, noise="odd")


def test_the_seed_decides():
    before = data(["x", "y"] * 50)
    masks = [flip_labels(before, 0.2, seed)[1].tolist() for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([1, 2, 1, 2], Value("int8")),
        ([1.0, 2.0, 1.0, 2.0], Value("float32")),
        ([True, False, True, False], Value("bool")),
        (["1", "2", "1", "2"], Value("large_string")),
        ([1, 0, 1, 0], ClassLabel(names=["n", "p"])),
    ],
)
def test_the_label_column_keeps_its_type_and_survives_writing(tmp_path, labels, feature):
    after, _ = flip_labels(data(labels, feature), 0.5, seed=0)
    assert after.rows.features["label"] == feature
    again = load_data(write_rows(after, tmp_path, "noisy"))
    assert again.label_names == after.label_names


def test_flipped_data_can_be_selected_from():
    after, flipped = flip_labels(data(["x", "y"] * 10).select(range(3, 15)), 0.5, seed=0)
    part = after.select(np.flatnonzero(flipped))
    assert part.rows["label"][:] == part.label_names
    assert len(part) == 6


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(InputError, match=r"share is .* between 0 and 1"):
        flip_labels(data(["x", "y"]), share, seed=0)


def test_one_class_cannot_be_flipped():
    only = load_data(Dataset.from_dict({"text": ["a"], "label": ["x"]}), role="test")
    with pytest.raises(InputError, match="one class cannot be flipped"):
        flip_labels(only, 0.5, seed=0)
