"""Splits share one set of classes, keep each class where they can, and count texts that stand in two."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tsds_jax.data import carve_validation, count_overlap, load_data, load_splits, shared_groups
from tsds_jax.data.reading import no_progress_bars, read_source
from tsds_jax.data.splitting import _drawn_units, own_split
from tsds_jax.errors import InputError
from tsds_jax.finetuning.tuning import read_rows
from tsds_jax.options import FineTuneOptions


def rows(labels, prefix="t", texts=None):
    return Dataset.from_dict({"text": texts or [f"{prefix} {k}" for k in range(len(labels))], "label": labels})


@pytest.fixture
def train():
    return rows(["x"] * 40 + ["y"] * 10 + ["z"] * 2)


def test_validation_is_carved_out_by_class(train):
    splits = load_splits(train, validation_fraction=0.2)
    assert splits.validation.class_counts == {"x": 8, "y": 2, "z": 1}
    assert splits.train.class_counts == {"x": 32, "y": 8, "z": 1}
    assert splits.test is None
    assert sorted([*splits.train.texts, *splits.validation.texts]) == sorted(train["text"])


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_rows_that_were_read_for_another_task_are_refused_and_not_those_beside_them(task, train):
    labels = [["x"], ["y"]] if task == "multi_label" else [1.5, 2.5]
    other = load_data(rows(labels), task=task)
    with pytest.raises(InputError, match="labels must be one class a row here, and are"):
        load_splits(other, validation=train)


def test_a_column_of_groups_that_is_not_there_is_refused_where_nothing_is_set_apart_too(train):
    for validation in (None, train):
        with pytest.raises(InputError, match="no column 'nosuch'"):
            load_splits(train, validation, group="nosuch")


def test_a_column_of_protected_rows_that_is_not_there_is_refused_where_nothing_is_set_apart_too(train):
    for validation in (None, train):
        with pytest.raises(InputError, match="no column 'nosuch'"):
            load_splits(train, validation, protect="nosuch")


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_every_class_of_two_rows_stands_on_both_sides_of_the_carving(train, fraction):
    splits = load_splits(train, validation_fraction=fraction)
    assert min(splits.train.class_counts.values()) >= 1
    assert min(splits.validation.class_counts.values()) >= 1


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_text_whatever_their_labels_stand_on_one_side_of_the_carving(seed):
    texts = [f"common {k % 20}" if k % 2 else f"T {k}" for k in range(400)]
    labels = [("x", "y", "y")[k // 2 % 3] for k in range(400)]
    splits = load_splits(rows(labels, texts=texts), seed=seed)
    assert splits.overlap == {}
    assert abs(len(splits.validation) - 80) <= 10
    assert any(text.startswith("common") for text in splits.validation.texts)
    kept = load_splits(rows(labels, texts=texts), seed=seed, drop_overlap=True)
    assert len(kept.train) == len(splits.train)


def test_a_class_whose_texts_all_have_more_copies_than_its_share_gives_the_fewest():
    texts = [*(f"t {k}" for k in range(40)), *["rare"] * 4, *["rarer"] * 3]
    for seed in range(5):
        splits = load_splits(rows(["x"] * 40 + ["y"] * 7, texts=texts), seed=seed)
        assert splits.train.class_counts == {"x": 32, "y": 4}
        assert splits.validation.class_counts == {"x": 8, "y": 3}


def test_a_class_of_one_row_stays_in_training():
    splits = load_splits(rows(["x", "x", "y"]))
    assert splits.train.class_counts == {"x": 1, "y": 1}
    assert splits.validation.class_counts == {"x": 1, "y": 0}


def documents(sizes, seed=0):
    """Rows of documents of these sizes, in random order, of two classes in three to one."""
    document = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = ["x" if k % 4 else "y" for k in range(len(document))]
    return rows(labels).add_column("document", [f"d{one}" for one in document])


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_set_apart_as_a_whole_near_the_share_of_each_class(seed):
    splits = load_splits(documents([10] * 40), group="document", seed=seed)
    assert not set(splits.train.rows["document"]) & set(splits.validation.rows["document"])
    counts = splits.validation.class_counts
    assert abs(counts["x"] - 60) <= 10
    assert abs(counts["y"] - 20) <= 5
    assert shared_groups(splits.train, splits.validation, "document") == 0
    by_row = load_splits(documents([10] * 40), seed=seed)
    assert shared_groups(by_row.train, by_row.validation, "document") > 30


def test_no_class_loses_its_last_training_row_to_a_group_and_groups_too_large_are_refused():
    lone = rows(["x"] * 8 + ["y"] * 2).add_column("document", [*"aabbccdd", "e", "e"])
    for seed in range(10):
        splits = load_splits(lone, group="document", seed=seed)
        assert splits.train.class_counts["y"] == 2
    with pytest.raises(InputError, match="no group of column 'document' can be set apart"):
        load_splits(rows(["x", "y"] * 4).add_column("document", [*"aaaabbbb"]), group="document")


def test_a_group_of_most_rows_is_not_left_alone_to_be_valued():
    sizes = [85, *[1] * 15]
    with pytest.raises(InputError, match="leaves one group of column 'document' to value"):
        load_splits(documents(sizes), group="document")


def drawn_of_all_classes(labels, codes, fraction, generator):
    """The same rule with every class's count for every group."""
    counts = np.zeros((codes.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (codes, labels), 1)
    whole, held = counts.sum(0), np.zeros(labels.max() + 1, np.int64)
    drawn = np.zeros(len(counts), bool)
    for one in generator.permutation(len(counts)):
        with_it = held + counts[one]
        nearer = np.square(fraction * whole - with_it).sum() < np.square(fraction * whole - held).sum()
        if nearer and np.all((with_it < whole) | (whole == 0)):
            held, drawn[one] = with_it, True
    return drawn


def test_groups_are_drawn_by_the_counts_of_all_classes_to_the_last_tie():
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        points, classes = rng.integers(4, 60), rng.integers(1, 6)
        labels = rng.integers(0, classes, points)
        codes = np.unique(rng.integers(0, rng.integers(1, points), points), return_inverse=True)[1]
        fraction = (0.125, 0.25, 0.375, 0.5)[seed % 4]  # of which every sum is exact
        draws = [
            draw(labels, codes, fraction, np.random.default_rng(seed)) for draw in (_drawn_units, drawn_of_all_classes)
        ]
        np.testing.assert_array_equal(*draws, err_msg=f"{seed}")


def test_what_drawing_groups_holds_does_not_grow_with_classes_times_groups():
    groups, classes = 4000, 1000
    labels, codes = np.arange(2 * groups) % classes, np.arange(2 * groups) // 2
    tracemalloc.start()
    drawn = _drawn_units(labels, codes, 0.2, np.random.default_rng(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.1 < drawn.mean() < 0.3
    assert peak < groups * classes


def test_the_carving_depends_on_the_seed_alone_and_keeps_the_order(train):
    first, again, other = (load_splits(train, seed=seed) for seed in (1, 1, 2))
    assert first.validation.texts == again.validation.texts
    assert first.validation.texts != other.validation.texts
    order = [train["text"][:].index(text) for text in first.train.texts]
    assert order == sorted(order)
    assert first.validation.source == "the Dataset (0.2 of the rows, set apart with seed 1)"


def test_carved_and_dropped_rows_keep_their_row_in_the_source(train):
    splits = load_splits(train, rows(["y"], texts=["nowhere else"]))
    assert splits.train.origin.tolist() == list(range(52))
    texts = [f"t {k}" for k in range(52)]
    # Row 3 of training stands in test too, so that training or validation loses it.
    carved = load_splits(train, test=rows(["x"], texts=["T 3"]), drop_overlap=True)
    parts = (carved.train, carved.validation)
    for part in parts:
        assert part.texts == [texts[row] for row in part.origin]
    assert sorted(np.concatenate([part.origin for part in parts])) == [row for row in range(52) if row != 3]


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None, True])
def test_a_seed_that_is_no_whole_number_from_0_is_named(train, seed):
    for split in (load_splits, lambda data, *, seed: carve_validation(load_data(data), fraction=0.2, seed=seed)):
        with pytest.raises(InputError, match=rf"seed is {seed!r}: give a whole number of at least 0"):
            split(train, seed=seed)
    with pytest.raises(InputError, match="seed is"):
        load_splits(train, rows(["x", "y"], "v"), seed=seed)


def test_numbers_of_numpy_are_numbers(train):
    given = load_splits(train, validation_fraction=np.float32(0.25), seed=np.int64(1))
    assert given.validation.texts == load_splits(train, validation_fraction=0.25, seed=1).validation.texts


def test_columns_of_the_training_data_are_those_of_the_other_splits(train, tmp_path):
    names = {"text": "sentence", "label": "mood"}
    data = load_data(train.rename_columns(names), text="sentence", label="mood")
    other = rows(["x", "y"], "v")
    other.rename_columns(names).to_csv(tmp_path / "v.csv", index=False)
    other.to_csv(tmp_path / "w.csv", index=False)
    assert len(load_splits(data, tmp_path / "v.csv").validation) == 2
    assert len(load_splits(data, tmp_path / "w.csv", text="text", label="label").validation) == 2


def test_the_carving_is_even_over_rows():
    data = load_data(rows(["x", "y"] * 10))
    counts = np.zeros(20)
    for seed in range(200):
        _, held = carve_validation(data, fraction=0.2, seed=seed)
        counts[[int(text.split()[1]) for text in held.texts]] += 1
    assert counts.sum() == 200 * 4
    assert counts.min() > 20  # binomial(200, 0.2): 40 +- 5.7
    assert counts.max() < 62


def test_rows_that_must_stay_are_not_set_apart_nor_are_their_copies_and_the_share_is_of_the_others():
    texts = ["Twin", "twin ", *(f"t {k}" for k in range(98))]
    data = rows(["x", "y"] * 50, texts=texts).add_column("gold", [1, 0, *[0] * 48, *[1] * 50])
    for seed in range(5):
        splits = load_splits(data, seed=seed, protect="gold")
        assert set(splits.train.texts) >= {"Twin", "twin ", *texts[50:]}
        assert splits.validation.class_counts == {"x": 5, "y": 5}
        assert load_splits(data.remove_columns("gold"), seed=seed).validation.class_counts == {"x": 10, "y": 10}


def test_groups_of_a_row_that_must_stay_are_not_set_apart():
    data = rows(["x", "y"] * 30).add_column("by", [k // 6 for k in range(60)])
    data = data.add_column("gold", [int(k in (0, 7, 14, 21)) for k in range(60)])
    for seed in range(5):
        splits = load_splits(data, seed=seed, group="by", protect="gold")
        assert set(splits.validation.rows["by"]) < {4, 5, 6, 7, 8, 9}


def test_a_class_all_of_whose_rows_must_stay_is_not_set_apart_and_where_none_is_left_it_is_said(train):
    gold = train.add_column("gold", [0] * 40 + [1] * 12)
    assert load_splits(gold, protect="gold").validation.class_counts == {"x": 8, "y": 0, "z": 0}
    words = "column 'gold' leaves no (row|group) that can be set apart; give validation data"
    for labels, marks, group in (
        (["x"] * 4 + ["y"], [1, 1, 1, 1, 0], None),
        (["x", "y"] * 4, [1] * 6 + [0, 0], None),  # the one that is left of a class to remove
        (["x", "y"] * 2, [1] * 4, "by"),
    ):
        few = rows(labels).add_column("gold", marks).add_column("by", list(range(len(labels))))
        with pytest.raises(InputError, match=words):
            load_splits(few, protect="gold", group=group)
    with pytest.raises(InputError, match="no column 'nosuch'"):
        load_splits(train, protect="nosuch")


def test_carving_needs_a_class_of_two_rows():
    with pytest.raises(
        InputError, match="no class has two rows of different text, so none can be set apart; give validation data"
    ):
        load_splits(rows(["x", "y"]))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan"), "x", None, (0.2,), True])
def test_the_fraction_lies_between_0_and_1(train, fraction):
    with pytest.raises(InputError, match=r"validation_fraction is .*between 0 and 1"):
        load_splits(train, validation_fraction=fraction)


def test_given_splits_are_numbered_by_the_training_classes(train):
    splits = load_splits(train, rows(["z", "x"], "v"), rows(["y"], "s"))
    assert splits.validation.classes == splits.test.classes == ("x", "y", "z")
    assert splits.validation.labels.tolist() == [2, 0]
    assert len(splits.train) == 52
    assert splits.overlap == {}


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_label_that_training_lacks_names_the_split_and_row(train, role):
    with pytest.raises(InputError, match=rf"\({role} data\), row 1: label 'q' is not a class"):
        load_splits(train, **{"validation": rows(["x", "y"], "v"), role: rows(["x", "q"], "o")})


def test_text_data_is_a_source(train):
    data = load_data(train)
    splits = load_splits(data, load_data(rows(["y", "x"], "v")))
    assert splits.train is data
    assert splits.validation.labels.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["validation", "valid", "dev", "val"])
def test_the_splits_of_a_dataset_dict_are_used(tmp_path, train, name):
    both = DatasetDict({"train": train, name: rows(["x", "y"], "v"), "test": rows(["y"], "s"), "extra": train})
    with no_progress_bars():
        both.save_to_disk(tmp_path / "d")
    for source in (both, tmp_path / "d", str(tmp_path / "d")):
        splits = load_splits(source)
        assert [len(splits.train), len(splits.validation), len(splits.test)] == [52, 2, 1]


def test_a_given_split_goes_before_the_one_in_the_dataset_dict(train):
    both = DatasetDict({"train": train, "validation": rows(["x", "y"], "v"), "test": rows(["y"], "s")})
    splits = load_splits(both, rows(["x"] * 5, "w"))
    assert len(splits.validation) == 5
    assert len(splits.test) == 1


def test_a_chosen_split_leaves_the_others_alone(tmp_path, train):
    both = DatasetDict({"train": train, "validation": rows(["x", "y"], "v"), "test": rows(["y"], "s")})
    with no_progress_bars():
        both.save_to_disk(tmp_path / "d")
    splits = load_splits(f"{tmp_path}/d@train")
    assert len(splits.train) + len(splits.validation) == 52
    assert splits.test is None


@pytest.mark.parametrize("name", ["test", "validation", "all"])
def test_an_only_split_is_that_of_the_training_rows_and_no_other_besides(train, name):
    splits = load_splits(DatasetDict({name: train}))
    assert len(splits.train) + len(splits.validation) == 52
    assert splits.set_apart
    assert splits.test is None
    assert read_rows(DatasetDict({name: train}), None, None, None, None, FineTuneOptions())[1:] == (None, None)


def test_without_a_validation_split_validation_is_carved(train):
    splits = load_splits(DatasetDict({"train": train, "test": rows(["y"], "s")}))
    assert len(splits.train) + len(splits.validation) == 52
    assert len(splits.test) == 1


def test_an_unlabelled_test_split_is_left_out(train):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    glue = Dataset.from_dict({"text": ["p", "q"], "label": [-1, -1]}, features=features)
    unlabelled = [glue, rows([-1, -1], "s"), rows([None, None], "s"), glue.remove_columns("label")]
    for test in unlabelled:
        assert load_splits(DatasetDict({"train": train, "test": test})).test is None


@pytest.mark.parametrize("labels", [[-1.0, -1.0], [-1, None], ["-1", "-1.000"], [None, None]])
def test_a_test_split_of_nothing_but_minus_one_has_no_numbers_to_predict(labels):
    how = {"text": None, "label": None, "classes": None, "task": "regression"}
    assert own_split({"test": read_source(rows(labels))}, "test", **how) is None


@pytest.mark.parametrize("labels", [[-1.0, 2.5], ["-1", "0.5"], [-1.5, -1.5]])
def test_minus_one_among_other_numbers_is_one_to_predict(labels):
    how = {"text": None, "label": None, "classes": None, "task": "regression"}
    found = own_split({"test": read_source(rows(labels))}, "test", **how)
    np.testing.assert_array_equal(found.labels, np.array(labels, np.float32))


def test_minus_one_is_a_label_where_training_has_it():
    both = DatasetDict({"train": rows([-1, 1, -1, 1]), "test": rows([-1, -1], "s")})
    assert len(load_splits(both).test) == 2


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.float16(), pa.decimal128(5)])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_test_split_with_some_labels_missing_is_refused(kind, missing):
    values = [1, 0] if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else ["x", "y"]
    given = [None, values[0]] if missing == 0 else [values[0], None]
    train, test = (
        Dataset(pa.table({"text": texts, "label": pa.array(labels, kind)}))
        for texts, labels in ((["p", "q", "r", "s"], [*values, *values]), (["t", "u"], given))
    )
    with pytest.raises(InputError, match=rf"\(test data\), row {missing}: column 'label' has no label"):
        load_splits(DatasetDict({"train": train, "test": test}), validation_fraction=0.5)


def test_a_given_test_set_without_labels_is_refused(train):
    with pytest.raises(InputError, match=r"\(test data\), row 0"):
        load_splits(train, test=rows([None, None], "s"))


@pytest.fixture
def overlapping():
    return (
        rows(["x", "x", "x", "y"], texts=["One  text", "two", "three", "four"]),
        rows(["x", "y", "y"], texts=["one text ", "five", "six"]),
        rows(["y", "x", "x"], texts=["FIVE", "Three", "seven"]),
    )


def test_the_same_text_in_two_splits_is_counted_without_case_and_whitespace(overlapping):
    splits = load_splits(*overlapping)
    assert splits.overlap == {("train", "validation"): 1, ("train", "test"): 1, ("validation", "test"): 1}
    assert len(splits.train) == 4


def test_overlap_is_dropped_from_training_and_validation_on_request(overlapping):
    splits = load_splits(*overlapping, drop_overlap=True)
    assert splits.train.texts == ["two", "four"]
    assert splits.validation.texts == ["one text ", "six"]
    assert splits.test.texts == ["FIVE", "Three", "seven"]
    assert splits.overlap == {("train", "validation"): 1, ("train", "test"): 1, ("validation", "test"): 1}
    assert count_overlap(splits.train, splits.validation, splits.test) == {}


def test_a_single_text_in_two_splits_stands_there_and_several_stand(overlapping):
    one, several = load_splits(*overlapping), load_splits(overlapping[0], overlapping[0], drop_overlap=False)
    assert "1 train text also stands in the validation rows" in one.shared_texts()
    assert several.shared_texts() == ["4 train texts also stand in the validation rows"]
    left = load_splits(*overlapping, drop_overlap=True).shared_texts()
    assert "1 validation text also stands in the test rows, and was left out" in left


def test_a_row_that_must_stay_is_not_dropped_for_its_text_but_named(overlapping):
    train, *others = overlapping
    with pytest.raises(InputError, match="row 2: column 'gold' says that it must stay, but its text also stands in"):
        load_splits(train.add_column("gold", [0, 1, 1, 0]), *others, drop_overlap=True, protect="gold")
    splits = load_splits(train.add_column("gold", [0, 1, 0, 1]), *others, drop_overlap=True, protect="gold")
    assert splits.train.texts == ["two", "four"]


def test_pairs_overlap_only_where_both_texts_do():
    def pairs(first, second):
        return Dataset.from_dict({"a": first, "b": second, "label": ["x", "y"]})

    splits = load_splits(pairs(["p", "q"], ["r", "s"]), pairs(["p", "Q"], ["s", "s"]), text=("a", "b"))
    assert splits.overlap == {("train", "validation"): 1}


def test_dropping_never_empties_a_class_or_a_split():
    train = rows(["x", "x", "y"], texts=["one", "two", "three"])
    with pytest.raises(InputError, match=r"no training row of class 'y' is left without"):
        load_splits(train, rows(["y"], texts=["three"]), drop_overlap=True)
    with pytest.raises(InputError, match="every training row stands in another split too"):
        load_splits(train, train, drop_overlap=True)
    with pytest.raises(InputError, match="every validation row stands in another split too"):
        load_splits(train, rows(["y"], texts=["v"]), rows(["y"], texts=["V"]), drop_overlap=True)


def test_a_class_that_never_had_a_training_row_does_not_keep_a_text_that_stands_in_two_splits():
    every = load_data(rows(["x", "x", "y", "y", "z"]))
    train = every.select(np.arange(4))
    splits = load_splits(train, rows(["x", "y"], texts=["t 0", "v"]), drop_overlap=True)
    assert splits.train.class_counts == {"x": 1, "y": 2, "z": 0}
