"""Every supported ``model_type``: how its config is read and which module it makes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from tsds_jax.encoders.config import FAMILIES, EncoderConfig, read_json
from tsds_jax.encoders.modeling import BertEncoder
from tsds_jax.encoders.rotary import RotaryEncoder
from tsds_jax.encoders.rotary_config import ROTARY_FAMILIES, RotaryConfig
from tsds_jax.errors import InputError

Config = EncoderConfig | RotaryConfig
EncoderModule = BertEncoder | RotaryEncoder

MODEL_TYPES = (*FAMILIES, *ROTARY_FAMILIES)


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The config of any supported family, from the fields of a Hugging Face config.

    Raises:
      InputError: the model_type, or a setting that changes the computation, is not supported, or a size makes no sense.

    Example:
      >>> config_from_dict({"model_type": "modernbert"}).max_tokens
      8192
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise InputError(f"model_type {model_type!r:.60} is not supported; supported: {', '.join(MODEL_TYPES)}")
    if values.get("quantization_config") is not None:
        raise InputError(
            "the encoder config has quantization_config set; only weights that are not quantised are supported here: "
            "give the original model, or save it after dequantize() in transformers"
        )
    return (RotaryConfig if model_type in ROTARY_FAMILIES else EncoderConfig).from_dict(values)


def read_settings(folder: str | Path) -> Mapping[str, Any]:
    """The `config.json` of a Hugging Face folder as it stands there.

    Raises:
      InputError: there is none that can be read.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise InputError(f"{Path(folder)}: there is no config.json in it; give the folder of a Hugging Face model")
    try:
        return read_json(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_config(folder: str | Path) -> Config:
    """The config of a Hugging Face folder, from its `config.json`.

    Raises:
      InputError: no readable `config.json` there, or `config_from_dict` refuses it.
    """
    settings = read_settings(folder)
    try:
        return config_from_dict(settings)
    except InputError as error:
        raise InputError(f"{Path(folder) / 'config.json'}: {error}") from None


def new_encoder(config: Config, *, rngs: nnx.Rngs) -> EncoderModule:
    """The module of a config, randomly initialised."""
    return RotaryEncoder(config, rngs=rngs) if isinstance(config, RotaryConfig) else BertEncoder(config, rngs=rngs)
