"""After load_data every row has a text and a known class; otherwise the first row that has not is named."""

import datetime
import json
import math
import re
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from tsds_jax.data import load_data, load_texts, with_classes
from tsds_jax.errors import InputError


def rows(text=("a", "b", "c", "d"), label=("x", "y", "x", "y"), **more):
    return Dataset.from_dict({"text": list(text), "label": list(label), **more})


def jsonl(path, texts, labels):
    lines = [json.dumps({"text": t, "label": k}) for t, k in zip(texts, labels, strict=True)]
    path.write_text("\n".join(lines))
    return path


def fails(source, pattern, **options):
    with pytest.raises(InputError, match=pattern) as caught:
        load_data(source, **options)
    assert "\n" not in str(caught.value)


def test_texts_labels_and_classes_are_read_in_row_order():
    data = load_data(rows())
    assert data.texts == ["a", "b", "c", "d"]
    assert data.labels.dtype == np.int32
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert (data.classes, data.text_columns, data.label_column) == (("x", "y"), ("text",), "label")


@pytest.mark.parametrize("text", [("text", "other"), ["text", "other"]])
def test_two_text_columns_make_pairs(text):
    data = load_data(rows(other=["p", "q", "r", "s"]), text=text)
    assert data.texts == [("a", "p"), ("b", "q"), ("c", "r"), ("d", "s")]
    assert data.text_columns == ("text", "other")


def test_text_data_passes_through_unchanged():
    data = load_data(rows())
    assert load_data(data) is data
    assert load_data(data, classes=data.classes) is data


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, -1, 10], ("-1", "9", "10")),
        (["10", "9", "-1", "10"], ("-1", "9", "10")),
        ([10.0, 9.0, -1.0, 10.0], ("-1", "9", "10")),
        ([True, False, True, True], ("False", "True")),
        (["b", "10", "9", "b"], ("10", "9", "b")),
        (["1", "01", "2", "1"], ("01", "1", "2")),
        (["é", "z", "日", "a b"], ("a b", "z", "é", "日")),
    ],
)
def test_labels_of_any_type_become_names_in_order(labels, classes):
    data = load_data(rows(label=labels))
    assert data.classes == classes
    names = [str(int(k)) if isinstance(k, float) else str(k) for k in labels]
    assert data.label_names == names


def test_numbers_of_every_width_give_the_same_classes():
    for kind in ["int8", "uint64", "int32", "float16", "float32", "float64", "string", "large_string"]:
        values = [str(k) if "string" in kind else k for k in [2, 1, 2, 1]]
        features = Features({"text": Value("string"), "label": Value(kind)})
        data = load_data(Dataset.from_dict({"text": list("abcd"), "label": values}, features=features))
        assert data.classes == ("1", "2"), kind


def test_decimals_are_classes_where_they_are_whole_and_numbers_wherever(tmp_path):
    file = tmp_path / "t.parquet"
    pd.DataFrame({"text": list("abc"), "label": [Decimal("2.00"), Decimal("1.00"), Decimal("2.00")]}).to_parquet(file)
    assert load_data(file).label_names == ["2", "1", "2"]
    pd.DataFrame({"text": list("abc"), "label": [Decimal("3.50"), Decimal("1.25"), None]}).to_parquet(file)
    fails(file, "row 0: column 'label' holds the fraction 3.50")
    fails(file, "row 2: .*not a finite number", task="regression")
    pd.DataFrame({"text": list("ab"), "label": [Decimal("3.50"), Decimal("1.25")]}).to_parquet(file)
    assert load_data(file, task="regression").labels.tolist() == [3.5, 1.25]


def test_whole_floats_and_integers_may_stand_together(tmp_path):
    assert load_data(jsonl(tmp_path / "t.jsonl", "abc", [1, 2.0, 1.0])).label_names == ["1", "2", "1"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_file_that_another_sign_separates_is_said_to_be_one(tmp_path, separator):
    (tmp_path / "t.csv").write_text(f"text{separator}label\na{separator}x\n")
    fails(tmp_path / "t.csv", f"no column 'text'; .* its columns seem to be separated by {re.escape(repr(separator))}")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize(
    "rows", ["text{0}label\na, b{0}x\n", 'text{0}label\n"a"{0}x\n', '"text"{0}"label"\n"a"{0}"x"\n']
)
def test_so_it_is_where_its_texts_have_commas_and_quotes(tmp_path, separator, rows):
    (tmp_path / "t.csv").write_text(rows.format(separator))
    fails(tmp_path / "t.csv", f"its columns seem to be separated by {re.escape(repr(separator))}: save it with commas")


def test_a_tsv_file_is_not_told_to_be_one(tmp_path):
    (tmp_path / "t.tsv").write_text("text\tlabel\na\tx\ty\n")
    fails(tmp_path / "t.tsv", "3 values in a table of 2 columns; put quotes around values that hold the delimiter")


def test_class_label_names_are_used_and_only_those_present():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neutral", "neg", "pos"])})
    data = load_data(Dataset.from_dict({"text": ["a", "b"], "label": [2, 1]}, features=features))
    assert data.classes == ("neg", "pos")
    assert data.label_names == ["pos", "neg"]


def test_given_classes_set_the_numbers():
    assert load_data(rows(), classes=("z", "y", "x"), role="validation").labels.tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (
            {"text": "sentence"},
            r"the Dataset \(training data\): no column 'sentence'; it has 'text', 'label': name",
        ),
        ({"text": ("text", "b")}, "no column 'b'"),
        ({"label": "y"}, "no column 'y'; it has 'text', 'label'"),
        ({"label": "text"}, "'text' cannot be both text and label"),
        ({"text": ("text", "text")}, "text names 'text', 'text'; give one column, or two different"),
        ({"text": ("a", "b", "c")}, "give one column, or two"),
        ({"text": ()}, "give one column, or two"),
    ],
)
def test_columns_that_are_not_there_are_named(options, pattern):
    fails(rows(), pattern, **options)


def test_many_columns_are_listed_up_to_a_few():
    fails(Dataset.from_dict({f"c{k}": [1] for k in range(30)}), "'c11' and 18 more")


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_no_rows_are_refused_and_the_role_is_named(tmp_path, role):
    (tmp_path / "t.csv").write_text("text,label\n")
    (tmp_path / "t.jsonl").write_text("")
    name = "training" if role == "train" else role
    for source in (tmp_path / "t.csv", tmp_path / "t.jsonl", rows([], [])):
        fails(source, rf"\({name} data\): has no rows", role=role)


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0\u2003"])
def test_a_blank_text_is_named_by_row_and_column(blank):
    fails(
        rows(text=["a", "b", blank, ""]),
        r"\(training data\), row 2: column 'text' is empty or only whitespace; give",
    )


def test_a_blank_second_text_is_named_by_its_column():
    fails(rows(other=["p", "", "r", "s"]), r"row 1: column 'other' is empty", text=("text", "other"))


def test_a_missing_text_is_named_by_row_and_column():
    fails(
        rows(text=["a", None, "", "d"]),
        r"row 1: column 'text' is empty \(null\); give the row a text or remove",
    )
    fails(rows(text=[None] * 4), r"row 0: column 'text' is empty \(null\)")


def test_a_text_that_is_no_string_is_named_by_row_and_value(tmp_path):
    fails(rows(text=[5, 6, 7, 8]), r"row 0: column 'text' holds the number 5, not a text; store it as a string")
    fails(
        jsonl(tmp_path / "t.jsonl", ["a", 7, "c"], "xyx"),
        r"t\.jsonl \(training data\), row 1: .*the number 7",
    )
    fails(jsonl(tmp_path / "u.jsonl", ["a", ["b"], "c"], "xyx"), r"row 1: .*holds the list \['b'\], not a text")
    fails(jsonl(tmp_path / "v.jsonl", ["a", True, {}], "xyx"), "row 1: .*holds the boolean True, not a text")


def test_a_long_value_is_cut(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", ["a", ["b" * 500], "c"], "xyx")
    with pytest.raises(InputError) as caught:
        load_data(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_missing_label_is_named_by_row(missing):
    fails(
        rows(label=["x", "y", missing, ""]),
        r"row 2: column 'label' has no label \(.*\); give the row a label or",
    )


def test_labels_that_are_all_missing_are_named_by_row():
    fails(rows(label=[None] * 4), r"row 0: column 'label' has no label \(null\)")


def test_nan_is_a_missing_label(tmp_path):
    fails(rows(label=[1.0, 2.0, math.nan, 1.0]), r"row 2: column 'label' has no label \(NaN\)")
    fails(jsonl(tmp_path / "t.jsonl", "abc", [1, 2, math.nan]), r"row 2: .*\(NaN\)")


def test_minus_one_of_a_class_label_is_missing_but_as_an_integer_it_is_a_class():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["n", "p"])})
    unlabelled = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features)
    fails(unlabelled, r"row 2: column 'label' has no label \(-1, the mark for unlabelled rows\)")
    assert load_data(rows(label=[-1, 1, 1, -1])).classes == ("-1", "1")


@pytest.mark.parametrize("value", [1.5, math.inf])
def test_a_fraction_is_no_label(value):
    fails(
        rows(label=[1.0, 2.0, 1.0, value]),
        rf"row 3: column 'label' holds the fraction {value}; a label is an integer",
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_infinity_is_no_label_of_any_type(tmp_path, value, kind):
    features = Features({"text": Value("string"), "label": Value(kind)})
    source = Dataset.from_dict({"text": list("abcd"), "label": [1.0, 2.0, 1.0, value]}, features=features)
    fails(source, rf"row 3: column 'label' holds the fraction {value}; a label is")
    fails(jsonl(tmp_path / "t.jsonl", "abcd", [1, 2, 1, value]), rf"row 3: column 'label' holds .*{value}; a label is")


@pytest.mark.parametrize("blank", ["", " ", "\t ", "\u00a0"])
def test_a_blank_string_is_no_label_in_any_format(tmp_path, blank):
    labels = ["x", "y", blank, "x"]
    no_label = r"row 2: column 'label' has no label \((null|an empty string)\)"
    frame = pd.DataFrame({"text": list("abcd"), "label": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.astype({"label": "category"}).to_parquet(tmp_path / "t.parquet")
    jsonl(tmp_path / "t.jsonl", "abcd", labels)
    for form in ("csv", "tsv", "parquet", "jsonl"):
        fails(tmp_path / f"t.{form}", no_label)
    fails(jsonl(tmp_path / "mixed.jsonl", "abcd", [1, 2, blank, 1]), no_label)


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_name_of_a_class_label_is_no_label(blank):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["n", "p", blank])})
    source = Dataset.from_dict({"text": list("abcd"), "label": [0, 1, 2, 0]}, features=features)
    fails(source, r"row 2: column 'label' has no label \(an empty string\)")


@pytest.mark.parametrize(
    ("labels", "pattern"),
    [
        (
            [1, "x", True],
            r"row 1: column 'label' holds the string 'x', but row 0 holds the number 1; write all",
        ),
        (["x", "y", 3], r"row 2: .*holds the number 3, but row 0 holds the string 'x'"),
        ([1, 0, True], r"row 2: .*holds the boolean True, but row 0 holds the number 1"),
        ([None, 1, "x"], r"row 0: .*no label \(null\)"),
        ([1, {"a": 1}, "x"], r"row 1: .*holds the record \{'a': 1\}; a label is an integer or a string"),
        ([[1], [2], [1]], r"row 0: .*holds the list \[1\]"),
    ],
)
def test_labels_of_mixed_or_odd_types_are_named_by_row(tmp_path, labels, pattern):
    fails(jsonl(tmp_path / "t.jsonl", "abc", labels), pattern)


def test_a_date_is_no_label():
    fails(rows(label=[datetime.date(2024, 1, 1)] * 4), r"row 0: column 'label' holds the value datetime\.date")


def test_a_label_that_training_lacks_is_named_with_row_and_known_classes():
    fails(
        rows(label=["x", "y", "maybe", "other"]),
        r"\(validation data\), row 2: label 'maybe' is not a class of the training data, which has 'x', 'y'",
        classes=("x", "y"),
        role="validation",
    )


def test_text_data_of_other_classes_is_renumbered_or_refused():
    data = load_data(rows())
    assert with_classes(data, ("y", "w", "x")).labels.tolist() == [2, 0, 2, 0]
    assert with_classes(data, ("y", "w", "x")).label_names == data.label_names
    fails(data, r"\(test data\), row 1: label 'y' is not a class", classes=("x", "z"), role="test")


def test_a_class_without_rows_may_be_unknown():
    data = load_data(rows(), classes=("x", "y", "z"))
    assert load_data(data, classes=("y", "x")).labels.tolist() == [1, 0, 1, 0]


def test_one_class_is_too_few_for_training_only():
    fails(
        rows(label=["x"] * 4),
        r"\(training data\): all 4 labels in column 'label' are 'x'; .*at least two classes",
    )
    assert load_data(rows(label=["x"] * 4), role="test").classes == ("x",)
    assert load_data(rows(label=["x"] * 4), classes=("x", "y")).class_counts == {"x": 4, "y": 0}


def test_the_first_problem_by_row_is_named_whatever_its_kind():
    both = rows(text=["a", "b", "", "d"], label=["x", None, "y", "q"])
    fails(both, "row 1: column 'label'")
    fails(rows(text=["a", "", "c", "d"], label=["x", "y", None, "q"]), "row 1: column 'text'")
    fails(rows(text=["a", "b", "c", ""], label=["x", "q", "y", None]), "row 1: label 'q'", classes=("x", "y"))


def test_texts_alone_need_no_labels():
    source = Dataset.from_dict({"a": ["p", "q"], "b": ["r", "s"]})
    assert load_texts(source, text="a") == ["p", "q"]
    assert load_texts(source, text=("a", "b")) == [("p", "r"), ("q", "s")]
    assert load_texts(load_data(rows())) == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match="row 1: column 'a' is empty"):
        load_texts(Dataset.from_dict({"a": ["p", " "]}), text="a")


def test_a_one_column_csv_has_texts(tmp_path):
    (tmp_path / "t.csv").write_text("text\na\nb\n")
    assert load_texts(tmp_path / "t.csv") == ["a", "b"]


def test_as_many_classes_as_rows_are_read_in_a_second():
    labels = [f"id {k}" for k in range(50_000)]
    start = time.monotonic()
    data = load_data(load_data(rows(labels, labels)), classes=labels[::-1])
    assert data.labels.tolist() == list(range(50_000))[::-1]
    assert time.monotonic() - start < 3


def test_a_hundred_thousand_rows_are_checked_in_a_second(tmp_path):
    count = 100_000
    source = rows([f"text {k}" for k in range(count)], [k % 3 for k in range(count - 1)] + [None])
    start = time.monotonic()
    fails(source, f"row {count - 1}: column 'label'")
    assert time.monotonic() - start < 2


def test_several_labels_a_row_are_lists_or_names_with_bars_between(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,x|y\nb,\nc, y \n")
    feature = Sequence(ClassLabel(names=["x", "y"]))
    features = Features({"text": Value("string"), "label": feature})
    sources = [
        tmp_path / "t.csv",
        Dataset.from_dict({"text": ["a", "b", "c"], "label": [["x", "y"], [], ["y"]]}),
        Dataset.from_dict({"text": ["a", "b", "c"], "label": [[0, 1], [], [1]]}, features=features),
    ]
    for source in sources:
        data = load_data(source, task="multi_label")
        assert data.classes == ("x", "y")
        assert data.labels.tolist() == [[True, True], [False, False], [False, True]]
        assert (data.label_names, data.class_counts) == (["x|y", "", "y"], {"x": 1, "y": 2})
        assert data.select([2]).task == "multi_label"
        other = load_data(data, classes=("y", "z", "x"), task="multi_label")
        assert other.label_names == ["y|x", "", "y"]
    numbers = Dataset.from_dict({"text": ["a"], "label": [[10, 9]]})
    assert load_data(numbers, task="multi_label").classes == ("9", "10")


def test_a_row_of_labels_that_cannot_be_used_is_named():
    def several(*labels, **given) -> Dataset:
        return load_data(rows(text=["a"] * len(labels), label=list(labels)), task="multi_label", **given)

    wrong = ((None, "holds null"), ([None], "no label"), ([1.5], "the fraction 1.5"), ([""], "an empty string"))
    for label, words in wrong:
        with pytest.raises(InputError, match=f"row 1: .*{words}"):
            several([] if label == [""] else [2.0], label)
    with pytest.raises(InputError, match=r"row 1: column 'label' names class '0' twice; .* not a 0 or 1"):
        several([0], [0, 1, 0])
    with pytest.raises(InputError, match=r"every row has both 0 and 1 in column 'label'; give the .* not a 0 or 1"):
        several([1, 0], [0, 1], [1, 0])
    with pytest.raises(InputError, match="row 1: label 'z' is not a class of the training data"):
        several(["x"], ["x", "z"], classes=("x", "y"))
    with pytest.raises(InputError, match=r"\(training data\): no row has a class in column 'label'"):
        several([], [])
    data = several(["x"], ["y"])
    with pytest.raises(InputError, match="row 1: label 'y' is not a class"):
        load_data(data, classes=("x", "z"), task="multi_label")
    with pytest.raises(InputError, match="labels must be one class a row here, and are any number of classes a row"):
        load_data(data)
