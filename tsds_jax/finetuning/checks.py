"""Every option of fine-tuning is refused by its name, before any work, where it is out of range."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from tsds_jax.arrays import is_number
from tsds_jax.data import TextData
from tsds_jax.encoders import Encoder
from tsds_jax.encoders.heads import HEADS
from tsds_jax.encoders.precision import check_dtype
from tsds_jax.encoders.tokens import check_texts, token_portions
from tsds_jax.errors import InputError
from tsds_jax.finetuning.parts import finds_part
from tsds_jax.finetuning.scores import METRICS
from tsds_jax.options import FineTuneOptions, build


def checked_options(
    options: FineTuneOptions | None, changes: Mapping[str, Any] = MappingProxyType({})
) -> FineTuneOptions:
    """The options, by default the defaults, with these in place of some, and NumPy's numbers as Python's.

    Raises:
      InputError: the first option that is out of range, by its name, or one that there is not.
    """
    if options is not None:
        check_kind(options, "options")
    if {"epochs", "steps"} <= changes.keys():
        raise InputError("epochs and steps both say how long to train: give one of them")
    # Of options given together the steps would win over epochs that were asked for by themselves.
    given = {**changes, "steps": None} if "epochs" in changes else changes
    found = build(FineTuneOptions, {**vars(options or FineTuneOptions()), **given})
    for name, (allowed, words) in _ALLOWED.items():
        value = getattr(found, name)
        if not allowed(value):
            raise InputError(f"fine-tuning option {name} must be {words}, not {value!r:.60}")
    if found.best_by is not None and found.best_by not in METRICS[found.task]:
        raise InputError(
            f"fine-tuning option best_by must be one of {', '.join(METRICS[found.task])} in {found.task}, "
            f"not {found.best_by!r:.60}"
        )
    if found.task == "regression" and found.label_smoothing:
        raise InputError("fine-tuning option label_smoothing must be 0 in regression, which has no classes to smooth")
    return found


def check_kind(options: object, name: str) -> None:
    """Raise InputError for an argument of this name that is no `FineTuneOptions`."""
    if not isinstance(options, FineTuneOptions):
        raise InputError(f"{name} is a {type(options).__name__}: give FineTuneOptions(...)")


def check_fits(options: FineTuneOptions, encoder: Encoder) -> None:
    """Raise InputError for an option that the encoder, or a device, cannot meet, before any of the long work."""
    for device in jax.local_devices():
        check_dtype(options.dtype, device)
    layers = encoder.config.num_hidden_layers
    if options.frozen_layers > layers:
        raise InputError(
            f"fine-tuning option frozen_layers must be at most {layers}, the layers of the model, "
            f"not {options.frozen_layers}"
        )
    # Of "all" with every layer frozen the head is left too, but so it was asked for.
    if options.tune in ("biases", "lora") and not finds_part(encoder.model, options):
        raise InputError(
            f"fine-tuning option tune {options.tune} finds nothing to train in this model with frozen_layers "
            f"{options.frozen_layers}: give tune head to train the head alone, or another"
        )


def check_tokens(parts: Iterable[TextData | None], encoder: Encoder, max_length: int) -> None:
    """Raise InputError for a row that the tokenizer or the encoder cannot take, before an old run makes room for it."""
    limit = min(max_length, encoder.config.max_tokens)
    for part in parts:
        if part is not None:
            check_texts(part.texts)
            for _ in token_portions(encoder.tokenizer, part.texts, limit, encoder.config):
                pass


def lasting(options: FineTuneOptions) -> dict[str, Any]:
    """The options that make a run this run, as JSON values: all but how its memory is used, which a run may change."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in ("remat", "shard")}


def steps_for(options: FineTuneOptions, rows: int) -> int:
    """Gradient steps of a run on that many training rows."""
    # Rounded, for 1.1 times 1,600 rows are a little more than 1,760 in floats.
    passes = round(options.epochs * rows / options.batch_size, 9)
    return options.steps if options.steps is not None else max(1, math.ceil(passes))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _among(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda x: isinstance(x, str) and x in names, f"one of {', '.join(names)}"


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": _among(*METRICS),
    "head": _among(*HEADS),
    "epochs": (lambda x: is_number(x) and x > 0, "a number above 0"),
    "steps": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "batch_size": (lambda x: _whole(x) and x > 0, "a whole number above 0"),
    "accumulate": (lambda x: _whole(x) and x > 0, "a whole number above 0"),
    "learning_rate": (lambda x: is_number(x) and x > 0, "a number above 0"),
    "schedule": _among("linear", "cosine", "constant"),
    "warmup": (lambda x: is_number(x) and 0 <= x <= 1, "a share from 0 to 1"),
    "weight_decay": (lambda x: is_number(x) and x >= 0, "a number from 0"),
    "clip": (lambda x: is_number(x) and x > 0, "a number above 0"),
    "dropout": (lambda x: x is None or (is_number(x) and 0 <= x < 1), "from 0 to below 1, or None"),
    "label_smoothing": (lambda x: is_number(x) and 0 <= x < 1, "from 0 to below 1"),
    "tune": _among("all", "head", "biases", "lora"),
    "frozen_layers": (lambda x: _whole(x) and x >= 0, "a whole number from 0"),
    "lora_rank": (lambda x: _whole(x) and x > 0, "a whole number above 0"),
    "lora_alpha": (lambda x: is_number(x) and x > 0, "a number above 0"),
    "lora_on": _among("query_value", "all"),
    "dtype": _among("float32", "bfloat16"),
    "remat": (lambda x: isinstance(x, bool), "True or False"),
    "shard": (lambda x: isinstance(x, bool), "True or False"),
    "max_length": (lambda x: _whole(x) and x >= 4, "a whole number from 4"),
    "evaluate_every": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "patience": (lambda x: x is None or (_whole(x) and x > 0), "a whole number above 0, or None"),
    "best_by": (lambda x: x is None or isinstance(x, str), "the name of a metric, or None"),
    "seed": (lambda x: _whole(x) and 0 <= x < 2**32, "a whole number from 0 to 4294967295"),
}
