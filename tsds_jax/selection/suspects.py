"""Suspected wrong labels: training points whose label a classifier that has not seen them does not believe."""

from typing import NamedTuple

import numpy as np

from tsds_jax.arrays import feature_matrix, label_array, number_in
from tsds_jax.errors import InputError
from tsds_jax.games.held_out import held_out_probabilities
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.valuation import source_game

_FOLDS = 5


class Suspects(NamedTuple):
    """Points whose most likely class is another than their label, the least likely label first.

    Attributes:
      points: int64 ``[suspects]``.
      suggested: ``[suspects]``, the most likely class, of the labels' own kind.
      probability: float32 ``[suspects]``, its probability.
      own: float32 ``[suspects]``, the probability of the point's own label.
      belief: float32 ``[points]``, that of every point's, suspect or not; NaN where the others cannot know its class.
    """

    points: np.ndarray
    suggested: np.ndarray
    probability: np.ndarray
    own: np.ndarray
    belief: np.ndarray

    def since(self, first: int) -> "Suspects":
        """Of the points from this one on alone, numbered from there."""
        late = self.points >= first
        suggested, probability, own = (part[late] for part in (self.suggested, self.probability, self.own))
        return Suspects(self.points[late] - first, suggested, probability, own, self.belief[first:])


def suspected_labels(
    x: object, y: object, *, C: float = 1.0, seed: int = 0, units: np.ndarray | None = None
) -> Suspects:
    """The points that five-fold cross-validation of a logistic regression would label otherwise.

    Of labels flipped on purpose it finds more than values do: a value says what a point does to the validation score,
    and a wrong label far from all validation rows does little. Points of a class that stands in no other fold are not
    asked about: the others cannot know that class.

    Args:
      x: ``[points, features]``, finite numbers.
      y: ``[points]`` labels, whole numbers or strings.
      C: inverse L2 strength of the regression.
      seed: decides the folds.
      units: int ``[points]``, points of one unit (copies, a document's rows) that must not judge each other.

    Raises:
      InputError: an array or option that cannot be used, such as labels of one class.

    Example:
      >>> x = np.linspace(-2, 2, 20)[:, None]
      >>> y = np.where(x[:, 0] > 0, "right", "left")
      >>> y[18] = "left"  # a wrong label
      >>> found = suspected_labels(x, y)
      >>> int(found.points[0]), str(found.suggested[0])
      (18, 'right')
    """
    x = feature_matrix(x, "x")
    labels = label_array(y, "y", len(x))
    number_in("seed", seed, 0, 2**32 - 1)
    units = None if units is None else label_array(units, "units", len(x))
    if len(np.unique(labels)) < 2:
        raise InputError(f"y has one class only, {labels[0].item()!r}: give points of two or more")
    # Rows that would judge have no part in it.
    game = source_game(x, labels, x[:1], labels[:1], C=C)
    assert isinstance(game, LogisticGame)
    coded = np.asarray(game.y)
    held_out = held_out_probabilities(game, folds=_FOLDS, seed=seed, units=units)
    probability, fold = held_out.probability, held_out.fold
    likeliest = probability.argmax(1)
    own = probability[np.arange(len(coded)), coded]
    inside = np.zeros((_FOLDS, coded.max() + 1), np.int64)
    np.add.at(inside, (fold, coded), 1)
    known = inside.sum(0)[coded] > inside[fold, coded]
    points = np.flatnonzero((likeliest != coded) & known)
    points = points[np.argsort(own[points], kind="stable")]
    suggested = likeliest[points]
    belief = np.where(known, own, np.float32(np.nan))
    return Suspects(points, np.unique(labels)[suggested], probability[points, suggested], own[points], belief)
