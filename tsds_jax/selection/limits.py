"""Who may be removed, together with whom, and in which order: from values to the order of removal."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tsds_jax.arrays import without_ties
from tsds_jax.data.marks import class_counts
from tsds_jax.errors import InputError


class RemovalOrder(NamedTuple):
    """The order in which points are removed.

    Attributes:
      points: int64 ``[points]``, first to go first; behind those that may go, the others in the order of the data.
      ends: int64 ``[units + 1]``, how many points are gone after each unit that may go, from 0.
    """

    points: np.ndarray
    ends: np.ndarray

    def at_most(self, wanted: int) -> np.ndarray:
        """The first points, int64 ``[<= wanted]``, passing over units that would make them more.

        >>> RemovalOrder(np.array([4, 5, 6, 2, 3, 1]), np.array([0, 3, 4, 5, 6])).at_most(2)
        array([2, 3])
        """
        taken, left = np.zeros(len(self.points), bool), wanted
        for first, end in pairwise(self.ends.tolist()):
            if end - first <= left:
                taken[first:end] = True
                left -= end - first
            if not left:
                break
        return self.points[taken]

    def near(self, wanted: int) -> np.ndarray:
        """About so many of the first points, int64: as `cuts` has them, unless that is less than half as many.

        Then a unit that is more by itself is passed over: where one stands first `cuts` would remove nothing, which
        says nothing of so many. Any other is taken, and the points are less than half as many again.

        >>> order = RemovalOrder(np.array([4, 5, 6, 2, 3, 1]), np.array([0, 3, 4, 5, 6]))
        >>> order.near(2), order.near(4), order.near(5)
        (array([2, 3]), array([4, 5, 6, 2]), array([4, 5, 6, 2, 3]))
        """
        taken, number = np.zeros(len(self.points), bool), 0
        for first, end in pairwise(self.ends.tolist()):
            size = end - first
            if number + size > wanted and 2 * number >= wanted:
                break
            if size <= wanted:
                taken[first:end] = True
                number += size
        return self.points[taken]

    def cuts(self, wanted: np.ndarray) -> np.ndarray:
        """The most points that can be removed without tearing a unit or exceeding each wanted number, int64."""
        return self.ends[np.searchsorted(self.ends, wanted, side="right") - 1]


@dataclass(frozen=True, eq=False)
class Limits:
    """What a removal must respect.

    Attributes:
      labels: int ``[points]``, the class of each point.
      units: int ``[points]``, from 0: points of one unit are kept or removed together.
      protected: bool ``[points]``, points that are never removed.
      class_floor: the least share of each class's points that stays; one point stays in any case.
      by_class: whether points go in the order of their place among their own class, so that every cut takes about the
        same share of each class, instead of in the order of their values.
    """

    labels: np.ndarray
    units: np.ndarray
    protected: np.ndarray
    class_floor: float = 0.0
    by_class: bool = False

    @staticmethod
    def none(labels: np.ndarray) -> "Limits":
        """Every point by itself, and none protected."""
        return Limits(labels, np.arange(len(labels)), np.zeros(len(labels), bool))

    def removal_order(self, values: np.ndarray, seed: int = 0, most: int | None = None) -> RemovalOrder:
        """The lowest unit first; a unit's value is the mean of its points'.

        A unit that would leave a class below its floor is passed over, and so are units with a protected point.

        Args:
          values: ``[points]``.
          seed: decides the order of units of the same value, see `without_ties`.
          most: no cut of more points will be asked for: the order behind is left as it is. None orders all.

        Raises:
          InputError: ``by_class`` with a unit that holds more than one class.

        Example:
          >>> limits = Limits(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), np.array([True, False, False, False]))
          >>> limits.removal_order(np.array([-3.0, -1.0, -2.0, -4.0]))
          RemovalOrder(points=array([1, 0, 2, 3]), ends=array([0, 1]))
        """
        size, value = np.bincount(self.units), without_ties(self._mean_by_unit(values), seed)
        left = len(values) if most is None else most
        rows = np.bincount(self.labels)
        spare = (rows - np.maximum(np.ceil(self.class_floor * rows - 1e-9), 1)).tolist()
        fixed = np.bincount(self.units, self.protected) > 0
        label, count, start = class_counts(self.labels, self.units)
        gone: list[int] = []
        place = self._place_in_class(value, np.where(fixed, 0, size)) if self.by_class else value
        order = np.lexsort((value, place))
        for unit in order[~fixed[order]].tolist():
            own = range(start[unit], start[unit + 1])
            if all(count[of] <= spare[label[of]] for of in own):
                for of in own:
                    spare[label[of]] -= count[of]
                    left -= count[of]
                gone.append(unit)
                if left <= 0:
                    break
        # Unit by unit, and the points of each in their order.
        turn = np.full(len(size), len(size))
        turn[gone] = np.arange(len(gone))
        removed = np.argsort(turn[self.units], kind="stable")[: size[gone].sum()]
        stay = np.ones(len(values), bool)
        stay[removed] = False
        return RemovalOrder(np.concatenate([removed, np.flatnonzero(stay)]), np.cumsum([0, *size[gone]]))

    def random_order(self, generator: np.random.Generator) -> RemovalOrder:
        """An order that respects the same limits, and is otherwise drawn at random."""
        return self.removal_order(generator.random(self.units.max() + 1)[self.units])

    def unit_values(self, values: np.ndarray) -> np.ndarray:
        """The value that each point goes by, the mean of its unit's, ``[points]``."""
        return self._mean_by_unit(values)[self.units]

    def _mean_by_unit(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.units, values) / np.bincount(self.units)

    def _place_in_class(self, value: np.ndarray, free: np.ndarray) -> np.ndarray:
        """How far each unit stands among its class, in shares of its rows of which ``free`` may go, ``[units]``."""
        _, first = np.unique(self.units, return_index=True)
        label = self.labels[first]
        several = self.labels != label[self.units]
        if several.any():
            row = first[self.units[several].min()]
            raise InputError(f"by_class is for groups of one class, and row {row}'s has several: leave it out")
        place = np.empty(len(value))
        for one in np.unique(label):
            of = np.flatnonzero(label == one)
            of = of[np.argsort(value[of])]
            place[of] = (np.cumsum(free[of]) - free[of] / 2) / np.sum(self.labels == one)
        return place
