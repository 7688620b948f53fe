"""From text files to a selection, fine-tuned models and a report."""

from tsds_jax.pipeline.front import run, select
from tsds_jax.pipeline.selected import Selection, write_values

__all__ = ["Selection", "run", "select", "write_values"]
