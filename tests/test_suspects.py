"""Doubted labels by themselves: of arrays, of a file, and from the command line."""

import csv

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import tsds_jax as tsds
from tsds_jax.cli import main
from tsds_jax.data import text_codes
from tsds_jax.games.held_out import stratified_folds

PCA = 8


@pytest.fixture(scope="module")
def doubted(tiny_files, tiny_model):
    return tsds.suspects(tiny_files["train"], model=tiny_model, pca=PCA, seed=3)


def test_labels_of_arrays_are_those_that_scikit_learn_would_give_by_the_same_folds():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    names = np.array(["left", "right"])
    y = names[(x[:, 0] > 0).astype(int)]
    flipped = draw.permutation(200)[:20]
    y[flipped] = np.where(y[flipped] == "left", "right", "left")
    found = tsds.suspected_labels(x, y, C=2.0, seed=5)
    fold = stratified_folds((y == "right").astype(int), 5, 5)
    probability = np.empty((200, 2))
    for one in range(5):
        fitted = LogisticRegression(C=2.0, tol=1e-8).fit(x[fold != one], y[fold != one])
        probability[fold == one] = fitted.predict_proba(x[fold == one])
    likeliest, own = names[probability.argmax(1)], probability[np.arange(200), (y == "right").astype(int)]
    expected = np.flatnonzero(likeliest != y)
    assert set(found.points.tolist()) == set(expected.tolist())
    np.testing.assert_array_equal(found.suggested, likeliest[found.points])
    np.testing.assert_allclose(found.own, own[found.points], atol=1e-4)
    assert (np.diff(found.own) >= 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": [0, 0, 0, 0]}, "y has one class only, 0: give points of two or more"),
        ({"y": [0, 1]}, r"y has shape \[2\] for 4 rows"),
        ({"C": 0}, "C is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"units": [0, 1]}, r"units has shape \[2\] for 4 rows"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(change, words):
    given = {"x": [[0.0], [1.0], [2.0], [3.0]], "y": [0, 1, 0, 1], **change}
    with pytest.raises(tsds.InputError, match=words):
        tsds.suspected_labels(**given)


def test_wrong_labels_of_a_file_are_found_with_what_would_fit(flipped_file, tiny_model):
    file, flipped = flipped_file
    found = tsds.suspects(file, model=tiny_model, pca=16)
    score = np.zeros(400)
    score[found.suspects.points] = 1 - found.suspects.own
    assert roc_auc_score(flipped, score) > 0.8
    assert all(label != other for label, other in zip(found.rows.label_names, found.suggested, strict=True))
    assert repr(found) == f"DoubtedLabels({len(found.rows)} of 400 rows)"


@pytest.mark.slow
def test_a_selection_doubts_the_same_labels(doubted, tiny_files, tiny_model):
    given = {"validation": tiny_files["validation"], "pca": PCA, "seed": 3, "samples": 4, "subset_size": 20}
    selected = tsds.select(tiny_files["train"], model=tiny_model, check_seeds=0, **given)
    for mine, its in zip(doubted.suspects, selected.suspects, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.slow
def test_a_model_that_passed_over_the_rows_doubts_what_its_vectors_say(tiny_files, tiny_model):
    tuning = tsds.FineTuneOptions(max_length=16, learning_rate=1e-3)
    how = {"model": tiny_model, "pca": PCA, "seed": 3, "finetuning": tuning}
    found = tsds.suspects(tiny_files["train"], represent_by="fine_tuned", **how)
    rows = tsds.load_data(tiny_files["train"])
    passed = tsds.finetune(tiny_model, rows, options=tuning, epochs=1.0, seed=3).model.encoder
    x = passed.embed(rows.texts)
    expected = tsds.suspected_labels(tsds.fit_pca(x, PCA).transform(x), rows.labels, seed=3, units=text_codes(rows))
    np.testing.assert_array_equal(found.suspects.points, expected.points)
    np.testing.assert_allclose(found.suspects.belief, expected.belief, atol=1e-4)
    as_it_is = tsds.suspects(tiny_files["train"], **how)
    assert not np.allclose(found.suspects.belief, as_it_is.suspects.belief, atol=1e-2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"represent_by": "cross_fitted"},
            "takes validation rows: use 'fine_tuned' here, or tsds select",
        ),
        ({"finetuning": tsds.FineTuneOptions(patience=2)}, "patience"),
        ({"represent_by": "fine_tuned", "finetuning": tsds.FineTuneOptions(tune="head")}, "trains nothing of what"),
    ],
)
def test_a_pass_that_cannot_be_made_is_refused_before_texts_are_embedded(tiny_files, tiny_model, given, words):
    with pytest.raises(tsds.InputError, match=words):
        tsds.suspects(tiny_files["train"], model=tiny_model, pca=PCA, **given)


def test_what_every_label_is_believed_is_known_where_others_have_its_class():
    x, y = np.linspace(-2, 2, 21)[:, None], np.repeat([0, 1, 2], [10, 10, 1])
    found = tsds.suspected_labels(x, y)
    assert np.flatnonzero(np.isnan(found.belief)).tolist() == [20]
    np.testing.assert_array_equal(found.belief[found.points], found.own)
    late = found.since(7)
    assert late.points.tolist() == [point - 7 for point in found.points if point >= 7]
    np.testing.assert_array_equal(late.belief[late.points], late.own)


def test_no_file_is_written_over(doubted, tiny_files, tmp_path):
    with pytest.raises(tsds.InputError, match=r"train\.csv exists: remove it or give another name"):
        doubted.save(tiny_files["train"])
    with pytest.raises(tsds.InputError, match=r"does not end in \.csv"):
        doubted.save(tmp_path / "doubted")


def test_rows_of_one_class_are_refused_before_texts_are_embedded(tiny_files):
    rows = tsds.load_data(tiny_files["train"])
    with pytest.raises(tsds.InputError, match="its rows have one class only"):
        tsds.suspects(rows.select(np.flatnonzero(rows.labels == 0)), model="none")


def test_an_option_that_decides_nothing_here_is_refused(tiny_files):
    with pytest.raises(tsds.InputError, match="suspects has no option 'samples': use pooling, layer"):
        tsds.suspects(tiny_files["train"], model="none", samples=3)


def test_a_flag_of_the_pass_is_refused_without_it(tiny_files, tiny_model, tmp_path, capsys):
    command = ["suspects", "--data", tiny_files["train"], "--model", str(tiny_model), "--out", str(tmp_path / "s.csv")]
    with pytest.raises(SystemExit):
        main([*command, "--learning-rate", "1e-3"])
    assert "--learning-rate is for --represent-by fine_tuned: give that too" in capsys.readouterr().err


def test_more_components_than_rows_are_refused_before_texts_are_embedded(tiny_files, tiny_model):
    with pytest.raises(tsds.InputError, match="pca 500 is more than 120 training rows"):
        tsds.suspects(tiny_files["train"], model=tiny_model, pca=500)


def test_the_command_writes_what_python_finds_and_shows_the_first(doubted, tiny_files, tiny_model, tmp_path, capsys):
    out = tmp_path / "suspects.csv"
    command = ["suspects", "--data", tiny_files["train"], "--model", str(tiny_model), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--pca", str(PCA), "--seed", "3"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "text", "label", "suggested", "probability", "probability_of_label"]
    assert [int(row["row"]) for row in rows] == doubted.suspects.points.tolist()
    assert [row["suggested"] for row in rows] == doubted.suggested
    told = f"{len(rows)} labels of 120 would fit another class better, most doubtful first -> {out}"
    assert told in shown
    assert rows[0]["text"][:20] in shown
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "exists: remove it or give another name" in capsys.readouterr().err
