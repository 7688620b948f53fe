"""K-nearest-neighbour games: exact Shapley values in closed form, without one model fit.

The source classifier lets the neighbours of a validation row vote, and a coalition's utility is the mean over
validation rows of a score. Write ``a_1, a_2, ...`` for the members of ``S`` from nearest to farthest, ``m`` for 1
where a point has the row's label and 0 elsewhere, ``K`` for ``k`` and ``C`` for the number of classes. The scores:

    plain       (1/K) sum_{j <= min(K, |S|)} m(a_j)                    0 of the empty coalition
    soft        the same sum divided by min(K, |S|)                    1/C of the empty coalition
    threshold   mean of m over the members within a radius             1/C where no member is

Shapley values are linear in the utility, so each row gives its own and the mean of those is the answer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import encode_labels, feature_matrix, label_array, number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games.products import dot
from tsds_jax.games.utilities import row_weights

KNN_VARIANTS = ("plain", "soft", "threshold")

# Entries, rows times points, that a chunk of validation rows holds where none is given.
_CHUNK_ENTRIES = 2**21
# Validation features are cut at this many times the largest training feature, so that squares stay finite.
_FAR = 2.0**50
# Rows moved near zero at a time.
_ROWS = 4096


def knn_shapley(
    x: object,
    y: object,
    x_val: object,
    y_val: object,
    *,
    k: int = 5,
    variant: str = "plain",
    threshold: float | None = None,
    weight_val: object = None,
    chunk: int | None = None,
    per_validation_point: bool = False,
) -> np.ndarray:
    """Exact Shapley values of a K-nearest-neighbour classifier.

    Neighbours are ordered by Euclidean distance, and points at the same distance by their index, the lower one
    nearer; points with the same features are always at the same distance.

    Squared distances are float32, ``|x|^2 + |v|^2 - 2 x.v`` of features moved near their middle, their error
    about ``1e-7 (|x| + |v|)^2``, with lengths taken from that middle, so points whose distances differ by less may
    change places, and a point that close to ``threshold`` may fall on either side. Whole numbers, up to a few
    thousand, have exact distances.

    Memory: about ``32 * chunk * points`` bytes and some copies of ``x`` beside the arrays given. Time: a product and a
    sort for each validation row, ``rows * points * (features + log points)``; no sort for ``"threshold"``.

    Args:
      x: ``[points, features]``; y: ``[points]`` labels, integers or strings.
      x_val: ``[rows, features]``; y_val: ``[rows]``, every label among those of ``y``.
      k: neighbours that vote, at least 1; may exceed the number of points. ``"threshold"`` does without it.
      variant: ``"plain"``, ``"soft"`` or ``"threshold"``, as above: `plain_values`, `soft_values`,
        `threshold_values`.
      threshold: the radius of ``"threshold"``, a Euclidean distance (inclusive); of no other variant.
      weight_val: ``[rows]``, not negative, the weight of each validation row in the mean; None weighs all alike.
      chunk: validation rows worked on together; None takes about two million divided by ``points``. Results do
        not depend on it, up to the rounding above.
      per_validation_point: return the values split by validation row.

    Returns:
      float64 ``[points]``, the (weighted) mean over validation rows; or float32 ``[rows, points]``, whose
      (weighted) mean over rows that is.

    Raises:
      InputError: an array or option that cannot be used, named with its row and value.

    Example:
      >>> x, y = [[0.0], [1.0], [5.0]], [0, 1, 1]
      >>> [round(v, 3) for v in knn_shapley(x, y, [[0.1]], [0], k=1).tolist()]
      [1.0, 0.0, 0.0]

    References:
      Jia et al., "Efficient task-specific data valuation for nearest neighbor algorithms", VLDB 2019.
      Wang and Jia, "A note on 'Efficient task-specific data valuation for nearest neighbor algorithms'", 2023.
      Wang, Zhu, Wang, Jia and Mittal, "Threshold KNN-Shapley", NeurIPS 2023.
    """
    one_of("variant", variant, KNN_VARIANTS)
    number_in("k", k, 1, np.inf)
    if (threshold is None) == (variant == "threshold"):
        wanted = "give the radius" if threshold is None else "leave threshold out, or use variant 'threshold'"
        raise InputError(f"threshold is {threshold} with variant {variant!r}: {wanted}")
    if threshold is not None:
        number_in("threshold", threshold, 0, np.inf, whole=False)
    train, validation = feature_matrix(x, "x"), feature_matrix(x_val, "x_val")
    if train.shape[1] != validation.shape[1]:
        raise InputError(f"x_val has {validation.shape[1]} features and x {train.shape[1]}: give both the same")
    labels, truth = label_array(y, "y", len(train)), label_array(y_val, "y_val", len(validation))
    classes, labels, truth = encode_labels(labels, truth)
    rows, points = len(validation), len(train)
    share = row_weights("accuracy", truth, weight_val)
    if chunk is None:
        chunk = max(1, _CHUNK_ENTRIES // points)
    number_in("chunk", chunk, 1, np.inf)
    chunk = min(int(chunk), rows)

    train, validation, scale = _near_zero(train, validation)
    radius = 0.0 if threshold is None else min(threshold / scale, 1e18)  # beyond every distance, and its square finite
    vote = _Vote(
        jnp.int32(min(int(k), points)),  # neighbours beyond the points never vote, see the plain game's factor below
        jnp.float32(len(classes)),
        jnp.float32(radius * radius),
    )
    # The plain game divides by K even where there are fewer points; all else is as with K = points.
    factor = points / max(points, int(k)) if variant == "plain" else 1.0
    neighbours = _Neighbours(
        jnp.asarray(train), jnp.sum(jnp.square(train), 1), jnp.asarray(_first_equal(train)), jnp.asarray(labels)
    )

    total = np.zeros(points)
    split = np.empty((rows, points) if per_validation_point else (0, 0), np.float32)
    for start in range(0, rows, chunk):
        # The last chunk is filled up with copies of row 0, which have no weight: one shape, one compilation.
        taken = np.arange(start, start + chunk)
        inside = taken < rows
        taken = np.where(inside, taken, 0)
        values = _values(neighbours, validation[taken], truth[taken], vote, variant)
        if per_validation_point:
            split[start : start + chunk] = np.asarray(values)[inside]
        else:
            total += np.asarray(_weighted_sum(values, np.where(inside, share[taken], 0).astype(np.float32)))
    return split * np.float32(factor) if per_validation_point else total * factor


def plain_values(match: jax.Array, k: jax.Array | int) -> jax.Array:
    """Shapley values of the plain game for one or more validation rows (Jia et al. 2019).

    With points numbered from 1, nearest first, and ``k`` up to the number of points,

        s_i = m_i / max(i - 1, K) - sum_{j >= i, j > K} m_j / (j (j - 1)),

    which is the paper's recursion ``s_i - s_{i+1} = (m_i - m_{i+1}) min(K, i) / (K i)`` summed from the far end.
    The sum runs over terms of one sign, farthest first, so float32 does for any number of points. For ``k > points``
    multiply the values at ``k = points`` by ``points / k``.

    Args:
      match: float32 ``[..., points]``, 1 where the point's label is the row's, nearest point first.
      k: neighbours that vote, from 1 to ``points``.

    Returns:
      float32 ``[..., points]``, in the same order.
    """
    position = jnp.arange(1, match.shape[-1] + 1, dtype=match.dtype)
    beyond = jnp.where(position > k, match / (position * jnp.maximum(position - 1, 1)), 0)
    farther = jax.lax.cumsum(beyond, axis=match.ndim - 1, reverse=True)
    return match / jnp.maximum(position - 1, k) - farther


def soft_values(match: jax.Array, k: jax.Array | int, classes: jax.Array | int) -> jax.Array:
    """Shapley values of the soft-label game for one or more validation rows (Wang and Jia 2023).

    Swapping neighbours ``i`` and ``i+1`` changes a coalition of ``c`` others by ``(m_i - m_{i+1}) / min(K, c+1)``
    where fewer than ``K`` of them are nearer. Summed over coalitions, with ``H_n = 1 + 1/2 + ... + 1/n`` and
    ``L = min(K, N - 1)``,

        s_i - s_{i+1} = (m_i - m_{i+1}) (min(L, i) / (L i) + (H_L - 1) / (N - 1)),
        s_N = (m_N - 1/C + (m_N - mean of the other m) (H_min(K,N) - 1)) / N.

    The first part of the differences is that of `plain_values`.

    Args:
      match: as in `plain_values`.
      k: neighbours that vote, at least 1.
      classes: number of classes, C.

    Returns:
      float32 ``[..., points]``, in the same order.
    """
    points = match.shape[-1]
    others = max(points - 1, 1)
    position = jnp.arange(1, points + 1, dtype=match.dtype)
    limit = jnp.minimum(k, others)
    slope = (_harmonic(position, limit) - 1) / others
    last = match[..., -1:]
    mean = (jnp.sum(match, -1, keepdims=True) - last) / others
    farthest = (last - 1 / classes + (last - mean) * (_harmonic(position, k) - 1)) / points
    return plain_values(match, limit) - last / points + slope * (match - last) + farthest


def threshold_values(inside: jax.Array, match: jax.Array, classes: jax.Array | int) -> jax.Array:
    """Shapley values of the threshold game for one or more validation rows (Wang et al. 2023).

    Points outside the radius change nothing and get 0. The ``c`` points inside play the soft-label game with
    ``K >= c``, in which distances play no part:

        s_i = (m_i - 1/C + (m_i - mean of the other m) (H_c - 1)) / c.

    Args:
      inside: bool ``[..., points]``, whether the point lies within the radius.
      match: float32 ``[..., points]``, 1 where the point's label is the row's, in any order.
      classes: number of classes, C.

    Returns:
      float32 ``[..., points]``, in the same order.
    """
    position = jnp.arange(1, match.shape[-1] + 1, dtype=match.dtype)
    count = jnp.sum(inside, -1, keepdims=True)
    # 1/1 + ... + 1/c for every row at once: entry c - 1 of the running sum.
    harmonic = jnp.cumsum(1 / position)[jnp.maximum(count - 1, 0)]
    mean = (jnp.sum(match * inside, -1, keepdims=True) - match) / jnp.maximum(count - 1, 1)
    value = (match - 1 / classes + (match - mean) * (harmonic - 1)) / jnp.maximum(count, 1)
    return jnp.where(inside, value, 0.0)


def _harmonic(position: jax.Array, count: jax.Array | int) -> jax.Array:
    """``1 + 1/2 + ... + 1/min(count, points)``."""
    return jnp.sum(jnp.where(position <= count, 1 / position, 0.0))


class _Neighbours(NamedTuple):
    """Training points: features ``[points, features]``, squared lengths, first equal row, classes ``[points]``."""

    x: jax.Array
    length: jax.Array
    first: jax.Array
    y: jax.Array


class _Vote(NamedTuple):
    """Scalars of the game: neighbours that vote, number of classes, squared radius."""

    k: jax.Array
    classes: jax.Array
    radius: jax.Array


def _values(train: _Neighbours, x_val: np.ndarray, y_val: np.ndarray, vote: _Vote, variant: str) -> jax.Array:
    """Values ``[rows, points]`` of a chunk of validation rows, points in their own order."""
    distance = _distances(train, x_val)
    if variant == "threshold":
        return _within_radius(train, distance, y_val, vote)
    # XLA's sort on a CPU takes some twenty times as long as NumPy's of whole numbers.
    nearest = _order_on_host if jax.default_backend() == "cpu" else _order_on_device
    return _by_order(train, nearest(distance), y_val, vote, variant)


@jax.jit
def _distances(train: _Neighbours, x_val: jax.Array) -> jax.Array:
    """Squared distances ``[rows, points]``."""
    product = dot("rf,pf->rp", x_val, train.x)
    distance = (train.length - 2 * product) + jnp.sum(jnp.square(x_val), 1, keepdims=True)
    # A product's rounding may depend on where in the matrix a column stands; equal points must tie all the same.
    return jnp.maximum(distance, 0)[:, train.first]


@jax.jit
def _order_on_device(distance: jax.Array) -> jax.Array:
    """Points from nearest to farthest, int32 ``[rows, points]``, the lower index first in a tie."""
    point = jax.lax.broadcasted_iota(jnp.int32, distance.shape, 1)
    return jax.lax.sort((distance, point), num_keys=1, is_stable=True)[1]


def _order_on_host(distance: jax.Array) -> np.ndarray:
    """`_order_on_device` by one sort of 64-bit numbers: the distance's bits, then the index.

    Floats that are not negative are ordered as their bits are, read as whole numbers.
    """
    key = np.asarray(distance).view(np.int32).astype(np.int64) << 32
    key |= np.arange(distance.shape[1])
    key.sort(axis=1)
    return key.astype(np.int32)  # keeps the lower half


def _ordered_values(train: _Neighbours, order: jax.Array, y_val: jax.Array, vote: _Vote, variant: str) -> jax.Array:
    match = (train.y[order] == y_val[:, None]).astype(jnp.float32)
    values = plain_values(match, vote.k) if variant == "plain" else soft_values(match, vote.k, vote.classes)
    put_back = jax.vmap(lambda place, value: jnp.zeros_like(value).at[place].set(value, unique_indices=True))
    return put_back(order, values)


_by_order = jax.jit(_ordered_values, static_argnames="variant")


@jax.jit
def _within_radius(train: _Neighbours, distance: jax.Array, y_val: jax.Array, vote: _Vote) -> jax.Array:
    match = (train.y == y_val[:, None]).astype(jnp.float32)
    return threshold_values(distance <= vote.radius, match, vote.classes)


@jax.jit
def _weighted_sum(values: jax.Array, weight: jax.Array) -> jax.Array:
    return dot("rp,r->p", values, weight)


def _near_zero(train: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both arrays moved and scaled so that float32 squares lose little: distances shrink by the scale returned.

    Each feature moves to its training mean, rounded to a power of two no larger than its range: what was a small
    whole number, or a multiple of a half, still is one after scaling by a power of two, and equal distances stay
    equal.
    """
    low, high = train.min(0).astype(np.float64), train.max(0).astype(np.float64)
    grid = np.exp2(np.floor(np.log2(np.where(high > low, high - low, 1.0))))
    middle = np.where(high > low, np.round(train.mean(0, dtype=np.float64) / grid) * grid, low)
    largest = max(float(np.max(high - middle)), float(np.max(middle - low)))
    scale = float(np.exp2(np.floor(np.log2(largest)))) if largest > 0 else 1.0
    moved, moved_val = (np.empty(some.shape, np.float32) for some in (train, validation))
    for array, near in ((train, moved), (validation, moved_val)):
        for first in range(0, len(array), _ROWS):  # in float64, which of all rows would be twice what was given
            some = slice(first, first + _ROWS)
            near[some] = np.clip((array[some] - middle) / scale, -_FAR, _FAR)
    return moved, moved_val, scale


def _first_equal(x: np.ndarray) -> np.ndarray:
    """Index of the first row equal to each row, int32 ``[points]``."""
    key = np.zeros(len(x), np.uint64)
    for column in (x + np.float32(0)).view(np.uint32).T:  # adding zero makes -0 into 0
        key = key * np.uint64(0x9E3779B97F4A7C15) + column
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    place = first[inverse]
    # Different rows of one key, if ever there are any, stay themselves.
    return np.where((x[place] == x).all(1), place, np.arange(len(x))).astype(np.int32)
