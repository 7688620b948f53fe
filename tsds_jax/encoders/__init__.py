"""Text into representations: pretrained encoders in Flax, loaded from Hugging Face folders."""

from tsds_jax.encoders.config import EncoderConfig
from tsds_jax.encoders.embed import Representations, embed
from tsds_jax.encoders.load import Encoder, find_folder, load_encoder, load_tokenizer
from tsds_jax.encoders.modeling import BertEncoder
from tsds_jax.encoders.pca import Pca, fit_pca
from tsds_jax.encoders.pooling import POOLINGS

__all__ = [
    "POOLINGS",
    "BertEncoder",
    "Encoder",
    "EncoderConfig",
    "Pca",
    "Representations",
    "embed",
    "find_folder",
    "fit_pca",
    "load_encoder",
    "load_tokenizer",
]
