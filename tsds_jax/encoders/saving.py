"""A model into a folder that `transformers` reads: config.json, model.safetensors and the tokenizer."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from tsds_jax.encoders.pooling import own_pooling, write_pooling
from tsds_jax.errors import InputError
from tsds_jax.runtime.files import as_path, atomic, check_writable

if TYPE_CHECKING:
    from tsds_jax.encoders.load import Encoder

# How transformers names a family's classes; ``Model`` or ``ForSequenceClassification`` follows.
CLASS_PREFIXES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "modernbert": "ModernBert",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}


def check_new_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder as a path, where one can be made, or an empty one is.

    Raises:
      InputError: there is something in it, or it cannot be written.
    """
    path = as_path(folder)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path} exists: give a new or an empty folder to save the model in")
    check_writable(path)
    return path


def save_folder(
    folder: str | os.PathLike[str],
    settings: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    encoder: "Encoder",
) -> Path:
    """Write config.json, model.safetensors and what else of an encoder there is to say; all of it or nothing.

    That is its tokenizer, where it has one, and its pooling, where that is not what `own_pooling` takes it for.

    Raises:
      InputError: see `check_new_folder`.
    """
    path = check_new_folder(folder)
    if not encoder.pooling_known:  # where it lies then nobody would ask again
        told = f"how {encoder.name} is pooled is not known here, and {path} will be read as pooled by the mean"
        warnings.warn(f"{told}: ask the hub once before", RuntimeWarning, stacklevel=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.mkdir()
        dtype = str(next(iter(tensors.values())).dtype)
        # Transformers 5 reads this name, and older checkpoints have the other. Code of its own is not saved with it. A
        # number of classes that older ones have too would go before the names of those that there are now.
        gone = ("torch_dtype", "auto_map", "num_labels", "_num_labels")
        kept = {key: value for key, value in settings.items() if key not in gone} | {"dtype": dtype}
        (temporary / "config.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
        # Without this mark transformers does not take the file for PyTorch's.
        # Of a transposed view safetensors (0.8) writes the memory as it lies.
        rows: dict[str, Any] = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(rows, temporary / "model.safetensors", metadata={"format": "pt"})
        tokenizer = encoder.own_tokenizer
        if tokenizer is not None:
            if encoder.config.type_vocab_size > 1:
                _name_segments(tokenizer)
            # Else it would cut, in whatever reads its file by itself, where a text was last cut here.
            backend = getattr(tokenizer, "backend_tokenizer", None)
            if backend is not None:
                backend.no_truncation()
                backend.no_padding()
            tokenizer.save_pretrained(temporary)
        if encoder.pooling != own_pooling(temporary):
            write_pooling(temporary, encoder.pooling, encoder.config.hidden_size)
    return path


def _name_segments(tokenizer: Any) -> None:
    """Has the tokenizer say which text of a pair a token is of, which the encoder has a table for.

    Transformers' general tokenizers do not unless asked, and a pair's second text is then read as the first's end.
    """
    name = "token_type_ids"
    if name not in tokenizer.model_input_names:
        tokenizer.model_input_names = [*tokenizer.model_input_names, name]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # what is saved
