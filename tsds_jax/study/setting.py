"""One data set with some of its labels flipped, as all methods get it."""

import dataclasses

import numpy as np

from tsds_jax.data import Splits, TextData
from tsds_jax.options import SelectOptions
from tsds_jax.selection import Limits
from tsds_jax.selection.curve import SourceGame
from tsds_jax.selection.limits import RemovalOrder
from tsds_jax.study.summary import share_name
from tsds_jax.valuation import source_game


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """One data set with some of its training labels flipped.

    Attributes:
      name: of the data set.
      flips: the share of flipped labels.
      seed: of the flips, and of all that follows.
      train: training rows, labels flipped.
      wrong: bool ``[rows]``, those that are; of labels as they came, those that the crowd was not sure of.
      known: bool ``[rows]``, of which that is known.
      splits: the data set as it came.
      x: representations of the training rows; and of the others.
      x_val: see ``x``.
      x_test: see ``x``.
    """

    name: str
    flips: float
    seed: int
    train: TextData
    wrong: np.ndarray
    known: np.ndarray
    splits: Splits
    x: np.ndarray
    x_val: np.ndarray
    x_test: np.ndarray

    def removal_order(self, values: np.ndarray) -> RemovalOrder:
        """All rows, the lowest first."""
        return Limits.none(self.train.labels).removal_order(values, self.seed)

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.name}-{share_name(self.flips)}-{self.seed}"

    def tested(self, options: SelectOptions) -> SourceGame:
        """The source classifier's game with the test rows in place of validation rows."""
        assert self.splits.test is not None
        labels = self.splits.test.labels
        return source_game(self.x, self.train.labels, self.x_test, labels, source=options.source, C=options.C)
