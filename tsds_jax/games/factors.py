"""Factorisations of positive definite matrices, as the games' fits need them.

On a CPU jaxlib 0.10 and 0.11.0 cut a batch of matrices into parts for the threads that run the program itself, and
wait for these parts on one of these threads. Where as many such calls meet as there are threads, all of them wait and
nothing ever ends. A single matrix is not cut, so here a CPU is given one at a time, whatever maps over the calls; that
takes no longer. Accelerators get the whole batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tsds_jax.games.products import dot


def _one_at_a_time(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """``function`` of the arrays' last two axes, mapped over the others, which they share."""

    def call(*matrices: jax.Array) -> jax.Array:
        single = jax.custom_batching.sequential_vmap(function)
        return jax.lax.platform_dependent(*matrices, cpu=single, default=function)

    for _ in range(arrays[0].ndim - 2):
        call = jax.vmap(call)
    return call(*arrays)


def cholesky(matrix: jax.Array) -> jax.Array:
    """Lower factors of ``[..., size, size]``; NaN where there is none."""
    return _one_at_a_time(jnp.linalg.cholesky, matrix)


def factorise(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factors of ``[..., size, size]``, and which of them needed damping, bool ``[...]``.

    Where rounding, or a Gram matrix that is none, leaves a matrix indefinite, ever more of its largest entry is
    added to the diagonal until the factor is finite.
    """
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def broken(factor: jax.Array) -> jax.Array:
        return ~jnp.all(jnp.isfinite(jnp.diagonal(factor, axis1=-2, axis2=-1)), -1)

    def body(state):
        factor, damping, _ = state
        bad = broken(factor)[..., None, None]
        damping = jnp.where(bad, jnp.maximum(30 * damping, 30 * jnp.finfo(matrix.dtype).eps), damping)
        largest = jnp.max(jnp.abs(matrix), (-2, -1), keepdims=True)
        again = cholesky(matrix + damping * largest * identity)
        return jnp.where(bad, again, factor), damping, bad[..., 0, 0]

    first = cholesky(matrix)
    batch = matrix.shape[:-2]
    start = (first, jnp.zeros((*batch, 1, 1), matrix.dtype), jnp.zeros(batch, bool))
    factor, damping, _ = jax.lax.while_loop(
        lambda state: jnp.any(broken(state[0]) & (state[1][..., 0, 0] < 1e6)), body, start
    )
    return factor, damping[..., 0, 0] > 0


def solve_lower(factor: jax.Array, right: jax.Array, *, transpose: bool = False) -> jax.Array:
    """``factor^-1 right``, or ``factor^-T right``, of ``[..., size, size]`` and ``[..., size, columns]``."""

    def solve(factor: jax.Array, right: jax.Array) -> jax.Array:
        return jax.lax.linalg.triangular_solve(factor, right, left_side=True, lower=True, transpose_a=transpose)

    return _one_at_a_time(solve, factor, right)


def inverse(matrix: jax.Array) -> jax.Array:
    """Inverses of positive definite ``[..., size, size]``; NaN where there is none."""
    identity = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    root = solve_lower(cholesky(matrix), identity)
    return dot("...ki,...kj->...ij", root, root)
