"""Text into representations: pretrained encoders in Flax, loaded from Hugging Face folders."""

from tsds_jax.encoders.config import EncoderConfig
from tsds_jax.encoders.embed import Representations, embed
from tsds_jax.encoders.families import MODEL_TYPES, Config, config_from_dict, read_config
from tsds_jax.encoders.heads import HEADS
from tsds_jax.encoders.load import Encoder, find_folder, load_encoder, load_tokenizer
from tsds_jax.encoders.modeling import BertEncoder
from tsds_jax.encoders.pca import Pca, fit_pca
from tsds_jax.encoders.pooling import POOLINGS, chosen_pooling
from tsds_jax.encoders.precision import DTYPES
from tsds_jax.encoders.rotary import RotaryEncoder
from tsds_jax.encoders.rotary_config import RotaryConfig

__all__ = [
    "DTYPES",
    "HEADS",
    "MODEL_TYPES",
    "POOLINGS",
    "BertEncoder",
    "Config",
    "Encoder",
    "EncoderConfig",
    "Pca",
    "Representations",
    "RotaryConfig",
    "RotaryEncoder",
    "chosen_pooling",
    "config_from_dict",
    "embed",
    "find_folder",
    "fit_pca",
    "load_encoder",
    "load_tokenizer",
    "read_config",
]
