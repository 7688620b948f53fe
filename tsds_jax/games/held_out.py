"""What the source classifier says of training points that it was not fitted to: cross-validation, and bagging."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.binary import class_mass, fit_binary
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.games.products import dot
from tsds_jax.games.softmax import fit_softmax, softmax

# Numbers of the largest array of a chunk of fits: lanes by points by classes, 64 MiB.
_CHUNK_NUMBERS = 2**24


def stratified_folds(labels: np.ndarray, folds: int, seed: int, units: np.ndarray | None = None) -> np.ndarray:
    """A fold for each row, from 0, drawn at random; each class is spread over the folds evenly, to one row.

    Rows of one of the ``units``, int ``[rows]``, are in one fold; they count for the class of the first of them.

    Example:
      >>> np.bincount(stratified_folds(np.array([0, 0, 0, 0, 1, 1]), 2, seed=0)).tolist()
      [3, 3]
    """
    if units is not None:
        _, first, unit = np.unique(units, return_index=True, return_inverse=True)
        return stratified_folds(labels[first], folds, seed)[unit]
    generator = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    given = 0
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        # Each class goes on where the last one ended, so that folds are of one size too.
        fold[rows] = (given + np.arange(len(rows))) % folds
        given += len(rows)
    return fold


class HeldOut(NamedTuple):
    """What regressions say of the points that they were not fitted to.

    Attributes:
      probability: float32 ``[points, classes]``. A class that the fit has not seen has probability 0.
      unconverged: fits that stopped before their tolerance or were damped.
      fold: int64 ``[points]``, the fold of each, whose regression is fitted to the others.
    """

    probability: np.ndarray
    unconverged: int
    fold: np.ndarray


def held_out_probabilities(
    game: LogisticGame, *, folds: int = 5, seed: int = 0, units: np.ndarray | None = None
) -> HeldOut:
    """Class probabilities of each training point by a regression fitted to the folds that it is not in.

    Args:
      game: its training points, penalty and classes; utility and validation rows have no part.
      folds: how many, at least 2.
      seed: decides the folds.
      units: see `stratified_folds`; None where every point is by itself.
    """
    fold = stratified_folds(np.asarray(game.y), folds, seed, units)
    found, unconverged = np.empty((len(fold), game.classes), np.float32), 0
    for some in _chunks(game, np.arange(folds)):
        inside = fold != some[:, None]
        probability, short = map(np.asarray, _probabilities(game, jnp.asarray(np.asarray(game.weight) * inside)))
        # Only what is said of the rows outside is kept: of all rows by all fits it would be ``folds`` times as much.
        lane, row = np.nonzero(~inside)
        found[row] = probability[lane, row]
        unconverged += int(short.sum())
    return HeldOut(found, unconverged, fold)


class OutOfBag(NamedTuple):
    """How often bagged fits that a point was not in were right about it.

    Attributes:
      hits: float64 ``[points]``, fits that predicted its label.
      counts: int64 ``[points]``, fits that it was not in.
      unconverged: see `HeldOut`.
    """

    hits: np.ndarray
    counts: np.ndarray
    unconverged: int


def out_of_bag(game: LogisticGame, *, fits: int, seed: int = 0) -> OutOfBag:
    """Regressions on bootstrap samples, and what each says of the points outside its sample.

    Args:
      game: see `held_out_probabilities`.
      fits: bootstrap samples.
      seed: sample ``t`` is drawn from ``[seed, t]``.
    """
    points = game.players
    hits, counts, unconverged = np.zeros(points), np.zeros(points, np.int64), 0
    label = np.asarray(game.y)
    for some in _chunks(game, np.arange(fits)):
        drawn = [
            np.bincount(np.random.default_rng([seed, fit]).integers(points, size=points), minlength=points)
            for fit in some
        ]
        times = np.stack(drawn).astype(np.float32)
        found, short = map(np.asarray, _probabilities(game, jnp.asarray(times * np.asarray(game.weight))))
        outside = times == 0
        hits += ((found.argmax(2) == label) & outside).sum(0)
        counts += outside.sum(0)
        unconverged += int(short.sum())
    return OutOfBag(hits, counts, unconverged)


def _chunks(game: LogisticGame, fits: np.ndarray) -> list[np.ndarray]:
    """Fits ``[lanes, ...]`` in parts whose probabilities, and what they are fitted by, fit into memory."""
    lanes = max(1, _CHUNK_NUMBERS // (game.players * max(game.classes, game.x.shape[1])))
    lanes = min(lanes, game.fits_at_once)
    return [fits[first : first + lanes] for first in range(0, len(fits), lanes)]


@jax.jit
def _probabilities(game: LogisticGame, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of every point by the fits to these weights ``[lanes, points]``: ``[lanes, points, classes]``.

    And which fits stopped before their tolerance, ``[lanes]``.
    """
    present = class_mass(game.y, weight, game.classes) > 0
    if game.classes == 2:
        parameters, converged = fit_binary(game.x, game.y, weight, game.ridge)
        logit = dot("lf,pf->lp", parameters, game.x)
        # Each by its own exponential: what is 1 less the other has lost a small one's digits.
        both = jax.nn.sigmoid(jnp.stack([-logit, logit], 2))
        # Where a fit has seen one class alone it is sure of that, as fits of more classes are; nobody, of neither.
        one = present[:, None].astype(both.dtype)
        return jnp.where(jnp.all(present, 1)[:, None, None], both, one), ~converged
    parameters, converged = fit_softmax(game.x, game.y, weight, game.ridge, game.classes)
    logit = dot("lcf,pf->lcp", parameters.reshape(len(weight), game.classes, -1), game.x)
    return jnp.moveaxis(softmax(logit, present)[1], 1, 2), ~converged
