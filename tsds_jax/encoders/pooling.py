"""From the hidden states of a text's tokens to one vector."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import one_of
from tsds_jax.encoders.config import read_json
from tsds_jax.errors import InputError

# Where sentence-transformers writes how a model's texts are pooled, in its folder; and what parts the model has, which
# it looks at first.
POOLING_FILE = "1_Pooling/config.json"
PARTS_FILE = "modules.json"
# What `own_pooling` says where the parts are said to have one, which is not there, and what precedes the kind of a part
# that is not read here: a dense map behind the pooling, say, without which vectors are others.
MISSING = "missing"
UNREAD = "part "
# The kinds that are read, that do nothing but in training, and that change a vector's length alone.
_READ = ("Transformer", "Pooling", "Dropout", "Normalize")

Pooling = Callable[[jax.Array, jax.Array | np.ndarray], jax.Array]


def cls(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The first token's state: [batch, tokens, width] -> [batch, width]."""
    return hidden[:, 0]


def mean(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The mean over the tokens that are not padding: [batch, tokens, width] -> [batch, width].

    A row of padding alone gives zeros.
    """
    weights = jnp.asarray(mask, dtype=hidden.dtype)
    total = jnp.einsum("btw,bt->bw", hidden, weights)
    return total / jnp.maximum(weights.sum(axis=1, keepdims=True), 1)


def weighted_mean(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The mean in which the k-th token weighs k, for models whose later tokens have seen more (Muennighoff, 2022).

    ``[batch, tokens, width] -> [batch, width]``; a row of padding alone gives zeros.
    """
    there = jnp.asarray(mask, dtype=hidden.dtype)
    return mean(hidden, jnp.cumsum(there, 1) * there)


def last(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The last token that is not padding: [batch, tokens, width] -> [batch, width].

    A row of padding alone gives its first token.
    """
    there = jnp.asarray(mask) > 0
    place = jnp.max(jnp.where(there, jnp.arange(there.shape[1]), 0), 1)
    return jnp.take_along_axis(hidden, place[:, None, None], 1)[:, 0]


POOLINGS: dict[str, Pooling] = {"cls": cls, "mean": mean, "weighted_mean": weighted_mean, "last": last}

# How sentence-transformers calls them, and before its version 6 a switch each.
_NAMES = {"cls": "cls", "mean": "mean", "weighted_mean": "weightedmean", "last": "lasttoken"}
_SWITCH = "pooling_mode_"


def chosen_pooling(asked: str | None, own: str) -> str:
    """The key of `POOLINGS` that was asked for, else the model's own.

    Raises:
      InputError: that is none.
    """
    if asked is not None:
        one_of("pooling", asked, tuple(POOLINGS))
    elif own not in POOLINGS:
        known = ", ".join(POOLINGS)
        said = f"{POOLING_FILE} asks for {own!r:.60}, which is unknown"
        if own == MISSING:
            said = f"{PARTS_FILE} has a pooling whose config.json is not there"
        elif own.startswith(UNREAD):
            said = f"{PARTS_FILE} has a {own.removeprefix(UNREAD):.60} part, which is not read here"
        raise InputError(f"the model's {said}: give pooling as {known}")
    return own if asked is None else asked


def own_pooling(folder: Path) -> str:
    """How the model of a folder says that its texts are pooled: keys of `POOLINGS`, or other names, joined by "+".

    ``"mean"`` where it does not say, `MISSING` where the file that would is not there, and `UNREAD` with the kind of a
    part where that is none that is read here.

    Raises:
      InputError: a file that says so cannot be read.
    """
    file, parts = folder / POOLING_FILE, folder / PARTS_FILE
    if parts.is_file():
        try:
            listed = json.loads(parts.read_text("utf-8"))
            kinds = [part["type"].rpartition(".")[2] for part in listed]
            of = [part["path"] for part, kind in zip(listed, kinds, strict=True) if kind == "Pooling"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{parts} is no list of parts ({str(error)[:60]}): mend it, or remove it") from None
        unread = [kind for kind in kinds if kind not in _READ]
        if unread:
            return UNREAD + unread[0]
        if not of:
            return "mean"
        # A name in this folder, and no way out of it.
        file = folder / re.sub(r"[^\w.-]|^\.+$", "_", str(of[0])) / "config.json"
    if not file.is_file():
        return MISSING if parts.is_file() else "mean"
    try:
        values = read_json(file)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    switched = [key.removeprefix(_SWITCH) for key, on in values.items() if key.startswith(_SWITCH) and on is True]
    modes = values.get("pooling_mode") or [re.sub("(?<!len)_tokens?$", "", name) for name in switched]
    ours = {name: key for key, name in _NAMES.items()}
    named = [ours.get(str(mode), str(mode)) for mode in (modes if isinstance(modes, list) else [modes])]
    return "+".join(named) or "mean"


def write_pooling(folder: Path, pooling: str, width: int) -> None:
    """Have a new folder say what `own_pooling` is to read there, and sentence-transformers too.

    A part that is not read is not written either: the folder names it, and sentence-transformers misses it.
    """
    kind = pooling.removeprefix(UNREAD) if pooling.startswith(UNREAD) else "Pooling"
    parts = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": f"1_{kind}", "type": f"sentence_transformers.models.{kind}"},
    ]
    (folder / PARTS_FILE).write_text(json.dumps(parts, indent=2) + "\n", "utf-8")
    if pooling == MISSING or kind != "Pooling":
        return
    modes = [_NAMES.get(one, one) for one in pooling.split("+")]
    values = {"word_embedding_dimension": width, "pooling_mode": modes if len(modes) > 1 else modes[0]}
    file = folder / POOLING_FILE
    file.parent.mkdir()
    file.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
