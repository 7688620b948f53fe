"""The target model: a pretrained encoder with a classification head, fine-tuned on the rows it is given."""

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
import scipy.special
from flax import nnx

from tsds_jax.data import TextData, load_data
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.encoders.embed import LADDER, batch_tokens
from tsds_jax.encoders.families import Config, new_encoder
from tsds_jax.encoders.modeling import Dropout
from tsds_jax.encoders.pooling import POOLINGS, pooling_named
from tsds_jax.encoders.tokens import Batch, Texts, Tokenised, bucket_lengths, pad, plan_batches, tokenise
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.evaluation import accuracy, macro_f1
from tsds_jax.options import FineTuneOptions
from tsds_jax.runtime.progress import Progress, ProgressFn, silent

# Looks at the validation rows in a run, unless `evaluate_every` says otherwise.
LOOKS = 4
# The most batches whose rows are sorted by length together.
STRETCH = 16
# A length counts as up to this much longer there: sorted exactly, few rows would make the same batches every epoch.
ROUGHNESS = 1.1
# Finer than for embedding, as a step costs three times as much and a batch is as long as its longest text.
TRAINING_LADDER = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def check_options(options: FineTuneOptions) -> None:
    """Raise InputError for the first option that is out of range, by its name."""
    pooling_named(options.pooling)
    for name, (allowed, words) in _ALLOWED.items():
        value = getattr(options, name)
        if not allowed(value):
            raise InputError(f"fine-tuning option {name} must be {words}, not {value!r:.60}")


def steps_for(options: FineTuneOptions, rows: int) -> int:
    """Gradient steps of a run on that many training rows."""
    return options.steps if options.steps is not None else math.ceil(options.epochs * rows / options.batch_size)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda x: _number(x) and x > 0, "a number above 0"),
    "steps": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "batch_size": (lambda x: _whole(x) and x > 0, "a whole number above 0"),
    "learning_rate": (lambda x: _number(x) and x > 0, "a number above 0"),
    "warmup": (lambda x: _number(x) and 0 <= x <= 1, "a share from 0 to 1"),
    "weight_decay": (lambda x: _number(x) and x >= 0, "a number from 0"),
    "clip": (lambda x: _number(x) and x > 0, "a number above 0"),
    "dropout": (lambda x: x is None or (_number(x) and 0 <= x < 1), "from 0 to below 1, or None"),
    "max_length": (lambda x: _whole(x) and x >= 4, "a whole number from 4"),
    "evaluate_every": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "patience": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "seed": (lambda x: _whole(x) and 0 <= x < 2**32, "a whole number from 0 to 4294967295"),
}


class Classifier(nnx.Module):
    """Encoder, pooling, dropout and one linear map onto the classes."""

    def __init__(self, config: Config, classes: int, pooling: str, *, rngs: nnx.Rngs):
        """Make it with random weights."""
        self.encoder = new_encoder(config, rngs=rngs)
        self.dropout = Dropout(config.head_dropout)
        self.head = nnx.Linear(config.hidden_size, classes, rngs=rngs)
        self.pooling = pooling

    def __call__(self, batch: Batch, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits [rows, classes]; dropout is on if there are rngs."""
        ids, mask, types = map(jnp.asarray, batch)
        pooled = POOLINGS[self.pooling](self.encoder(ids, mask, types, rngs=rngs), mask)
        return self.head(self.dropout(pooled, rngs))


@dataclasses.dataclass(frozen=True)
class TargetModel:
    """A fine-tuned model with all that it needs to classify texts.

    Attributes:
      module: the Flax NNX module.
      tokenizer: of the encoder that was fine-tuned.
      config: that encoder's.
      classes: names of the classes, in the order of the logits.
      max_length: tokens that longer texts are cut to.
    """

    module: Classifier
    tokenizer: Any
    config: Config
    classes: tuple[str, ...]
    max_length: int

    def probabilities(self, texts: Texts, *, progress: ProgressFn = silent) -> np.ndarray:
        """Class probabilities, float32 [texts, classes]."""
        return self._of_tokens(tokenise(self.tokenizer, texts, self.max_length, self.config), progress)

    def _of_tokens(self, tokenised: Tokenised, progress: ProgressFn = silent) -> np.ndarray:
        graphdef, params = nnx.split(self.module)
        logits = all_logits(graphdef, params, tokenised, self.max_length, len(self.classes), progress)
        return scipy.special.softmax(logits, axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """What `finetune` gives.

    Attributes:
      classes: names of the classes.
      probabilities: float32 [evaluation rows, classes], or None without evaluation rows.
      predictions: int32 [evaluation rows], or None.
      metrics: "accuracy" and "macro_f1" on the evaluation rows; empty without them.
      history: a dict a look: step, train_loss (the mean since the last look), validation_loss and
        validation_accuracy (None without validation rows).
      steps: gradient steps taken.
      best_step: the step whose weights the model has.
      seconds: wall time of the whole call.
      truncated: training, validation and evaluation texts that were cut at `max_length` tokens (or at the encoder's
        limit, if that is lower).
      model: the best state on the validation rows; without them, the last.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray | None
    predictions: np.ndarray | None
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    steps: int
    best_step: int
    seconds: float
    truncated: int
    model: TargetModel


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      params: the classifier's weights.
      moments: the optimizer's state.
    """

    params: nnx.State
    moments: optax.OptState


def finetune(
    model: Encoder | str,
    train: Any,
    *,
    validation: Any = None,
    evaluation: Any = None,
    text: Any = None,
    label: str | None = None,
    options: FineTuneOptions | None = None,
    progress: ProgressFn = silent,
) -> FineTuned:
    """Fine-tune an encoder as a classifier with AdamW, and evaluate it.

    The same options on the same rows give the same weights on one machine. The encoder that is given
    stays as it is.

    Args:
      model: an `Encoder`, or what `load_encoder` takes.
      train: a `TextData`, or what `load_data` takes.
      validation: rows that decide which step's weights are kept: the highest accuracy, then the lowest loss.
      evaluation: rows to report metrics on; they decide nothing.
      text: the text column, or two of them, where rows are still to be read; by default those of `train` if it is
        a `TextData`, else "text".
      label: the label column, likewise; by default that of `train`, else "label".
      options: by default ``FineTuneOptions()``.
      progress: called after each step with its loss, stage "finetune".

    Raises:
      InputError: an option, a row or a source cannot be used.
      TsdsError: the loss is not finite.

    Example:
      >>> result = finetune("models/minilm", "train.csv", validation="dev.csv", evaluation="test.csv")
      >>> result.metrics["accuracy"]
      0.91
    """
    started = time.perf_counter()
    options = options or FineTuneOptions()
    check_options(options)
    if isinstance(train, TextData):
        text = train.text_columns if text is None else text
        label = train.label_column if label is None else label
    train_data = load_data(train, text=text, label=label, role="train")
    classes = train_data.classes
    if len(train_data) == 0:
        raise InputError("fine-tuning has no training rows; give at least one")

    def held_out(source: Any, role: str) -> TextData | None:
        if source is None:
            return None
        data = load_data(source, text=text, label=label, classes=classes, role=role)
        return data if len(data) > 0 else None

    valid, test = held_out(validation, "validation"), held_out(evaluation, "test")
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    limit = min(options.max_length, encoder.config.max_tokens)

    def tokens_of(data: TextData) -> Tokenised:
        return tokenise(encoder.tokenizer, data.texts, limit, encoder.config)

    rows = _Rows(tokens_of(train_data), train_data.labels)
    watched = None if valid is None else _Rows(tokens_of(valid), valid.labels)
    tested = None if test is None else _Rows(tokens_of(test), test.labels)
    graphdef, params = new_classifier(encoder, len(classes), options)
    trained = _train(graphdef, params, rows, watched, len(classes), limit, options, progress)
    target = TargetModel(nnx.merge(graphdef, trained.params), encoder.tokenizer, encoder.config, classes, limit)
    probabilities = predictions = None
    metrics: dict[str, float] = {}
    if tested is not None:
        probabilities = target._of_tokens(tested.tokens)
        predictions = probabilities.argmax(axis=1).astype(np.int32)
        metrics = {
            "accuracy": accuracy(tested.labels, predictions),
            "macro_f1": macro_f1(tested.labels, predictions, len(classes)),
        }
    return FineTuned(
        classes,
        probabilities,
        predictions,
        metrics,
        trained.history,
        trained.steps,
        trained.best_step,
        time.perf_counter() - started,
        sum(part.tokens.truncated for part in (rows, watched, tested) if part is not None),
        target,
    )


class _Rows(NamedTuple):
    tokens: Tokenised
    labels: np.ndarray


class _Trained(NamedTuple):
    params: nnx.State
    history: list[dict[str, Any]]
    steps: int
    best_step: int


def _train(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    rows: _Rows,
    watched: _Rows | None,
    classes: int,
    limit: int,
    options: FineTuneOptions,
    progress: ProgressFn,
) -> _Trained:
    """Take the steps, look at the watched rows now and then, and return the best state (without them the last)."""
    steps = steps_for(options, len(rows.labels))
    every = options.evaluate_every or math.ceil(steps / LOOKS)
    state = TrainState(params, adamw(0.0, options.weight_decay, options.clip).init(params))
    key = jax.random.fold_in(jax.random.key(options.seed), 1)
    best_score, best_params, best_step, worse = (-1.0, 0.0), params, 0, 0
    history: list[dict[str, Any]] = []
    losses: list[float] = []
    step = 0
    for chosen in draw_batches(rows.tokens.lengths, options.batch_size, steps, options.seed):
        step += 1
        length = _padded_length(rows.tokens, chosen, limit)
        batch = pad(rows.tokens, chosen, length, len(chosen))
        rates = learning_rate_at(step - 1, options, steps), options.weight_decay, options.clip
        state, loss = _step(
            graphdef, state, batch, rows.labels[chosen], jax.random.fold_in(key, step), np.asarray(rates, np.float32)
        )
        losses.append(float(loss))
        if not math.isfinite(losses[-1]):
            raise TsdsError(
                f"fine-tuning: the loss is {losses[-1]} at step {step}; lower the learning_rate "
                f"(it is {options.learning_rate})"
            )
        progress(Progress("finetune", step, steps, "steps", f"loss {losses[-1]:.3f}"))
        if step % every and step < steps:
            continue
        look: dict[str, Any] = {"step": step, "train_loss": float(np.mean(losses))}
        losses = []
        history.append(look | {"validation_loss": None, "validation_accuracy": None})
        if watched is None:
            continue
        score = _score(all_logits(graphdef, state.params, watched.tokens, limit, classes), watched.labels)
        history[-1] |= {"validation_loss": -score[1], "validation_accuracy": score[0]}
        if score > best_score:
            # A copy, for the next step gives the state's memory away.
            best_score, best_params, best_step, worse = score, jax.tree.map(jnp.copy, state.params), step, 0
        else:
            worse += 1
        if worse == options.patience:
            break
    if watched is None:
        best_params, best_step = state.params, step
    return _Trained(best_params, history, step, best_step)


@functools.partial(jax.jit, static_argnames="graphdef", donate_argnames="state")
def _step(
    graphdef: nnx.GraphDef,
    state: TrainState,
    batch: Batch,
    labels: jax.Array,
    key: jax.Array,
    rates: jax.Array,
) -> tuple[TrainState, jax.Array]:
    # Learning rate, weight decay and clip are arguments, so that other ones compile nothing.
    def loss_of(params: nnx.State) -> jax.Array:
        logits = nnx.merge(graphdef, params)(batch, rngs=nnx.Rngs(dropout=key))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    updates, moments = adamw(*rates).update(gradient, state.moments, state.params)
    return TrainState(optax.apply_updates(state.params, updates), moments), loss


def adamw(learning_rate: Any, weight_decay: Any, clip: Any) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with weight decay where `decays` says so."""
    return optax.chain(
        optax.clip_by_global_norm(clip), optax.adamw(learning_rate, weight_decay=weight_decay, mask=decays)
    )


def learning_rate_at(step: int, options: FineTuneOptions, steps: int) -> float:
    """The rate of a step, counted from 0: a straight line up to the peak, then one down, to 0 after the last.

    No step has a rate of 0.
    """
    rising = min(int(options.warmup * steps), steps - 1)
    return options.learning_rate * min((step + 1) / (rising + 1), (steps - step) / (steps - rising))


def decays(params: nnx.State) -> nnx.State:
    """True for matrices and embeddings, False for all of one dimension: biases and layer norms."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def draw_batches(lengths: np.ndarray, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of each step: one shuffle after another, cut into full batches of texts of like length.

    The shuffles are one stream, so at the end every row was used as often as any other, give or take one. Each stretch
    of it, of at most 16 batches and within one shuffle, is roughly sorted by length before it is cut, and its batches
    come in random order: a batch is as long as its longest text, and of random tweets two fifths would be padding. A
    batch that one shuffle ends and the next begins is not sorted, and takes from the next those rows that it lacks.
    So no batch repeats a row if there are `batch_size` rows; if there are fewer, it repeats all alike, give or take
    one.

    Args:
      lengths: tokens of each row, ``[rows]``.
      batch_size: rows of a step.
      steps: batches to draw.
      seed: decides them.
    """
    rows, left = len(lengths), steps
    begun = np.empty(0, dtype=np.int64)  # what the last shuffle left over, for a batch across two of them
    for epoch in itertools.count():
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(rows)
        if len(begun) or batch_size > rows:
            begun = np.concatenate([begun, np.tile(np.arange(rows), (batch_size - len(begun)) // rows)])
            rarest_first = order[np.argsort(np.bincount(begun, minlength=rows)[order], kind="stable")]
            taken = rarest_first[: batch_size - len(begun)]
            yield np.concatenate([begun, taken])
            left -= 1
            # The rest stays shuffled: by rarity, the same rows would be left over again and again.
            order = order[~np.isin(order, taken)]
        full = min(len(order) // batch_size, left)
        for stretch in np.array_split(order[: full * batch_size].reshape(full, batch_size), -(-full // STRETCH) or 1):
            members = stretch.ravel()
            rough = lengths[members] * generator.uniform(1.0, ROUGHNESS, members.size)
            yield from generator.permutation(members[np.argsort(rough)].reshape(stretch.shape))
        left -= full
        if left == 0:
            return
        begun = order[full * batch_size :]


def new_classifier(encoder: Encoder, classes: int, options: FineTuneOptions) -> tuple[nnx.GraphDef, nnx.State]:
    """A classifier with a copy of the encoder's weights; its head is drawn from N(0, 0.02), with zero biases."""
    config = encoder.config if options.dropout is None else encoder.config.with_dropout(options.dropout)
    graphdef, abstract = nnx.split(
        nnx.eval_shape(lambda: Classifier(config, classes, options.pooling, rngs=nnx.Rngs(0)))
    )
    # Copies, for the training step gives the memory of its state away, and the encoder is the caller's.
    pretrained = {
        ("encoder", *path): jnp.copy(param[...]) for path, param in nnx.to_flat_state(nnx.state(encoder.model))
    }
    key = jax.random.fold_in(jax.random.key(options.seed), 0)
    head = {
        ("head", "kernel"): 0.02 * jax.random.normal(key, (config.hidden_size, classes)),
        ("head", "bias"): jnp.zeros(classes),
    }
    values = pretrained | head
    return graphdef, nnx.from_flat_state(
        [(path, param.replace(values[path])) for path, param in nnx.to_flat_state(abstract)]
    )


def all_logits(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokens: Tokenised,
    limit: int,
    classes: int,
    progress: ProgressFn = silent,
) -> np.ndarray:
    """Logits without dropout, float32 [texts, classes], in batches of a few fixed shapes."""
    logits = np.zeros((len(tokens), classes), dtype=np.float32)
    done = 0
    for portion in plan_batches(tokens.lengths, limit, LADDER, batch_tokens()):
        logits[portion.rows] = _logits(graphdef, params, portion.batch(tokens))[: len(portion.rows)]
        done += len(portion.rows)
        progress(Progress("predict", done, len(tokens), "texts"))
    return logits


@functools.partial(jax.jit, static_argnames="graphdef")
def _logits(graphdef: nnx.GraphDef, params: nnx.State, batch: Batch) -> jax.Array:
    return nnx.merge(graphdef, params)(batch)


def _padded_length(tokens: Tokenised, rows: np.ndarray, limit: int) -> int:
    longest = max(len(tokens.ids[row]) for row in rows)
    return next(length for length in bucket_lengths(limit, TRAINING_LADDER) if length >= longest)


def _score(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(accuracy, minus the mean loss): the larger, the better."""
    logits = logits.astype(np.float64)
    log_likelihood = logits[np.arange(len(labels)), labels] - scipy.special.logsumexp(logits, axis=1)
    return accuracy(labels, logits.argmax(axis=1)), float(log_likelihood.mean())
