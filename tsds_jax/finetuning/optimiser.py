"""AdamW with clipping, and the learning rate of each step."""

import math
from typing import Any

import jax
import optax

from tsds_jax.options import FineTuneOptions


def adamw(learning_rate: Any, weight_decay: Any, clip: Any) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with weight decay where `decays` says so."""
    return optax.chain(
        optax.clip_by_global_norm(clip), optax.adamw(learning_rate, weight_decay=weight_decay, mask=decays)
    )


def decays(params: Any) -> Any:
    """True for matrices and embeddings, False for all of one dimension: biases and layer norms."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def learning_rate_at(step: int, options: FineTuneOptions, steps: int) -> float:
    """The rate of a step, counted from 0: a straight line up to the peak, then down as the schedule says.

    With p the share of the way down that is gone, the rate is the peak's ``1 - p`` ("linear"), ``(1 + cos(pi p)) / 2``
    ("cosine") or 1 ("constant"); p is 0 at the peak and would be 1 after the last step. No step has a rate of 0.
    """
    # Rounded, for 0.29 times 100 steps are a little less than 29 in floats.
    rising = min(int(round(options.warmup * steps, 9)), steps - 1)
    if step < rising:
        return options.learning_rate * (step + 1) / (rising + 1)
    gone = (step - rising) / (steps - rising)
    height = {"linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2, "constant": 1.0}
    return options.learning_rate * height[options.schedule]
