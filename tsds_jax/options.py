"""Every option of a run, with its default and its meaning: the Python API, the command line and TOML files share them.

This module imports nothing heavy, so that ``tsds --help`` can read it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tsds_jax.errors import InputError


def _option(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class SelectOptions:
    """From text to a selection: representation, valuation, transfer. The defaults are the paper's mode.

    Attributes:
      pooling: how token vectors become one, ``"mean"`` or ``"cls"``.
      layer: whose hidden state; 0 the embeddings, -1 the last layer.
      max_length: tokens that a longer text is cut to; None takes the encoder's limit.
      pca: principal components kept, fitted on training rows; 0 keeps the representation as it is.
      source: source classifier.
      utility: what it is scored by on the validation rows.
      estimator: how values are estimated.
      subset_size: points in a chain; None takes four times the features, from 64 to 512.
      samples: marginal contributions sampled per point.
      C: inverse L2 strength of the source classifier.
      truncation: how close to the whole chain's utility ends a chain's walk; 0 never.
      rule: removal index by ``"argmax"`` (the paper) or ``"one_se"``.
      grid: share of the points between two cuts of the removal curve.
      largest_cut: largest share of the points that may be removed.
      validation_fraction: share of the training rows set apart where no validation data is given.
      drop_overlap: leave out training rows whose text stands in validation or test, and validation rows whose text
        stands in test.
      seed: decides every draw.
    """

    pooling: str = _option("mean", "How token vectors become one: mean or cls.")
    layer: int = _option(-1, "Layer whose hidden state represents a text; 0 the embeddings, -1 the last.")
    max_length: int | None = _option(None, "Tokens a longer text is cut to.")
    pca: int = _option(32, "Principal components kept, fitted on training rows; 0 keeps all features.")
    source: str = _option("logistic", "Source classifier: logistic.")
    utility: str = _option("accuracy", "accuracy, balanced_accuracy, probability or log_likelihood.")
    estimator: str = _option("permutation", "permutation (the paper's chains) or exact.")
    subset_size: int | None = _option(None, "Points in a sampling chain.")
    samples: int = _option(100, "Marginal contributions sampled per point.")
    C: float = _option(1.0, "Inverse L2 strength of the source classifier.")
    truncation: float = _option(1e-3, "A chain ends this close to its full utility; 0 never.")
    rule: str = _option("one_se", "Removal index by one_se or argmax (the paper's).")
    grid: float = _option(0.02, "Share of the points between two cuts of the removal curve.")
    largest_cut: float = _option(0.5, "Largest share of the points that may be removed.")
    validation_fraction: float = _option(0.2, "Share of training rows set apart where no validation is given.")
    drop_overlap: bool = _option(False, "Leave out rows whose text also stands in a later split.")
    seed: int = _option(0, "Decides every draw.")


Options = TypeVar("Options")


def build(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """Options of ``kind`` with what is given in place of the defaults.

    Raises:
      InputError: an option that does not exist, with those that do.
    """
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise InputError(f"there is no option {name!r}: use {', '.join(names)}")
    return kind(**given)
