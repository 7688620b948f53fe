"""Sums over the rows of many regressions that differ little, as kernels for a GPU.

With lanes of parameter changes ``point`` and rows whose logits at the known parameters are ``logit``, the gradient of
the rows' losses is there, up to what is linear in the change, ``bend' rows`` with ``bend = weight `` `bent`. Written as
array operations, ``[lanes, rows]`` goes to the device's memory and back at every step, which takes several times as
long as the products. Here each program has a block of lanes and takes the rows block by block, as attention kernels do,
so nothing of that shape ever leaves the chip. Rows behind the last of positive weight are not looked at.

Written in Pallas for Triton, whose arrays have a power of two for every size: parameters are taken in such pieces. JAX
means to drop this way to a GPU; without it the plain array operations do the work.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from tsds_jax.runtime.environment import has_tf32

try:
    from jax.experimental.pallas import triton
except ImportError:
    triton = None  # type: ignore[assignment]

# Lanes of a program, its warps, and rows that it takes at a time.
LANES, _WARPS, _ROWS = 64, 4, 32
# Lanes and features come in multiples of these: the second is the least that a product in TF32 takes.
LEAST = 16
# Above this many parameters a program's pieces do not fit into registers.
_MOST = 288

Pieces = tuple[jax.Array, ...]


class Rows(NamedTuple):
    """A block of rows: pieces ``[rows, features]``, the same ``[features, rows]``, and ``[rows]`` twice.

    The matrix unit takes a TF32 operand only with what is summed over in one piece of memory; one product sums over
    features, the other over rows.
    """

    flat: Pieces
    upright: Pieces
    weight: jax.Array
    logit: jax.Array


Product = Callable[[jax.Array, jax.Array], jax.Array]


def fits_in_kernel(features: int, dtype: jnp.dtype) -> bool:
    """Whether sums over rows of so many numbers can be taken by a kernel: on an NVIDIA GPU with TF32."""
    return has_tf32() and triton is not None and dtype == jnp.float32 and features <= _MOST


def gradient_sums(point: jax.Array, rows: jax.Array, weight: jax.Array, logit: jax.Array, *, near: bool) -> jax.Array:
    """``sum_p weight_p bent(logit_p, rows_p point) rows_p``, ``[lanes, features]``; see `bent`.

    Args:
      point: float32 ``[lanes, features]``, multiples of `LANES` and `LEAST`.
      rows: ``[points, features]``; weight, logit: ``[points]``.
      near: whether products may be those of TF32 (`tsds_jax.games.products.near`).
    """

    def add(product: Product, so_far: Pieces, given: tuple[Pieces, ...], rows: Rows) -> Pieces:
        bend = rows.weight * bent(rows.logit, _logits(product, given[0], rows))
        return tuple(part + product(bend, some.T) for part, some in zip(so_far, rows.upright, strict=True))

    return _sums(add, (point,), rows, weight, logit, near, point)


def curvature_sums(
    point: jax.Array, direction: jax.Array, rows: jax.Array, weight: jax.Array, logit: jax.Array, *, near: bool
) -> tuple[jax.Array, jax.Array]:
    """``sum_p weight_p (c(logit_p + rows_p point) - c(logit_p)) (rows_p direction)^2``, ``[lanes]``, and fourth powers.

    With ``c = sigmoid (1 - sigmoid)``, the curvature: what of it a change of the parameters makes. The second is
    ``sum_p (rows_p direction)^4`` of rows that weigh anything.

    Args:
      direction: ``[lanes, features]``. Others as of `gradient_sums`.
    """

    def add(product: Product, so_far: Pieces, given: tuple[Pieces, ...], rows: Rows) -> Pieces:
        more = curvature(rows.logit + _logits(product, given[0], rows)) - curvature(rows.logit)
        square = _logits(product, given[1], rows) ** 2
        fourth = jnp.where(rows.weight != 0, square**2, 0.0)
        return so_far[0] + jnp.sum(rows.weight * more * square, 1), so_far[1] + jnp.sum(fourth, 1)

    return _sums(add, (point, direction), rows, weight, logit, near, (point[:, 0], point[:, 0]))


def bent(logit: jax.Array, change: jax.Array) -> jax.Array:
    """``sigmoid(logit + change) - sigmoid(logit)`` without its linear part, ``curvature(logit) change``."""
    return jax.nn.sigmoid(logit + change) - jax.nn.sigmoid(logit) - curvature(logit) * change


def curvature(logit: jax.Array) -> jax.Array:
    """``sigmoid (1 - sigmoid)``, the second derivative of a logistic loss."""
    p = jax.nn.sigmoid(logit)
    return p * (1 - p)


def _logits(product: Product, point: Pieces, rows: Rows) -> jax.Array:
    return reduce(jnp.add, (product(part, some.T) for part, some in zip(point, rows.flat, strict=True)))


def _sums(
    add: Callable[..., Pieces],
    given: tuple[jax.Array, ...],
    rows: jax.Array,
    weight: jax.Array,
    logit: jax.Array,
    near: bool,
    like: Any,
) -> Any:
    """What ``add`` adds to zeros ``like`` this for one block of rows after another, with ``given`` of each lane.

    ``like`` is an array ``[lanes, features]``, or several of ``[lanes]``.
    """
    lanes, width = given[0].shape
    if lanes % LANES or width % LEAST:
        raise ValueError(f"a kernel takes multiples of {LANES} lanes and {LEAST} features, not {lanes} and {width}")
    length = -(-len(rows) // LEAST) * LEAST
    some = min(_ROWS, length & -length)
    spare = (0, length - len(rows))
    rows, weight, logit = jnp.pad(rows, (spare, (0, 0))), jnp.pad(weight, spare), jnp.pad(logit, spare)
    last = jnp.max(jnp.where(weight != 0, jnp.arange(1, length + 1), 0)).astype(jnp.int32)
    pieces = _pieces(width)
    # A CPU runs the kernel as plain JAX, for tests.
    interpret = jax.default_backend() == "cpu"
    # Three products in TF32 are nearly as exact as one in float32.
    algorithm = jax.lax.DotAlgorithmPreset.TF32_TF32_F32 if near else jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    product = partial(jnp.dot, precision=jax.lax.Precision.HIGHEST if interpret else algorithm)

    def cut(reference: Any, first: Any, count: int) -> Pieces:
        return tuple(reference[pl.ds(first, count), pl.ds(*piece)] for piece in pieces)

    def block_of(shared: Any, first: jax.Array) -> Rows:
        rows, upright, weight, logit = shared
        place = pl.ds(first, some)
        parts = tuple(upright[pl.ds(*piece), place] for piece in pieces)
        return Rows(cut(rows, first, some), parts, weight[place], logit[place])

    def kernel(given: Any, shared: Any, *found: Any) -> None:
        *shared, last = shared
        mine = tuple(cut(reference, 0, LANES) for reference in given)
        several = isinstance(like, tuple)
        shapes = [(LANES,)] * len(like) if several else [(LANES, size) for _, size in pieces]

        def body(block: jax.Array, so_far: Pieces) -> Pieces:
            return add(product, so_far, mine, block_of(shared, block * some))

        zero = tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)
        sums = jax.lax.fori_loop(0, pl.cdiv(last[0], some), body, zero)
        for number, part in enumerate(sums):
            if several:
                found[number][:] = part
            else:
                found[0][:, pl.ds(*pieces[number])] = part

    def block(part: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((LANES, *part.shape[1:]), lambda program: (program, *(0,) * (part.ndim - 1)))

    def whole(part: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec(part.shape, lambda program: (0,) * part.ndim)

    shared = (rows, rows.T, weight, logit, last[None])
    return pl.pallas_call(
        kernel,
        grid=(lanes // LANES,),
        in_specs=(jax.tree.map(block, given), jax.tree.map(whole, shared)),
        out_specs=jax.tree.map(block, like),
        out_shape=jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype), like),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=_WARPS, num_stages=2),
        interpret=interpret,
    )(given, shared)


def _pieces(width: int) -> list[tuple[int, int]]:
    """First numbers and widths, powers of two, of the pieces of so many numbers.

    Example:
      >>> _pieces(144)
      [(0, 128), (128, 16)]
    """
    pieces, first = [], 0
    while first < width:
        size = 1 << ((width - first).bit_length() - 1)
        pieces.append((first, size))
        first += size
    return pieces
