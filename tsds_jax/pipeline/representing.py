"""Representations of the training and validation rows, as the source classifier sees them."""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tsds_jax.data import TextData
from tsds_jax.data.messages import texts_cut
from tsds_jax.encoders import Encoder, embed, fit_pca
from tsds_jax.encoders.alignment import rotation_between
from tsds_jax.encoders.tokens import token_limit, token_portions
from tsds_jax.finetuning import finetune
from tsds_jax.games.held_out import stratified_folds
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline.checks import judged_apart, layers_of
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import NOT_KEPT, Part
from tsds_jax.runtime.progress import Progress, ProgressFn

# Models of cross-fitted representations: each learns from the rows that the others represent.
FOLDS = 2


def cut_to_represent(count: int, options: SelectOptions) -> str:
    """The warning that so many texts were cut."""
    limit = options.max_length
    at = "the length limit of the encoder" if limit is None else f"{limit} tokens (max_length) to be represented"
    return texts_cut(count, at)


def represent(
    train: TextData,
    validation: TextData,
    encoder: Encoder,
    settings: SelectOptions,
    finetuning: FineTuneOptions,
    cache: str | os.PathLike | None,
    progress: ProgressFn,
    test: TextData | None = None,
    part: Part = NOT_KEPT,
) -> Arrays:
    """The rows' vectors by the model as it is, or as ``settings.represent_by`` has it fine-tuned.

    ``"fine_tuned"``: by the model after one pass over the training rows. ``"cross_fitted"``: half of the training rows
    by a model that passed over the other half, twice as often, and the other way round, so that no row is judged by a
    model that has seen its label. The second model's vectors are rotated to where the first one's lie, by the
    validation rows; other than training rows have the mean of both models' vectors. Labels other than those of training
    rows have no part in it, nor have test rows in what becomes of the others.

    Args:
      train: training rows.
      validation: validation rows.
      encoder: the model.
      settings: pooling, layer, length, ``represent_by``, principal components, ``seed``.
      finetuning: how to fine-tune; its epochs, steps and patience have no use here.
      cache: see `select`; fine-tuned models' vectors are not kept there.
      progress: called with stages "represent" (fine-tuning) and "embed".
      test: test rows, to be represented as validation rows are.
      part: what an earlier call has reached.

    Returns:
      float32 ``[rows, width]`` as "train", "validation" and, if there are such rows, "test"; and by themselves the
      share of variance "explained" by the components, texts "truncated" and "seconds".
    """
    began = time.perf_counter()
    truncated = 0
    # Of a run a folder of its own, as long as this stage is under way.
    under_way = part.folder and part.folder / "texts"

    def vectors(by: Encoder, texts: Sequence[Any]) -> np.ndarray:
        nonlocal truncated
        how: dict[str, Any] = {"pooling": settings.pooling, "layer": settings.layer, "max_length": settings.max_length}
        kept = (cache or under_way) if by is encoder else under_way
        found = embed(by, list(texts), **how, cache=kept, checkpoint_every=part.every, progress=progress)
        truncated += found.truncated
        # That folder is removed when this stage is finished: what would outlive it must not be mapped from there.
        outlives = kept is under_way and isinstance(found.values, np.memmap) and not settings.pca
        return np.array(found.values) if outlives else found.values

    others: list[Any] = [*validation.texts, *(() if test is None else test.texts)]
    if settings.represent_by == "cross_fitted":
        x, x_others = _cross_fitted(
            train, others, len(validation), encoder, settings, finetuning, part, vectors, progress
        )
        # All models read the other texts, and cut the same ones.
        limit = token_limit(encoder.config, settings.max_length)
        portions = token_portions(encoder.tokenizer, others, limit, encoder.config)
        truncated -= (FOLDS - 1) * sum(portion.truncated for portion in portions)
    else:
        tuned = settings.represent_by == "fine_tuned"
        by = _tuned(encoder, train, settings, finetuning, 1.0, part.of_model(), progress) if tuned else encoder
        # One call, so that the stage has one count and each batch shape compiles once.
        found = vectors(by, [*train.texts, *others])
        x, x_others = found[: len(train)], found[len(train) :]
    explained = 1.0
    if settings.pca:
        pca = fit_pca(x, settings.pca)
        x, x_others, explained = pca.transform(x), pca.transform(x_others), float(pca.explained.sum())
    return {
        "train": x,
        "validation": x_others[: len(validation)],
        **({} if test is None else {"test": x_others[len(validation) :]}),
        "explained": np.asarray(explained),
        "truncated": np.asarray(truncated),
        "seconds": np.asarray(time.perf_counter() - began),
    }


def _cross_fitted(
    train: TextData,
    others: list[Any],
    aligned_by: int,
    encoder: Encoder,
    settings: SelectOptions,
    finetuning: FineTuneOptions,
    part: Part,
    vectors: Any,
    progress: ProgressFn,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the training rows, and of the other texts, by the first ``aligned_by`` of which models are aligned."""
    fold = stratified_folds(train.labels, FOLDS, settings.seed, judged_apart(train, settings))
    x = np.empty((len(train), encoder.config.hidden_size * len(layers_of(settings))), np.float32)
    held: list[np.ndarray] = []
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        epochs = len(train) / len(outside)  # as many steps as one pass over all rows
        kept = part.of_model(f"model-{number}")
        by = _tuned(encoder, train.select(outside), settings, finetuning, epochs, kept, progress)
        found = vectors(by, [*(train.texts[row] for row in inside.tolist()), *others])
        own, rest = found[: len(inside)], found[len(inside) :]
        if held:
            rotation = rotation_between(rest[:aligned_by], held[0][:aligned_by])
            own, rest = rotation.apply(own), rotation.apply(rest)
        x[inside] = own
        held.append(rest)
    return x, np.asarray(np.mean(held, 0), np.float32)


def _tuned(
    encoder: Encoder,
    rows: TextData,
    settings: SelectOptions,
    finetuning: FineTuneOptions,
    epochs: float,
    kept: dict[str, Any],
    progress: ProgressFn,
) -> Encoder:
    """The encoder after so many passes over the rows; see `Part.of_model` for what is kept of them."""

    def relay(event: Progress) -> None:
        progress(event._replace(stage="represent"))

    how = dataclasses.replace(finetuning, patience=None, best_by=None)  # no validation rows choose a step
    options = dataclasses.replace(how, epochs=epochs, steps=None, seed=settings.seed)
    return finetune(encoder, rows, options=options, progress=relay, **kept).model.encoder
