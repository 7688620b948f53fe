"""The steps of fine-tuning: one jitted function, and the loop that calls it and keeps the best state."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tsds_jax.encoders.tokens import Batch, Tokenised
from tsds_jax.errors import TsdsError
from tsds_jax.finetuning.batches import draw_batches, training_batch
from tsds_jax.finetuning.checkpoints import Checkpoints
from tsds_jax.finetuning.checks import steps_for
from tsds_jax.finetuning.optimiser import adamw, learning_rate_at
from tsds_jax.finetuning.parts import Trained, split_parts, whole
from tsds_jax.finetuning.scores import goodness, score
from tsds_jax.finetuning.target import all_outputs
from tsds_jax.finetuning.units import Units
from tsds_jax.options import FineTuneOptions
from tsds_jax.runtime.memory import no_room
from tsds_jax.runtime.progress import Progress, ProgressFn
from tsds_jax.runtime.spread import Spread

# Looks at the validation rows in a run, unless `evaluate_every` says otherwise.
LOOKS = 4
# What takes less memory: a run goes on with the first two, the others make another one of it.
_LESS = "remat, or shard on several devices; or accumulate, dtype bfloat16, a lower max_length or batch_size"

Log = Callable[[dict[str, Any]], None]


class Rows(NamedTuple):
    """Tokens of some rows, and their labels as `TextData` has them."""

    tokens: Tokenised
    labels: np.ndarray


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      trained: the parameters that train.
      moments: the optimizer's state.
    """

    trained: Trained
    moments: optax.OptState


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a step is compiled for, beside the shapes of its arguments; made by `the_plan`.

    Equal by identity, for jit hashes and compares it with every step: part by part that takes milliseconds.

    Attributes:
      graphdef: of the `Target`, whose encoder computes in ``dtype``.
      task: as in `FineTuneOptions`, and so are the others.
      label_smoothing: of the targets.
      scale: of what LoRA's adapters add.
      dtype: that the encoder computes in.
      remat: whether layers are computed again in the backward pass.
    """

    graphdef: nnx.GraphDef
    task: str
    label_smoothing: float
    scale: float
    dtype: str
    remat: bool


# One object for all that are alike.
the_plan = functools.cache(Plan)


@dataclasses.dataclass
class Loop:
    """Where a run is: all of it can be written as JSON.

    Attributes:
      step: steps taken.
      losses: of the steps since the last look.
      history: a dict a look.
      best: the best look's `goodness`.
      best_step: its step; 0 before the first look.
      worse: looks since then.
      stopped: whether patience has ended the run.
      seconds: that earlier tries of the run took, up to the checkpoint that this one went on from.
    """

    step: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: list[float] = dataclasses.field(default_factory=list)
    best_step: int = 0
    worse: int = 0
    stopped: bool = False
    seconds: float = 0.0


class Outcome(NamedTuple):
    """What `train` gives.

    Attributes:
      params: all parameters in the best state, adapters added to what they adapt.
      loop: where the run ended.
      trained: how many numbers trained.
    """

    params: nnx.State
    loop: Loop
    trained: int


def train(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    rows: Rows,
    watched: Rows | None,
    limit: int,
    options: FineTuneOptions,
    units: Units,
    spread: Spread,
    checkpoints: Checkpoints,
    log: Log,
    progress: ProgressFn,
) -> Outcome:
    """Take the steps, look at the watched rows now and then, and return the best state (without them the last).

    The parameters that train, in ``params``, are given away. A regression's train in ``units``; what is told and
    what comes back is in the data's.
    """
    started = time.perf_counter()
    params, targets = units.into(params), units.inside(rows.labels)
    steps = steps_for(options, len(rows.labels))
    every = options.evaluate_every or math.ceil(steps / LOOKS)
    key = jax.random.fold_in(jax.random.key(options.seed), 1)
    trained, frozen = split_parts(params, options, jax.random.fold_in(key, 0))
    scale = options.lora_alpha / options.lora_rank if options.tune == "lora" else 0.0
    plan = the_plan(graphdef, options.task, options.label_smoothing, scale, options.dtype, options.remat)
    state = TrainState(trained, adamw(0.0, options.weight_decay, options.clip).init(trained))
    # A copy, for the next step gives the state's memory away. Without watched rows the best is the last.
    best = None if watched is None else jax.tree.map(jnp.copy, trained)
    loop = Loop()
    earlier = checkpoints.restore((state, best))
    if earlier is not None:
        for array in jax.tree.leaves((state, best)):
            array.delete()  # the first step would have given their memory away
        (state, best), loop = earlier[0], Loop(**earlier[1])
        if spread.mesh is None:
            # Orbax gives NumPy's arrays back, with which NumPy would go on to compute.
            state, best = jax.tree.map(jnp.array, (state, best))
    state, best, frozen = spread.kept(state), spread.kept(best), spread.kept(frozen)

    def all_parameters(part: Trained) -> nnx.State:
        return units.back(_merged(spread.gathered(part), spread.gathered(frozen), scale))

    def outputs(part: Trained) -> np.ndarray:
        assert watched is not None
        tokens = watched.tokens
        target = nnx.merge(graphdef, all_parameters(part))
        return all_outputs(target, lambda: [tokens], len(watched.labels), limit)

    def batches() -> Iterator[tuple[np.ndarray, Any, jax.Array]]:
        """The rows of each step that is left, with what they and its number are to the step."""
        drawn = draw_batches(rows.tokens.lengths, options.batch_size, steps, options.seed)
        for step, chosen in enumerate(itertools.islice(drawn, loop.step, None), loop.step + 1):
            batch, places = training_batch(rows.tokens, chosen, limit, options.accumulate, spread.devices)
            arrays = batch, targets[chosen][places], (places >= 0).astype(np.float32)
            yield chosen, spread.by_rows(arrays, axis=1), jax.random.fold_in(key, step)

    def save() -> None:
        spent = loop.seconds + time.perf_counter() - started
        fetch = functools.partial(spread.fetched, (state, best))
        checkpoints.save(loop.step, fetch, dataclasses.asdict(loop) | {"seconds": spent})

    saved, made = loop.step, batches()
    following = next(made, None)
    while following is not None and not loop.stopped:
        (chosen, arrays, drops), began = following, time.perf_counter()
        loop.step += 1
        rate = learning_rate_at(loop.step - 1, options, steps)
        rates = np.asarray((rate, options.weight_decay, options.clip), np.float32)
        try:
            state, loss, norm = train_step(plan, spread, state, frozen, *arrays, drops, rates)
            following = next(made, None)  # made while the devices compute: they would wait for it behind the loss
            loop.losses.append(float(loss) * units.scale**2)
        except jax.errors.JaxRuntimeError as error:
            tokens = arrays[0].input_ids.shape[-1]
            raise no_room(error, f"a step of {len(chosen)} rows of {tokens} tokens", _LESS) from None
        # After the last step no loss would show what such a gradient has made of the weights.
        for name, number in (("loss", loop.losses[-1]), ("gradient's norm", float(norm))):
            if not math.isfinite(number):
                raise TsdsError(
                    f"fine-tuning: the {name} is {number} at step {loop.step}; lower the learning_rate "
                    f"(it is {options.learning_rate})"
                )
        log(
            {
                "step": loop.step,
                "loss": loop.losses[-1],
                "learning_rate": rate,
                "gradient_norm": float(norm),
                "rows": len(chosen),
                "tokens": int(rows.tokens.lengths[chosen].sum()),
                "seconds": round(time.perf_counter() - began, 4),
            }
        )
        progress(Progress("finetune", loop.step, steps, "steps", f"loss {loop.losses[-1]:.3f}"))
        if loop.step % every == 0 or loop.step == steps:
            scores = None if watched is None else score(outputs(state.trained), watched.labels, options.task)
            if _look(loop, scores, options) and best is not None:
                best = jax.tree.map(jnp.copy, state.trained)
            log(loop.history[-1])
        if checkpoints.due:
            save()
            saved = loop.step
    if saved < loop.step and checkpoints.due_at_the_end:
        with contextlib.suppress(OSError):  # a disk that is full must not take what was learned
            save()
    found = state.trained if best is None else best
    return Outcome(all_parameters(found), loop, optax.tree.size(found))


def _look(loop: Loop, scores: dict[str, float] | None, options: FineTuneOptions) -> bool:
    """Write a look into the loop, and say whether its state is the best so far; without scores the last is."""
    about: dict[str, Any] = {"step": loop.step, "train_loss": float(np.mean(loop.losses))}
    names = ("loss", "accuracy") if scores is None and options.task != "regression" else scores or ("loss",)
    about |= {f"validation_{name}": None if scores is None else scores[name] for name in names}
    loop.history.append(about)
    loop.losses = []
    found = None if scores is None else list(goodness(scores, options.task, options.best_by))
    if found is None or not loop.best or found > loop.best:
        loop.best, loop.best_step, loop.worse = found or [], loop.step, 0
        return True
    loop.worse += 1
    loop.stopped = loop.worse == options.patience
    return False


@functools.partial(jax.jit, static_argnames=("plan", "spread"), donate_argnames="state")
def train_step(
    plan: Plan,
    spread: Spread,
    state: TrainState,
    frozen: nnx.State,
    batch: Batch,
    labels: jax.Array,
    real: jax.Array,
    key: jax.Array,
    rates: jax.Array,
) -> tuple[TrainState, jax.Array, jax.Array]:
    """One step of AdamW on the mean loss of the real rows.

    Args:
      plan: what it is compiled for.
      spread: the devices, each with its share of the rows.
      state: given away.
      frozen: the parameters that do not train.
      batch: three arrays [parts, rows, tokens]; the parts are computed one after another.
      labels: [parts, rows], or of several labels [parts, rows, classes].
      real: [parts, rows], 1 for a row and 0 for one of padding alone.
      key: what dropout draws from.
      rates: learning rate, weight decay and clip: as an argument, so that other ones compile nothing.

    Returns:
      The state after the step, the mean loss, and the norm of its gradient before it is clipped.
    """
    rows = real.sum()

    def loss_of(trained: Trained, part: tuple[Batch, jax.Array, jax.Array], key: jax.Array) -> jax.Array:
        states = _lowered(whole(*spread.whole((trained, frozen)), plan.scale), plan.dtype)
        target = nnx.merge(plan.graphdef, *states)
        outputs = target(part[0], rngs=nnx.Rngs(dropout=key), remat=plan.remat)
        return (_losses(plan, outputs, part[1]) * part[2]).sum() / rows

    parts = (batch, labels, real)
    if len(real) == 1:
        only = jax.tree.map(lambda array: array[0], parts)
        loss, gradient = jax.value_and_grad(loss_of)(state.trained, only, key)
    else:

        def add(so_far: Any, part: Any) -> tuple[Any, None]:
            found = jax.value_and_grad(loss_of)(state.trained, part[0], jax.random.fold_in(key, part[1]))
            return jax.tree.map(jnp.add, so_far, found), None

        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trained))
        (loss, gradient), _ = jax.lax.scan(add, nothing, (parts, jnp.arange(len(real))))
    updates, moments = adamw(*rates).update(gradient, state.moments, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    return spread.kept_on(TrainState(trained, moments)), *spread.joined((loss, optax.tree.norm(gradient)))


def _losses(plan: Plan, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each row: squared error, or cross-entropy with smoothed targets, of several labels the mean over classes."""
    if plan.task == "regression":
        return jnp.square(outputs[:, 0] - labels)
    if plan.task == "multi_label":
        targets = labels * (1 - plan.label_smoothing) + plan.label_smoothing / 2
        return optax.sigmoid_binary_cross_entropy(outputs, targets).mean(1)
    if plan.label_smoothing:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, outputs.shape[1]), plan.label_smoothing)
        return optax.softmax_cross_entropy(outputs, targets)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def _lowered(states: tuple[nnx.State, ...], dtype: str) -> tuple[nnx.State, ...]:
    """The encoder's parameters in that precision, the head's and tables as they are.

    A row of a table gets the gradients of all its tokens, thousands of a segment's: their sum needs the digits.
    """
    if dtype == "float32":
        return states

    def lowers(path: tuple[Any, ...]) -> bool:
        return path[0] == "encoder" and path[-1] != "embedding"

    return tuple(
        nnx.from_flat_state(
            [
                (path, param.replace(param[...].astype(dtype)) if lowers(path) else param)
                for path, param in nnx.to_flat_state(state)
            ]
        )
        for state in states
    )


def _merged(trained: Trained, frozen: nnx.State, scale: float) -> nnx.State:
    """All parameters as one state, in the order in which the module has them."""
    flat = [pair for state in whole(trained, frozen, scale) for pair in nnx.to_flat_state(state)]
    return nnx.from_flat_state(sorted(flat, key=lambda pair: pair[0]))
