"""Regressions near one that is known: nonlinear conjugate gradients on many lanes at once.

The regression of a coalition and that of the same coalition with a few points more or less are close, and the Hessian
of one is nearly that of the other. From the known solution, preconditioned with its Hessian, nonlinear conjugate
gradients need three or four iterations where Newton's method from nothing needs eight factorisations. An iteration
costs two products with the rows, and no solve.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from tsds_jax.games.newton import Minimum
from tsds_jax.games.products import row_sums

# Of the preconditioned gradient, relative. Where the preconditioner is far off, as of a few points that are nearly
# separable, the distance is some ten times that: within 1e-4 of scikit-learn's parameters at C = 30 too.
TOLERANCE = 1e-5
# Shares of the lanes that go through a stage together.
_PARTS = 8
# Parameters that are all smaller than this need no more digits than this one.
_ZERO = 0.05
# No step changes a row's logit by more.
_FAR = 8.0
# A descent whose last step was a larger part of that is not over: a row far from all others may change its mind still.
_NEAR = 0.05
# At most, after which a descent has failed.
ITERATIONS = 100

# From gradients ``[lanes, parameters]`` to steps: nearly the inverse Hessian.
Precondition = Callable[[jax.Array], jax.Array]


class Losses(Protocol):
    """A convex function of ``[parameters]`` in every lane, through predictions that are linear in the parameters."""

    def predict(self, direction: jax.Array) -> Any:
        """Predictions of parameters ``[lanes, parameters]``, arrays whose first axis is the lanes."""
        ...

    def probabilities(self, prediction: Any) -> Any:
        """What gradient and curvature need of the predictions."""
        ...

    def gradient(self, point: jax.Array, probability: Any) -> jax.Array:
        """At a point and its probabilities, ``[lanes, parameters]``."""
        ...

    def curvature(
        self, point: jax.Array, probability: Any, direction: jax.Array, change: Any
    ) -> tuple[jax.Array, jax.Array | float]:
        """Second derivative at a point along a direction, ``[lanes]``, and how long it is to be trusted.

        From what is predicted of both; the second is a length along the direction.
        """
        ...


class _State(NamedTuple):
    point: jax.Array
    prediction: Any
    probability: Any
    gradient: jax.Array
    step: jax.Array  # the preconditioned gradient
    direction: jax.Array
    limit: jax.Array  # of the length along it
    lost: jax.Array  # whether a length along a line was beyond all trust
    done: jax.Array
    iteration: jax.Array


def descend(
    losses: Losses,
    start: jax.Array,
    precondition: Precondition,
    tolerance: float | jax.Array = TOLERANCE,
    iterations: int | jax.Array = ITERATIONS,
    about: jax.Array | float = 0.0,
    trust: float = float("inf"),
) -> Minimum:
    """Minimises in every lane, from ``start`` ``[lanes, parameters]``.

    Polak-Ribiere conjugate gradients; the step along a direction is Newton's for that line, whose curvature costs no
    product with the rows beyond the one that moves the predictions. A lane ends where its preconditioned gradient,
    which estimates the distance to the minimum, is at most ``tolerance * (0.05 + max|point|)`` in every coordinate;
    where the last step along its line was longer than the direction, as many times as that the preconditioner is short.
    That last step is still taken: of the distance it leaves only the part by which the preconditioner is wrong.

    Args:
      losses: what to minimise.
      start: near the minimum.
      precondition: see `Precondition`.
      tolerance: relative, on the preconditioned gradient.
      iterations: at most so many; a lane that needs more is where they left it, and not converged.
      about: parameters that ``start``, and what is found, are differences from.
      trust: a lane is not converged whose length along some line was more: its preconditioner tells little.
    """

    def small(step: jax.Array, point: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(step), 1) <= tolerance * (_ZERO + jnp.max(jnp.abs(about + point), 1))

    def body(state: _State) -> _State:
        change = losses.predict(state.direction)
        curvature, longest = losses.curvature(state.point, state.probability, state.direction, change)
        slope = -row_sums(state.gradient * state.direction)
        # A lane that is done stays where it is, whatever its neighbours still do.
        whole = slope / jnp.where(curvature > 0, curvature, 1.0)
        length = jnp.minimum(jnp.minimum(whole, state.limit), longest)
        length = jnp.where(state.done | ~(curvature > 0), 0.0, length)
        point = state.point + length[:, None] * state.direction
        prediction = jax.tree.map(
            lambda old, new: old + length.reshape(-1, *[1] * (old.ndim - 1)) * new, state.prediction, change
        )
        probability = losses.probabilities(prediction)
        gradient = losses.gradient(point, probability)
        step = precondition(gradient)
        before = row_sums(state.gradient * state.step)
        turn = row_sums(step * (gradient - state.gradient)) / jnp.where(before > 0, before, 1.0)
        direction = jnp.maximum(turn, 0.0)[:, None] * state.direction - step
        downhill = row_sums(direction * gradient) < 0  # False of a NaN too
        direction = jnp.where(downhill[:, None], direction, -step)
        # Where a step went too far, for the curvature grows along the line, the next goes back on it, to where the
        # slopes at both ends say that its lowest point is.
        rise = row_sums(gradient * state.direction)
        beyond = rise > 0.5 * slope
        direction = jnp.where(beyond[:, None], -state.direction, direction)
        limit = jnp.where(beyond, length * rise / (slope + rise), jnp.inf)
        lost = state.lost | (~state.done & (whole > trust))
        near = length <= _NEAR * longest
        done = state.done | near & small(step * jnp.maximum(whole, 1.0)[:, None], point)
        return _State(point, prediction, probability, gradient, step, direction, limit, lost, done, state.iteration + 1)

    def unfinished(state: _State) -> jax.Array:
        return ~jnp.all(state.done) & (state.iteration < iterations)

    prediction = losses.predict(start)
    probability = losses.probabilities(prediction)
    gradient = losses.gradient(start, probability)
    step = precondition(gradient)
    zero, limit = jnp.zeros((), jnp.int32), jnp.full(len(start), jnp.inf, start.dtype)
    no = jnp.zeros(len(start), bool)
    begin = _State(start, prediction, probability, gradient, step, -step, limit, no, no, zero)
    # An accelerator copies what a loop carries, and waits to hear whether there is more to do.
    once = isinstance(iterations, int) and iterations == 1
    end = body(begin) if once else jax.lax.while_loop(unfinished, body, begin)
    point = jnp.where(end.done[:, None], end.point - end.step, end.point)
    fine = jnp.all(jnp.isfinite(point), 1)
    return Minimum(jnp.where(fine[:, None], point, start), end.done & fine & ~end.lost)


def trusted_length(fourth: jax.Array) -> jax.Array:
    """How far along a direction the curvature here tells something, ``[lanes]``: logits change by at most 8.

    Args:
      fourth: ``[lanes]``, the sum of the fourth powers of the rows' changes at length one. Its root is little more than
        the largest of them, and a sum costs a CPU less than a maximum.
    """
    return _FAR / jnp.maximum(fourth, 1e-30) ** 0.25


# Descends in the lanes of these numbers, or all, from ``[lanes, parameters]``, as a stage of this number does.
Some = Callable[[Any, jax.Array, Any], Minimum]


def descend_in_stages(some: Some, start: jax.Array, stages: int, block: int | None = None) -> Minimum:
    """`descend` in lanes that need very different numbers of iterations, without the many waiting for the few.

    Lanes take a first few steps, an eighth of them at a time. Those that have not converged then go through the next
    stage with each other, and so on. What a lane does depends on no other: a stage begins where the last has left it.

    Args:
      some: `descend` with the losses of some of the lanes, by as many iterations as the stage has.
      start: ``[lanes, parameters]``.
      stages: how many.
      block: lanes come in multiples of this number, and all go through the first stage at once: so a GPU is filled.
    """
    lanes = len(start)
    width = -(-lanes // _PARTS) if block is None else -(-lanes // (_PARTS * block)) * block

    class State(NamedTuple):
        found: Minimum
        stage: jax.Array  # of each lane; of those that are done the number of stages

    def body(state: State) -> State:
        stage = jnp.min(state.stage)
        # Behind the last stands a number that is no lane's: read as the last lane's, and never written.
        index = jnp.nonzero(state.stage == stage, size=width, fill_value=lanes)[0]
        new = some(jnp.minimum(index, lanes - 1), state.found.parameters[index], stage)
        return State(
            jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), state.found, new),
            state.stage.at[index].set(jnp.where(new.converged, stages, stage + 1), mode="drop"),
        )

    if block is None:
        begin = State(Minimum(start, jnp.zeros(lanes, bool)), jnp.zeros(lanes, jnp.int32))
    else:
        first = some(slice(None), start, 0)
        begin = State(first, jnp.where(first.converged, stages, 1))
    return jax.lax.while_loop(lambda state: jnp.any(state.stage < stages), body, begin).found
