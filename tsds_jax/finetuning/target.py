"""The target model: an encoder with a head, that classifies or scores texts, is saved and loaded."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from flax import nnx

from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.encoders.batches import fill_batches
from tsds_jax.encoders.embed import batch_rows, with_room_for_rows
from tsds_jax.encoders.families import Config, new_encoder
from tsds_jax.encoders.heads import Head, HeadConfig, head_config
from tsds_jax.encoders.params import NAME_TABLES, encoder_tensors, head_names
from tsds_jax.encoders.precision import exact_products
from tsds_jax.encoders.saving import CLASS_PREFIXES, check_new_folder, save_folder
from tsds_jax.encoders.structure import Structure, split_model
from tsds_jax.encoders.tokens import Batch, Texts, Tokenised, check_texts, token_portions
from tsds_jax.errors import InputError
from tsds_jax.finetuning.parts import dotted
from tsds_jax.finetuning.units import Units
from tsds_jax.runtime.ahead import ahead, one_behind
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.runtime.spread import ONE_DEVICE, Spread, over_all_devices


class Target(nnx.Module):
    """An encoder and a head."""

    def __init__(self, config: Config, head: HeadConfig, outputs: int, *, rngs: nnx.Rngs):
        """Make it with random weights."""
        self.encoder = new_encoder(config, rngs=rngs)
        self.head = Head(head, outputs, rngs=rngs)

    def __call__(self, batch: Batch, *, rngs: nnx.Rngs | None = None, remat: bool = False) -> jax.Array:
        """Outputs [rows, classes] in float32; dropout is on if there are rngs. For remat see `Transformer`."""
        ids, mask, types = map(jnp.asarray, batch)
        hidden = self.encoder(ids, mask, types, rngs=rngs, remat=remat)
        if self.head.config.pad is not None:
            # As in transformers, which knows a text's end by its tokens alone: some tokenizers end it with padding.
            mask = mask * (ids != self.head.config.pad)
        return self.head(hidden.astype(jnp.float32), mask, rngs)


@dataclasses.dataclass(frozen=True)
class TargetModel:
    """A fine-tuned model with all that it needs to judge texts.

    Attributes:
      module: the Flax NNX module.
      base: the encoder that was fine-tuned, for its config and tokenizer; its weights are those of ``module``.
      head: the name of the head, a member of `HEADS`.
      classes: names of the classes, in the order of the logits; none in regression.
      max_length: tokens that longer texts are cut to.
      task: as in `FineTuneOptions`.
    """

    module: Target
    base: Encoder
    head: str
    classes: tuple[str, ...]
    max_length: int
    task: str = "classification"

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        outputs = f"{len(self.classes)} classes" if self.classes else "a number"
        return f"TargetModel({self.base.name!r}, {self.task} by head {self.head!r}, {outputs})"

    @property
    def encoder(self) -> Encoder:
        """The fine-tuned encoder, for its representations or to be fine-tuned on: where `select` takes a model.

        What it knows of a head is this model's.
        """
        settings = self._settings()  # the names of its classes too, by which the head is taken over or not
        return self.base.with_model(self.module.encoder, settings=settings, head=self._head_tensors())

    def outputs(self, texts: Texts, *, progress: ProgressFn = silent) -> np.ndarray:
        """Logits, float32 [texts, classes], or in regression numbers, float32 [texts, 1]."""
        check_texts(texts)

        def portions() -> Iterator[Tokenised]:
            return ahead(token_portions(self.base.tokenizer, texts, self.max_length, self.base.config))

        return all_outputs(self.module, portions, len(texts), self.max_length, progress)

    def predict(self, texts: Texts, *, progress: ProgressFn = silent) -> np.ndarray:
        """The likeliest class of each text, int32 [texts], places in ``classes``.

        Of several labels, which classes have a probability of 1/2 or more, bool [texts, classes]; of a regression,
        numbers, float32 [texts].
        """
        return decided(self.outputs(texts, progress=progress), self.task)

    def probabilities(self, texts: Texts, *, progress: ProgressFn = silent) -> np.ndarray:
        """Class probabilities, float32 [texts, classes], that sum to 1 or, of several labels, are each its own.

        Raises:
          InputError: the model gives numbers and knows no classes.
        """
        if self.task == "regression":
            raise InputError("a model of a regression gives no probabilities; ask for predict()")
        return probabilities(self.outputs(texts, progress=progress), self.task)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write a folder that `load_target` reads: config.json, model.safetensors and the tokenizer.

        With the family's own head, transformers' ``AutoModelForSequenceClassification`` with PyTorch reads it too and
        gives the same logits; with another, its ``AutoModel`` reads the encoder.

        Args:
          folder: a new or an empty one; it is whole or absent.

        Raises:
          InputError: there is something in the folder, or it cannot be written.

        Example:
          >>> from tsds_jax import finetune
          >>> finetune("models/minilm", "train.csv").model.save_pretrained("models/tuned")
          PosixPath('models/tuned')
        """
        check_new_folder(folder)
        family = self.base.config.model_type
        # The encoder's names with the family's prefix, and the head's without; BERT's pooler counts as the encoder's.
        prefix = NAME_TABLES[family].prefix
        tensors = {prefix + name: tensor for name, tensor in encoder_tensors(self.module.encoder, family).items()}
        for name, tensor in self._head_tensors().items():
            tensors[prefix + name if name.startswith("pooler.") else name] = tensor
        return save_folder(folder, self._settings(), tensors, self.base)

    def _head_tensors(self) -> dict[str, np.ndarray]:
        names = head_names(self.module.head.config).items()
        state = {dotted(path): param for path, param in nnx.to_flat_state(nnx.state(self.module.head))}
        # Both transforms undo themselves; a bias that the head goes without has no tensor.
        return {name: back(np.asarray(state[path][...])) for name, (path, back) in names if path in state}

    def _settings(self) -> dict[str, Any]:
        family = self.base.config.model_type
        kind = "ForSequenceClassification" if self.head == "own" else "Model"
        names = self.classes or ("LABEL_0",)
        settings = {
            **self.base.settings,
            "architectures": [CLASS_PREFIXES[family] + kind],
            "id2label": {str(place): name for place, name in enumerate(names)},
            "label2id": {name: place for place, name in enumerate(names)},
            "problem_type": _PROBLEM_TYPES[self.task],
            _OURS: {"head": self.head, "max_length": self.max_length},
        }
        pad = self.module.head.config.pad
        return settings if pad is None or pad < 0 else settings | {"pad_token_id": pad}


# What transformers calls the tasks.
_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Ends of the names of transformers' classes whose heads have parts of the same names: of tokens, answers, choices.
_NOT_OF_TEXTS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
# Where config.json says what transformers has no key for.
_OURS = "tsds_jax"


def load_target(name: str | os.PathLike[Any]) -> TargetModel:
    """Load a fine-tuned model: one that `TargetModel.save_pretrained` wrote, or any of transformers with its own head.

    Args:
      name: a folder, or a hub name, as in `load_encoder`.

    Raises:
      InputError: as `load_encoder`, or a part of the head is missing, it is one of tokens (``architectures`` in
        config.json says so), or it gives several numbers a text.

    Example:
      >>> from tsds_jax import finetune
      >>> folder = finetune("models/minilm", "train.csv").model.save_pretrained("models/target")
      >>> load_target(folder).probabilities(["a text"]).shape
      (1, 2)
    """
    base = load_encoder(name)
    ours = _ours(base.settings)
    head = ours.get("head", "own")
    config = head_config(head, base.settings, base.config)
    other = _not_of_texts(base.settings)
    if head == "own" and other:
        raise InputError(f"{base.folder} is a {other}, whose head is for no text's class: fine-tune the model first")
    if f"{config.out}.weight" not in base.head:
        raise InputError(f"{base.folder} has no head ({config.out}.weight): fine-tune the model first")
    outputs = len(base.head[f"{config.out}.weight"])
    kinds = {theirs: ours for ours, theirs in _PROBLEM_TYPES.items()}
    task = kinds.get(str(base.settings.get("problem_type")), "classification")
    if outputs == 1 and task == "classification":
        task = "regression"  # as transformers has it: of one class there is nothing to choose
    if outputs > 1 and task == "regression":
        raise InputError(
            f"{base.folder} is a regression (problem_type in config.json) onto {outputs} numbers, and one is supported "
            "here; give a model of one, or of classes"
        )
    classes = () if task == "regression" else class_names(base.settings, outputs)
    limit = ours.get("max_length", base.config.max_tokens)
    limit = limit if isinstance(limit, int) and 4 <= limit <= base.config.max_tokens else base.config.max_tokens
    graphdef, params, fresh = new_target(base, outputs, classes, head, seed=0)
    if fresh:
        raise InputError(f"the head in {base.folder} lacks {fresh[0]}: fine-tune the model first")
    module = nnx.merge(graphdef, params)
    # Not the weights a second time.
    return TargetModel(module, base.with_model(module.encoder), head, classes, limit, task)


def _ours(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `save_pretrained` has said of itself in a config.json."""
    found = settings.get(_OURS)
    return found if isinstance(found, dict) else {}


def _not_of_texts(settings: Mapping[str, Any]) -> str | None:
    """What the checkpoint is, where its head is for tokens or choices."""
    named = settings.get("architectures")
    names = map(str, named if isinstance(named, list) else ())
    return next((name for name in names if name.endswith(_NOT_OF_TEXTS)), None)


def class_names(settings: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """The names that a config.json gives its classes, else ``LABEL_0`` and so on, as transformers calls them."""
    given = settings.get("id2label")
    places = [str(place) for place in range(outputs)]
    if isinstance(given, dict) and set(given) == set(places) and all(isinstance(name, str) for name in given.values()):
        return tuple(given[place] for place in places)
    return tuple(f"LABEL_{place}" for place in places)


def new_target(
    encoder: Encoder,
    outputs: int,
    classes: tuple[str, ...],
    head: str,
    *,
    seed: int,
    dropout: float | None = None,
    units: Units = Units(),  # noqa: B008 - a tuple, and nobody changes it
    spread: Spread = ONE_DEVICE,
) -> tuple[nnx.GraphDef, nnx.State, tuple[str, ...]]:
    """A target model with copies of an encoder's weights, and of its head's where they fit.

    The map onto the outputs is taken over only where the checkpoint's classes have these names, in whatever order, or
    have none and these are their places, "0" and so on: which of several named ones an output is for nobody knows. So
    is that of a pooling only for the same one, and none of tokens or choices. What the checkpoint does not give starts
    fresh: kernels from N(0, 0.02), norms as ones, biases as zeros; the map onto the outputs of a regression so in its
    ``units``. Each goes to the devices of ``spread`` before the next is made.

    Returns:
      The module's two parts, and the checkpoint's names of the parameters that start fresh.
    """
    config = encoder.config if dropout is None else encoder.config.with_dropout(dropout)
    about = head_config(head, encoder.settings, encoder.config)
    about = about if dropout is None else dataclasses.replace(about, dropout=dropout)
    theirs = class_names(encoder.settings, outputs)
    places = tuple(map(str, range(outputs)))
    unnamed = classes == places and theirs == class_names({}, outputs)
    named = len(set(theirs)) == outputs and set(theirs) == set(classes)
    same = not classes or unnamed or named or theirs == classes
    if head == "own":
        same = same and not _not_of_texts(encoder.settings)
    else:
        same = same and _ours(encoder.settings).get("head", head) == head
    # Of each class here, its place there.
    order = [theirs.index(name) for name in classes] if named else list(range(outputs))
    if about.pad is not None and encoder.own_tokenizer is not None:
        # It fills texts up there, if the encoder has it; a head that is taken over was trained with the config's.
        pad, map_there = encoder.tokenizer.pad_token_id, encoder.head.get(f"{about.out}.weight")
        taken_over = same and map_there is not None and len(map_there) == outputs
        if (about.pad < 0 or not taken_over) and pad is not None and pad < encoder.config.vocab_size:
            about = dataclasses.replace(about, pad=pad)
    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: Target(config, about, outputs, rngs=nnx.Rngs(0))))
    # Copies, for the training step gives the memory of its state away, and the encoder is the caller's.
    values = {
        ("encoder", *path): spread.kept(jnp.array(param[...], jnp.float32))
        for path, param in nnx.to_flat_state(nnx.state(encoder.model))
    }
    key = jax.random.fold_in(jax.random.key(seed), 0)
    names = {path: (name, transform) for name, (path, transform) in head_names(about).items()}
    fresh = []
    for number, (path, param) in enumerate(nnx.to_flat_state(abstract)):
        if path[0] != "head":
            continue
        name, transform = names[dotted(path[1:])]
        stored = transform(encoder.head[name]) if name in encoder.head else None
        if stored is not None and stored.shape == param.shape and (path[1] != "out" or same):
            values[path] = jnp.asarray(stored[..., order] if path[1] == "out" else stored)
            continue
        fresh.append(name)
        if path[-1] == "kernel":
            size = 0.02 * (units.scale if path[1] == "out" else 1.0)
            values[path] = size * jax.random.normal(jax.random.fold_in(key, number), param.shape)
        else:
            first = 1.0 if path[-1] == "scale" else units.middle if path[1] == "out" else 0.0
            values[path] = jnp.full(param.shape, first, jnp.float32)  # else a weak type, and two compilations
    params = [(path, param.replace(spread.kept(values[path]))) for path, param in nnx.to_flat_state(abstract)]
    return graphdef, nnx.from_flat_state(params), tuple(fresh)


def decided(outputs: np.ndarray, task: str) -> np.ndarray:
    """What `TargetModel.predict` says of these outputs."""
    if task == "regression":
        return outputs[:, 0]
    return outputs >= 0 if task == "multi_label" else outputs.argmax(axis=1).astype(np.int32)


def probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Softmax over the classes, or of several labels each one's logistic: float32 [texts, classes] -> the same."""
    found = scipy.special.expit(logits) if task == "multi_label" else scipy.special.softmax(logits, axis=1)
    return found.astype(np.float32)


def all_outputs(
    target: Target, portions: Callable[[], Iterable[Tokenised]], rows: int, limit: int, progress: ProgressFn = silent
) -> np.ndarray:
    """Outputs without dropout, float32 [texts, classes], in batches of a few fixed shapes.

    Where a device has no memory left, all begins again with half as many rows together, with a warning.

    Args:
      target: the model.
      portions: gives all texts, in order, as often as it is asked.
      rows: how many there are.
      limit: the most tokens of a text.
      progress: called after each batch, stage "predict".
    """
    outputs = np.zeros((rows, target.head.out.out_features), dtype=np.float32)
    spread = over_all_devices()
    structure, weights = split_model(target)
    weights = spread.replicated(weights)

    def fill(sizes: dict[int, int]) -> None:
        submitted = (
            (places, _outputs(structure, weights, spread.by_rows(batch), spread))
            for places, batch in fill_batches(portions(), sizes)
        )
        done = 0
        for places, found in one_behind(submitted):
            outputs[places] = np.asarray(found)[: len(places)]
            done += len(places)
            progress(Progress("predict", done, rows, "texts"))

    with_room_for_rows(fill, batch_rows(limit, None, spread.devices), spread.devices)
    return outputs


@functools.partial(jax.jit, static_argnames=("structure", "spread"))
def _outputs(structure: Structure, weights: list[jax.Array], batch: Batch, spread: Spread) -> jax.Array:
    with exact_products(weights):
        return spread.joined(structure.merge(weights)(batch))
