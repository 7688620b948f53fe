"""Suspected wrong labels: training points whose label a classifier that has not seen them does not believe."""

from typing import NamedTuple

import numpy as np

from tsds_jax.games.held_out import held_out_probabilities
from tsds_jax.games.logistic import LogisticGame

_FOLDS = 5


class Suspects(NamedTuple):
    """Points whose most likely class is another than their label, the least likely label first.

    Attributes:
      points: int64 ``[suspects]``.
      suggested: int32 ``[suspects]``, the most likely class.
      probability: float32 ``[suspects]``, its probability.
      own: float32 ``[suspects]``, the probability of the point's own label.
    """

    points: np.ndarray
    suggested: np.ndarray
    probability: np.ndarray
    own: np.ndarray


def suspected_labels(game: LogisticGame, *, seed: int = 0, units: np.ndarray | None = None) -> Suspects:
    """The points that five-fold cross-validation of the source classifier would label otherwise.

    Of labels flipped on purpose it finds more than values do: a value says what a point does to the validation score,
    and a wrong label far from all validation rows does little. Points of a class that stands in no other fold are not
    asked about: the others cannot know that class.

    Args:
      game: its training points; utility and validation rows have no part.
      seed: decides the folds.
      units: int ``[points]``, points of one unit (copies, a document's rows) that must not judge each other.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import logistic_game
      >>> x = np.linspace(-2, 2, 20)[:, None]
      >>> y = (x[:, 0] > 0).astype(int)
      >>> y[18] = 0  # a wrong label
      >>> int(suspected_labels(logistic_game(x, y, x, y, classes=2)).points[0])
      18
    """
    labels = np.asarray(game.y)
    held_out = held_out_probabilities(game, folds=_FOLDS, seed=seed, units=units)
    probability, fold = held_out.probability, held_out.fold
    suggested = probability.argmax(1).astype(np.int32)
    own = probability[np.arange(len(labels)), labels]
    inside = np.zeros((_FOLDS, labels.max() + 1), np.int64)
    np.add.at(inside, (fold, labels), 1)
    points = np.flatnonzero((suggested != labels) & (inside.sum(0)[labels] > inside[fold, labels]))
    points = points[np.argsort(own[points], kind="stable")]
    return Suspects(points, suggested[points], probability[points, suggested[points]], own[points])
