"""An encoder with its tokenizer, from a local folder, the hub's cache or the hub."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import jax
import numpy as np
import optax
from flax import nnx
from huggingface_hub import constants

from tsds_jax.encoders.embed import embed
from tsds_jax.encoders.families import Config, EncoderModule, read_config, read_settings
from tsds_jax.encoders.heads import head_config
from tsds_jax.encoders.params import conversion, encoder_tensors, load_model, weight_files
from tsds_jax.encoders.pooling import PARTS_FILE, POOLING_FILE, chosen_pooling, own_pooling
from tsds_jax.encoders.precision import check_dtype, dtype_of, exact_products
from tsds_jax.encoders.saving import CLASS_PREFIXES, save_folder
from tsds_jax.encoders.tokens import Texts
from tsds_jax.errors import InputError
from tsds_jax.runtime.files import as_path
from tsds_jax.runtime.hub import hub_answers

# What an encoder needs, and never a pickle.
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
# And nothing of a folder in it but `POOLING_FILE`: the patterns have no "all but".
_LEFT_OUT = ["[!1]*/*", "?[!_]*/*", "*/[!c]*", "*/*/*"]

# A folder has a tokenizer if it has one of the first five.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A pretrained encoder and its tokenizer.

    Attributes:
      name: as it was asked for: a folder or a hub name.
      folder: where its files lie.
      config: its sizes and settings.
      model: the Flax NNX module with its weights.
      skipped: keys of the checkpoint that neither the encoder nor a head has a place for.
      settings: the config.json as it was read.
      head: what the checkpoint has of a head that `finetune` knows, by canonical names and as it is stored there.
      pooling: how its texts are pooled where nothing else is asked for: as its 1_Pooling/config.json says, which
        sentence-transformers writes, else ``"mean"``; and where the model has a part that is not read here, which.
      tokenizer_digest: SHA-256 (hex) of its tokenizer's files.
      pooling_known: False where ``pooling`` is "mean" for want of files that may be on the hub.
    """

    name: str
    folder: Path
    config: Config
    model: EncoderModule
    skipped: tuple[str, ...]
    settings: Mapping[str, Any]
    head: Mapping[str, np.ndarray]
    pooling: str
    tokenizer_digest: str
    pooling_known: bool = True

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        return f"Encoder({self.name!r}, {self.config.model_type}, {self.parameters:,} parameters, {self.dtype})"

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The folder's tokenizer, read at first use.

        Raises:
          InputError: the folder has none that can be read without running its code.
        """
        tokenizer = load_tokenizer(self.folder)
        vars(self)["_tokenizer_as_read"] = _tokenizer_state(tokenizer)
        return tokenizer

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold."""
        return optax.tree.size(nnx.state(self.model, nnx.Param))

    @property
    def dtype(self) -> str:
        """The number type of the weights, "float32" or "bfloat16"."""
        return dtype_of(nnx.state(self.model))

    @property
    def own_tokenizer(self) -> Any:
        """The tokenizer that was read, or that the folder has; None where there is none."""
        return self.tokenizer if "tokenizer" in vars(self) or has_tokenizer(self.folder) else None

    def chosen_pooling(self, asked: str | None) -> str:
        """`chosen_pooling` of this model, with a warning where none is asked for and its own is not known."""
        if asked is None and not self.pooling_known:
            told = f"how {self.name} is pooled is not known here, taken as mean: give pooling, or ask the hub once"
            warnings.warn(told, RuntimeWarning, stacklevel=3)
        return chosen_pooling(asked, self.pooling)

    def with_model(self, model: EncoderModule, **others: Any) -> "Encoder":
        """The same with that module's weights (and ``others`` of its parts), and with the tokenizer that was read."""
        made = dataclasses.replace(self, model=model, **others)
        read = ("tokenizer", "_tokenizer_as_read")
        vars(made).update({name: kept for name, kept in vars(self).items() if name in read})
        return made

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the config, the weights and the tokenizer: what the vectors depend on.

        Of the tokenizer that is its files, and its state too where that was changed after it was read.
        """
        digest = hashlib.sha256(repr(self.config).encode())
        for path, param in nnx.to_flat_state(nnx.state(self.model)):
            digest.update(f"{path}{param.shape}".encode())
            digest.update(np.asarray(param[...]).tobytes())
        digest.update(self.tokenizer_digest.encode())
        digest.update(repr(self.settings.get("tokenizer_class")).encode())  # read where the tokenizer names none
        as_read = vars(self).get("_tokenizer_as_read")
        if as_read is not None and (state := _tokenizer_state(self.tokenizer)) != as_read:
            digest.update(state)
        return digest.hexdigest()

    def head_fingerprint(self) -> str:
        """SHA-256 (hex) of what fine-tuning starts from beside that: the head, its settings and its classes' names."""
        known = ("id2label", "architectures", "tsds_jax")
        about = (head_config("own", self.settings, self.config), *map(self.settings.get, known))
        digest = hashlib.sha256(repr(about).encode())
        for name, tensor in sorted(self.head.items()):
            digest.update(f"{name}{tensor.shape}".encode())
            digest.update(tensor.tobytes())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write a folder that `load_encoder`, and transformers' ``AutoModel`` with PyTorch, read.

        It holds config.json, model.safetensors (with BERT's pooler, where the checkpoint had one), the tokenizer,
        where there is one, and, where that is not by the mean, how texts are pooled, which sentence-transformers reads.

        Args:
          folder: a new or an empty one; it is whole or absent.

        Raises:
          InputError: there is something in the folder, or it cannot be written.

        Example:
          >>> load_encoder("models/minilm").save_pretrained("models/copy")
          PosixPath('models/copy')
        """
        family = self.config.model_type
        tensors = encoder_tensors(self.model, family)
        pooler = {name: tensor for name, tensor in self.head.items() if name.startswith("pooler.")}
        settings = {**self.settings, "architectures": [f"{CLASS_PREFIXES[family]}Model"]}
        return save_folder(folder, settings, tensors | pooler, self)

    def embed(self, texts: Texts, **options: Any) -> np.ndarray:
        """One vector a text: float32 [texts, width]. Options: see `tsds_jax.encoders.embed`, which also counts."""
        return embed(self, texts, **options).values

    def hidden_states(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None
    ) -> tuple[jax.Array, ...]:
        """The hidden state after the embeddings and after each layer, ``[batch, tokens, width]`` of `dtype` each.

        Args:
          input_ids: integers [batch, tokens].
          attention_mask: [batch, tokens], 1 for a token and 0 for padding; all ones by default. In bfloat16 padding
            stands behind the tokens.
          token_type_ids: integers [batch, tokens]; all zeros by default.

        Raises:
          InputError: the shapes differ, the tokens are too many, an id is out of range, or in bfloat16 a token stands
            behind padding.
        """
        ids = np.asarray(input_ids)
        mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask)
        types = np.zeros_like(ids) if token_type_ids is None else np.asarray(token_type_ids)
        if ids.ndim != 2 or mask.shape != ids.shape or types.shape != ids.shape:
            raise InputError(
                "input_ids, attention_mask and token_type_ids must have one shape [batch, tokens], "
                f"not {ids.shape}, {mask.shape} and {types.shape}"
            )
        behind = (np.diff((mask > 0).astype(np.int8), axis=1) > 0).any(1)
        if self.dtype == "bfloat16" and behind.any():
            raise InputError(
                f"attention_mask: row {behind.argmax()} has a token behind padding, which attention in bfloat16 does "
                "not know on every device: pad on the right, or load the encoder in float32"
            )
        if ids.shape[1] > self.config.max_tokens:
            raise InputError(f"{ids.shape[1]} tokens are more than the encoder's limit of {self.config.max_tokens}")
        for name, array, count in (
            ("input_ids", ids, self.config.vocab_size),
            ("token_type_ids", types, self.config.type_vocab_size),
        ):
            if not np.issubdtype(array.dtype, np.integer) or (
                array.size and count and not 0 <= array.min() <= array.max() < count
            ):
                raise InputError(f"{name} must be whole numbers from 0 to {count - 1}")
        return _hidden_states(*nnx.split(self.model), ids, mask, types)


@functools.partial(jax.jit, static_argnames="graphdef")
def _hidden_states(graphdef: nnx.GraphDef, state: nnx.State, *batch: jax.Array) -> tuple[jax.Array, ...]:
    with exact_products(state):
        return nnx.merge(graphdef, state).hidden_states(*batch)


def load_encoder(name: str | os.PathLike[Any], *, dtype: str = "float32") -> Encoder:
    """Load an encoder by its folder, or by its hub name from the local cache or the hub.

    Weights are read from safetensors alone, and no code of the folder is run.

    Args:
      name: a Hugging Face folder, or a hub name such as ``"bert-base-uncased"``.
      dtype: "float32", multiplied as such; or "bfloat16", half the memory and faster on hardware that has it, exact to
        two or three digits: weights and products; norms, softmax and pooling stay in float32, and so do the vectors.

    Raises:
      InputError: there is no such model, or it is none that is supported, or its weights do not fit
        its config; or the dtype is not supported, or not by the device.

    Example:
      >>> encoder = load_encoder("models/minilm")
      >>> encoder.embed(["a text"]).shape == (1, encoder.config.hidden_size)
      True
    """
    for device in jax.local_devices():
        check_dtype(dtype, device)
    folder = find_folder(name)
    config, settings = read_config(folder), read_settings(folder)
    loaded = load_model(folder, config, settings, dtype)
    pooling = own_pooling(folder)
    return Encoder(
        str(name),
        folder.absolute(),  # the tokenizer is read later, wherever the process works then
        config,
        loaded.model,
        loaded.skipped,
        settings,
        loaded.head,
        pooling,
        _tokenizer_digest(folder),
        as_path(name).is_dir() or not _unasked(str(name), folder),
    )


def find_folder(name: str | os.PathLike[Any]) -> Path:
    """The folder of a model: a local one, else the hub's local cache, else fetched from the hub.

    Raises:
      InputError: it is in none of them, with what was tried; or the hub has no safetensors of it.
    """
    text = os.fspath(name)
    if text:
        folder = as_path(text)
        if folder.is_dir():
            return folder
        if folder.exists():
            raise InputError(
                f"model {text[:200]!r}: this is a file; give the folder of a Hugging Face model or a hub name"
            )
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) or text[0] == ".":
        raise InputError(f"there is no folder {text[:200]!r}; give the folder of a Hugging Face model or a hub name")
    fetch = functools.partial(huggingface_hub.snapshot_download, text, allow_patterns=_FILES, ignore_patterns=_LEFT_OUT)
    cached = _try(functools.partial(fetch, local_files_only=True))
    # What lacks some files of the repository may have all that is read here, and what is there may lack some of these.
    place = cached if isinstance(cached, Path) else getattr(cached, "snapshot_path", None)
    here = None if place is None else Path(place)
    if here is not None and _is_whole(here):
        if _unasked(text, here) and not constants.is_offline_mode() and hub_answers():
            _ask_for_pooling(text, here)
        return here
    tried = f"no folder {text!r} here and no model of that name in the hub's cache {constants.HF_HUB_CACHE}"
    some = here is not None and any(here.glob("*.safetensors"))
    if here is not None and some and (constants.is_offline_mode() or not hub_answers()):
        return here  # and what it lacks is said by whoever needs it
    if constants.is_offline_mode():
        raise InputError(f"model {text!r}: {tried}, and HF_HUB_OFFLINE is set; give a folder or fetch the model first")
    if not hub_answers():
        raise InputError(f"model {text!r}: {tried}, and the hub cannot be reached; correct the path or give a folder")
    alone = _try(functools.partial(huggingface_hub.hf_hub_download, text, "config.json"))
    if isinstance(alone, Path):
        read_config(alone.parent)  # what it has refused need not be fetched whole
    fetched = _try(fetch)
    if isinstance(fetched, Path):
        if not any(fetched.glob("*.safetensors")):
            raise InputError(f"model {text!r} has no safetensors on the hub: {conversion(text)}")
        _ask_for_pooling(text, fetched)
        return fetched
    reason = f"{type(fetched).__name__}: {' '.join(str(fetched).split())[:120]}"
    raise InputError(f"model {text!r}: {tried}, and the hub does not give it ({reason}); give a folder")


def _is_whole(folder: Path) -> bool:
    """Whether a folder has a config, all weights and a tokenizer."""
    try:
        weight_files(folder)
    except InputError:
        return False
    return (folder / "config.json").is_file() and has_tokenizer(folder)


def _unasked(name: str, here: Path) -> list[str]:
    """Of the files that say how a model is pooled, those that the hub may have and its cache says nothing of."""
    files = PARTS_FILE, POOLING_FILE
    # One is enough; and every repository has the last, so where it is, all of the repository is.
    if any((here / file).is_file() for file in (*files, ".gitattributes")):
        return []
    return [file for file in files if huggingface_hub.try_to_load_from_cache(name, file, revision=here.name) is None]


def _ask_for_pooling(name: str, here: Path) -> None:
    """Has the hub put beside what others cached of a model how it is pooled, of which they take no notice; asked once.

    Where the model does not say, the cache remembers that.
    """
    for file in _unasked(name, here):
        _try(functools.partial(huggingface_hub.hf_hub_download, name, file, revision=here.name))


def _tokenizer_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.name in TOKENIZER_FILES:
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _tokenizer_state(tokenizer: Any) -> bytes:
    """SHA-256 of how a tokenizer in memory cuts and reads texts, but for where it last cut and filled them up."""
    state = repr([getattr(tokenizer, name, None) for name in ("truncation_side", "split_special_tokens")])
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state += backend.to_str().partition('"added_tokens"')[2]  # truncation and padding stand before it
    return hashlib.sha256(state.encode()).digest()


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer's files."""
    return any((folder / file).is_file() for file in TOKENIZER_FILES[:5])


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a Hugging Face folder, read without running its code.

    Raises:
      InputError: the folder has no tokenizer, or one that cannot be read.
    """
    if not has_tokenizer(folder):
        raise InputError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt); save the model's tokenizer there")
    # As slow as all other imports: what is refused before is refused sooner.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    of_itself = (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file()
    # Without settings the model's type would decide how texts are cut, and take no more than the words from the file.
    kind = PreTrainedTokenizerFast if of_itself else AutoTokenizer
    try:
        read = functools.partial(kind.from_pretrained, folder, trust_remote_code=False, local_files_only=True)
        tokenizer = read()
        end = tokenizer.eos_token_id if _asks_for_an_end(folder) else None
        if end is not None and (found := tokenizer("a")["input_ids"])[-1:] != [end]:
            # Transformers 5 drops both wishes where there is a tokenizer.json, and one given alone resets the other.
            tokenizer = read(add_bos_token=found[:1] == [tokenizer.bos_token_id], add_eos_token=True)
        return tokenizer
    except Exception as error:  # the tokenizers package raises bare Exceptions
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"the tokenizer in {folder} cannot be read ({type(error).__name__}: {reason}); save it there as "
            "tokenizer.json, or for a .model file install sentencepiece"
        ) from None


def _asks_for_an_end(folder: Path) -> bool:
    """Whether the settings of a tokenizer say that a text ends with its end token: what stands there is its state."""
    file = folder / "tokenizer_config.json"
    return file.is_file() and json.loads(file.read_text("utf-8")).get("add_eos_token") is True


def _try(fetch: Callable[[], str]) -> Path | Exception:
    try:
        return Path(fetch())
    except Exception as error:  # of a connection that breaks those of the HTTP client, which are of no other kind
        return error
