"""Selecting keeps texts, labels and rows together; the fingerprint tells data apart and formats not."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset

from tsds_jax.data import TextData, flip_labels, load_data, with_classes


@pytest.fixture
def data():
    columns = {"text": ["a", "b", "c", "d"], "label": ["y", "x", "y", "y"], "id": [3, 2, 1, 0]}
    return load_data(Dataset.from_dict(columns))


@pytest.mark.parametrize("indices", [[3, 0], np.array([3, 0]), (3, 0), np.array([3, 0], np.uint32)])
def test_select_takes_texts_labels_and_rows_alike(data, indices):
    part = data.select(indices)
    assert part.texts == ["d", "a"]
    assert part.label_names == part.rows["label"][:] == ["y", "y"]
    assert part.rows["id"][:] == [0, 3]
    assert part.classes == data.classes


def test_select_of_a_selection_counts_from_the_selection(data):
    assert data.select([3, 1, 0]).select([1, 1]).rows["id"][:] == [2, 2]


def test_every_row_knows_its_row_in_the_source_through_selections(data):
    assert data.origin.dtype == np.int64
    assert data.origin.tolist() == [0, 1, 2, 3]
    part = data.select([3, 1, 0]).select([2, 0])
    assert part.origin.tolist() == [0, 3]
    assert part.origin.dtype == np.int64
    assert data.select([]).origin.shape == (0,)
    assert with_classes(part, ("y", "x")).origin.tolist() == [0, 3]
    assert flip_labels(part, 1.0, 0)[0].origin.tolist() == [0, 3]


def test_the_fingerprint_has_no_regard_for_where_rows_came_from(data):
    assert dataclasses.replace(data, origin=np.array([7, 5, 3, 1])).fingerprint() == data.fingerprint()


def test_select_of_nothing_is_empty(data):
    part = data.select([])
    assert len(part) == len(part.rows) == 0
    assert part.class_counts == {"x": 0, "y": 0}


@pytest.mark.parametrize("indices", [[4], [-1], [True, False, True, True], [0.5], [[0], [1]]])
def test_positions_that_are_not_row_numbers_are_refused(data, indices):
    with pytest.raises(IndexError, match="row positions"):
        data.select(indices)


def test_select_writes_no_cache_file(tmp_path, data):
    data.rows.save_to_disk(tmp_path / "rows")
    before = sorted(tmp_path.rglob("*"))
    load_data(tmp_path / "rows").select([2, 0])
    assert sorted(tmp_path.rglob("*")) == before


def test_class_counts_follow_the_order_of_classes(data):
    assert list(data.class_counts.items()) == [("x", 1), ("y", 3)]


def test_the_fingerprint_changes_with_texts_labels_classes_and_order(data):
    others = [
        data.select([1, 0, 2, 3]),
        data.select([0, 1, 2]),
        dataclasses.replace(data, labels=1 - data.labels),
        dataclasses.replace(data, classes=("x", "z")),
        dataclasses.replace(data, texts=["ab", "", "c", "d"]),
        dataclasses.replace(data, texts=[(text, "") for text in data.texts]),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == len(others) + 1


def test_the_fingerprint_is_the_same_in_every_version(data):
    assert data.fingerprint() == "840d27905e90f8205c439e942f9ef53b914d320d6de467c01ff8502f496647a5"
    assert data.select(range(4)).fingerprint() == data.fingerprint()


def test_parts_of_different_lengths_are_refused(data):
    with pytest.raises(ValueError, match="4 rows, 3 texts and 4 labels"):
        TextData(data.rows, data.texts[:3], data.labels, data.classes, ("text",), "label")
    with pytest.raises(ValueError, match="4 rows and 3 places in the source"):
        dataclasses.replace(data, origin=np.arange(3))
