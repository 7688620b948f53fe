"""Groups, marks and duplicates of training rows, from their other columns and their texts."""

import tracemalloc

import pytest
from datasets import Dataset

from tsds_jax.data import duplicate_codes, group_codes, group_names, load_data, marked_rows, numbers, shared_groups
from tsds_jax.errors import InputError


def data(**columns):
    return load_data(Dataset.from_dict({"text": ["a", "A ", "b", "b"], "label": ["x", "x", "x", "y"], **columns}))


@pytest.mark.parametrize("values", [["p", "q", "p", "r"], [7, 8, 7, 9], [0.5, 1.5, 0.5, 2.5]])
def test_rows_of_the_same_entry_are_one_group(values):
    codes = group_codes(data(source=values), "source")
    assert codes.tolist() == [0, 1, 0, 2]


def test_a_whole_float_names_the_group_that_its_integer_does_and_nan_names_none():
    named = data(source=[1.0, 2.5, float("nan"), 1.0])
    assert group_names(named, "source") == ["1", "2.5", "", "1"]
    with pytest.raises(InputError, match="row 2: column 'source' names no group"):
        group_codes(named, "source")
    assert shared_groups(data(source=[1, 1, 2, 2]), named, "source") == 1


def test_one_long_entry_costs_no_more_than_itself():
    values = ["p", "q", "r", "s" * 1_000_000]
    rows = data(source=values)
    group_codes(rows, "source")
    tracemalloc.start()
    group_codes(rows, "source")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # an array of four such strings has 16


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["p", None, "q", "q"], "row 1: column 'source' names no group"),
        (["p", "q", " ", "q"], "row 2: column 'source' names no group"),
        (["p"] * 4, "all rows are of one group"),
    ],
)
def test_a_column_that_gives_no_groups_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        group_codes(data(source=values), "source")
    with pytest.raises(InputError, match="no column 'origin'; it has 'text', 'label'"):
        group_codes(data(), "origin")


@pytest.mark.parametrize(
    "values", [[1, 0, 0, 1], [1.0, 0.0, None, 1.0], [True, False, False, True], ["yes", "", "No", "TRUE"]]
)
def test_marks_are_one_true_or_yes(values):
    assert marked_rows(data(gold=values), "gold").tolist() == [True, False, False, True]


def test_another_entry_than_a_mark_is_named_by_row():
    with pytest.raises(InputError, match="row 3: column 'gold' holds 'maybe'; write 1, true or yes"):
        marked_rows(data(gold=["1", "0", "", "maybe"]), "gold")


@pytest.mark.parametrize("values", [[0.5, None, 1.0, 0.0], ["0.5", "", "1", " 0 "]])
def test_numbers_are_read_where_there_are_some(values):
    assert numbers(data(sure=values), "sure").tolist() == pytest.approx([0.5, float("nan"), 1, 0], nan_ok=True)


def test_a_column_that_holds_no_numbers_is_refused():
    with pytest.raises(InputError, match="row 1: column 'sure' holds 'very'; write a number or nothing"):
        numbers(data(sure=["1", "very", "", ""]), "sure")
    with pytest.raises(InputError, match="column 'sure' holds no number"):
        numbers(data(sure=["", "", "", ""]), "sure")


def test_a_row_that_is_refused_is_named_by_where_it_stood_in_its_source():
    last = data(group=["a", "b", "c", ""], sure=["1", "1", "1", "maybe"]).select([1, 3])
    for read, name in ((group_codes, "group"), (marked_rows, "sure"), (numbers, "sure")):
        with pytest.raises(InputError, match="row 3: column"):
            read(last, name)


def test_duplicates_are_of_the_same_text_and_label():
    assert duplicate_codes(data()).tolist() == [0, 0, 1, 2]
