"""Sums over the rows of many regressions that differ little, as kernels for a GPU.

With lanes of parameter changes ``point`` and rows whose logits at the known parameters are ``logit``, the gradient of
the rows' losses is ``change' rows`` where ``change = weight (sigmoid(logit + rows point) - sigmoid(logit))``. Written
as array operations, ``[lanes, rows]`` goes to the device's memory and back at every step, which takes several times as
long as the products. Here each program has a block of lanes and takes the rows block by block, as attention kernels do,
so nothing of that shape ever leaves the chip. Rows behind the last of positive weight are not looked at.

Written in Pallas for Triton, whose arrays have a power of two for every size: parameters are taken in such pieces. JAX
means to drop this way to a GPU; without it the plain array operations do the work.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from tsds_jax.runtime.environment import nvidia_capability

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
Product = Callable[[jax.Array, jax.Array], jax.Array]


def fits_in_kernel(rows: jax.Array) -> bool:
    """Whether sums over these rows, ``[points, features]``, can be taken by a kernel: on an NVIDIA GPU with TF32."""
    capability = nvidia_capability(jax.devices()[0])
    able = triton is not None and capability is not None and float(capability) >= 8.0
    return able and rows.dtype == jnp.float32 and rows.shape[1] <= _MOST


def gradient_sums(point: jax.Array, rows: jax.Array, weight: jax.Array, logit: jax.Array, *, near: bool) -> jax.Array:
    """``sum_p weight_p (sigmoid(logit_p + rows_p point) - sigmoid(logit_p)) rows_p``, ``[lanes, features]``.

    Args:
      point: float32 ``[lanes, features]``, multiples of `LANES` and `LEAST`.
      rows: ``[points, features]``; weight, logit: ``[points]``.
      near: whether products may be those of TF32 (`tsds_jax.games.products.near`).
    """

    def add(product: Product, so_far: Pieces, given: tuple[Pieces, ...], rows: Pieces, weight, logit) -> Pieces:
        p = jax.nn.sigmoid(logit + _logits(product, given[0], rows))
        change = weight * (p - jax.nn.sigmoid(logit))
        return tuple(part + product(change, some) for part, some in zip(so_far, rows, strict=True))

    return _sums(add, (point,), rows, weight, logit, near, point)


def curvature_sums(
    point: jax.Array, direction: jax.Array, rows: jax.Array, weight: jax.Array, logit: jax.Array, *, near: bool
) -> jax.Array:
    """``sum_p weight_p q_p (1 - q_p) (rows_p direction)^2`` with ``q = sigmoid(logit + rows point)``, ``[lanes]``.

    Args:
      direction: ``[lanes, features]``. Others as of `gradient_sums`.
    """

    def add(product: Product, so_far: Pieces, given: tuple[Pieces, ...], rows: Pieces, weight, logit) -> Pieces:
        p = jax.nn.sigmoid(logit + _logits(product, given[0], rows))
        return (so_far[0] + jnp.sum(weight * (p * (1 - p)) * _logits(product, given[1], rows) ** 2, 1),)

    return _sums(add, (point, direction), rows, weight, logit, near, point[:, 0])


def _logits(product: Product, point: Pieces, rows: Pieces) -> jax.Array:
    return reduce(jnp.add, (product(part, some.T) for part, some in zip(point, rows, strict=True)))


def _sums(
    add: Callable[..., Pieces],
    given: tuple[jax.Array, ...],
    rows: jax.Array,
    weight: jax.Array,
    logit: jax.Array,
    near: bool,
    like: jax.Array,
) -> jax.Array:
    """What ``add`` adds to zeros ``like`` this for one block of rows after another, with ``given`` of each lane."""
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

    def kernel(given: Any, shared: Any, found: Any) -> None:
        rows, weight, logit, last = shared
        mine = tuple(cut(reference, 0, LANES) for reference in given)
        shapes = [(LANES, size) for _, size in pieces] if like.ndim == 2 else [(LANES,)]

        def body(block: jax.Array, so_far: Pieces) -> Pieces:
            place = pl.ds(block * some, some)
            return add(product, so_far, mine, cut(rows, block * some, some), weight[place], logit[place])

        zero = tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)
        sums = jax.lax.fori_loop(0, pl.cdiv(last[0], some), body, zero)
        if like.ndim == 1:
            found[:] = sums[0]
        else:
            for piece, part in zip(pieces, sums, strict=True):
                found[:, pl.ds(*piece)] = part

    def block(part: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((LANES, *part.shape[1:]), lambda program: (program, *(0,) * (part.ndim - 1)))

    def whole(part: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec(part.shape, lambda program: (0,) * part.ndim)

    shared = (rows, weight, logit, last[None])
    return pl.pallas_call(
        kernel,
        grid=(lanes // LANES,),
        in_specs=(jax.tree.map(block, given), jax.tree.map(whole, shared)),
        out_specs=block(like),
        out_shape=jax.ShapeDtypeStruct(like.shape, like.dtype),
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
