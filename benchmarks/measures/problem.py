"""The valuation problem: positive against negative tweets, as MiniLM represents them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measures.code import stamp

POINTS, MANY, ROWS, DIMENSIONS = 1000, 10_000, 500, 32
# Of the package, what the tweets' arrays are made by.
MADE_BY = ("data", "encoders")


class Arrays(NamedTuple):
    """One valuation problem: ``x [points, features]``, ``y [points]`` and the same of validation rows."""

    x: np.ndarray
    y: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray

    def first(self, points: int) -> "Arrays":
        """The same with the first training points alone."""
        return self._replace(x=self.x[:points], y=self.y[:points])

    def double(self) -> "Arrays":
        """The same in float64, with which scikit-learn's logistic regression is faster."""
        return self._replace(x=self.x.astype(np.float64), x_val=self.x_val.astype(np.float64))


def tweets(folder: Path, points: int) -> Arrays:
    """So many tweets and `ROWS` validation rows in `DIMENSIONS` components, kept for this code's next run."""
    code = "-".join(stamp(*MADE_BY)["code"].values())
    file = folder / f"tweets-{points}-{ROWS}-{DIMENSIONS}-{code}.npz"
    if not file.exists():
        # Arrays that are there need no tokenizer.
        from tsds_jax.data.tweets import load_tweets
        from tsds_jax.demo import minilm_folder

        say(f"representing {points:,} tweets, this once" + (": some minutes" if points > 2000 else ""))
        splits = load_tweets(train=points, validation=ROWS, test=1, seed=0)
        made = represented(splits, str(minilm_folder()))
        file.parent.mkdir(parents=True, exist_ok=True)
        whole_or_absent(file, lambda place: np.savez(place, **made._asdict()))
    with np.load(file) as found:
        return Arrays(*(found[name] for name in Arrays._fields))


def whole_or_absent(file: Path, write: Callable[[Path], None]) -> None:
    """What is written is there at once: another script may look for it meanwhile."""
    place = file.with_name(f"{os.getpid()}-{file.name}")
    write(place)
    place.replace(file)


def represented(splits: Any, model: str) -> Arrays:
    """Training and validation rows of text as the model represents them, in `DIMENSIONS` components."""
    from tsds_jax.encoders import fit_pca, load_encoder

    encoder = load_encoder(model)
    train, validation = (encoder.embed(part.texts) for part in (splits.train, splits.validation))
    projection = fit_pca(train, DIMENSIONS)
    # Rows are in an order of their own; the first points of a shuffle are a sample of them.
    shuffle = np.random.default_rng(0).permutation(len(train))
    return Arrays(
        projection.transform(train)[shuffle],
        splits.train.labels[shuffle],
        projection.transform(validation),
        splits.validation.labels,
    )


def synthetic(points: int, features: int, rows: int, seed: int = 0) -> Arrays:
    """Normal features and two classes by a linear rule with noise, where only size matters."""
    rng = np.random.default_rng(seed)
    rule = rng.standard_normal(features, np.float32)

    def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((number, features), np.float32)
        noise = np.sqrt(features, dtype=np.float32) * rng.standard_normal(number, np.float32)
        return x, (x @ rule + noise > 0).astype(np.int32)

    return Arrays(*drawn(points), *drawn(rows))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def in_turn(repeats: int, sides: dict[str, Callable[[int], Any]]) -> dict[str, list[Any]]:
    """Each side's answer for each repeat; sides take turns, so that a busy minute hits all of them."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            found[name].append(side(repeat))
    return found


def say(what: str) -> None:
    """Progress, apart from the tables."""
    print(what, file=sys.stderr, flush=True)
