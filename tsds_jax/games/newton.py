"""Damped Newton iteration on many convex problems at once, one problem a lane."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# A fit whose logits a step changes by more, relative to one and themselves, has not converged.
_LARGEST_CHANGE = 0.03


class Local(NamedTuple):
    """A problem's second-order picture at a point.

    Attributes:
      loss: ``[lanes]``.
      step: Newton's, ``[lanes, parameters]``.
      sound: bool ``[lanes]``, or one for all: whether the step is Newton's. One of a damped Hessian is shorter, and
        does not tell how far the minimum is.
    """

    loss: jax.Array
    step: jax.Array
    sound: jax.Array | bool = True


class Minimum(NamedTuple):
    """Where the iteration ended.

    Attributes:
      parameters: ``[lanes, parameters]``, finite in every lane.
      converged: bool ``[lanes]``.
    """

    parameters: jax.Array
    converged: jax.Array


def settled(logit: jax.Array, change: jax.Array, weight: jax.Array) -> jax.Array:
    """Whether a step leaves what a fit says of its members, ``[lanes]``.

    A row far from all others may still change its mind by a step that looks small.

    Args:
      logit: ``[lanes, ..., points]``; change: of these, by the step.
      weight: ``[lanes, points]``.
    """
    member = (weight > 0).reshape(len(weight), *[1] * (logit.ndim - 2), -1)
    relative = jnp.where(member, jnp.abs(change) / (1 + jnp.abs(logit)), 0.0)
    return jnp.max(relative, range(1, logit.ndim)) <= _LARGEST_CHANGE


class _State(NamedTuple):
    point: jax.Array  # the best point so far
    loss: jax.Array  # its loss
    step: jax.Array  # the step being tried from it
    done: jax.Array
    iteration: jax.Array


def minimise(
    local: Callable[[jax.Array], Local], start: jax.Array, *, tolerance: float = 1e-3, iterations: int = 40
) -> Minimum:
    """Minimises one smooth convex function per lane by Newton steps, halved while they do not descend.

    A lane ends when the (sound) Newton step at its point is at most ``tolerance * (1 + max|point|)`` in every
    coordinate; that last step is still taken, so by quadratic convergence the error left is of the order of
    ``tolerance ** 2``. A step to a loss that is larger, or not finite, is halved and tried again, so a lane
    that diverges keeps its last good point and is reported as not converged, never as NaN.

    Unlike an optax chain this evaluates loss, gradient and Hessian once an iteration for all lanes, since a
    rejected step is rare: its halving waits for the next iteration instead of an inner loop.

    Args:
      local: maps points ``[lanes, parameters]`` to their `Local` picture.
      start: ``[lanes, parameters]``.
      tolerance: on the Newton step, relative.
      iterations: at most this many evaluations after the first.
    """

    def small(step: jax.Array, point: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(step), -1) <= tolerance * (1 + jnp.max(jnp.abs(point), -1))

    def body(state: _State) -> _State:
        trial = state.point + state.step
        there = local(trial)
        # Rounding makes equal losses differ by some units in the last place; that is no ascent.
        slack = 1e-5 * (1 + jnp.abs(state.loss))
        fine = (there.loss <= state.loss + slack) & jnp.all(jnp.isfinite(there.step), -1) & ~state.done
        point = jnp.where(fine[:, None], trial, state.point)
        step = jnp.where(fine[:, None], there.step, jnp.where(state.done[:, None], state.step, 0.5 * state.step))
        done = state.done | (fine & there.sound & small(step, point))
        return _State(point, jnp.where(fine, there.loss, state.loss), step, done, state.iteration + 1)

    def unfinished(state: _State) -> jax.Array:
        return ~jnp.all(state.done) & (state.iteration < iterations)

    # A step of nothing from a loss above all: the first picture is taken in the loop too, and compiled once.
    lanes = jnp.zeros(len(start), start.dtype)
    begin = _State(start, lanes + jnp.inf, jnp.zeros_like(start), lanes > 0, jnp.full((), -1, jnp.int32))
    end = jax.lax.while_loop(unfinished, body, begin)
    return Minimum(end.point + jnp.where(end.done[:, None], end.step, 0.0), end.done)
