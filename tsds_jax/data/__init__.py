"""Text and labels in, selected rows out in the format they came in."""

from tsds_jax.data.loading import load_data, load_texts, with_classes
from tsds_jax.data.marks import (
    duplicate_codes,
    group_codes,
    group_names,
    marked_rows,
    numbers,
    shared_groups,
    text_codes,
)
from tsds_jax.data.noise import flip_labels
from tsds_jax.data.splitting import carve_validation, count_overlap, load_splits, without_overlap
from tsds_jax.data.textdata import Format, Splits, Text, TextData
from tsds_jax.data.tweets import load_tweets
from tsds_jax.data.writing import file_name, write_rows

__all__ = [
    "Format",
    "Splits",
    "Text",
    "TextData",
    "carve_validation",
    "count_overlap",
    "duplicate_codes",
    "file_name",
    "flip_labels",
    "group_codes",
    "group_names",
    "load_data",
    "load_splits",
    "load_texts",
    "load_tweets",
    "marked_rows",
    "numbers",
    "shared_groups",
    "text_codes",
    "with_classes",
    "without_overlap",
    "write_rows",
]
