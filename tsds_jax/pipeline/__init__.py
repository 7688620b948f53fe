"""From text files to a selection, fine-tuned models and a report."""

from tsds_jax.pipeline.front import run, select
from tsds_jax.pipeline.selected import Selection, write_values
from tsds_jax.pipeline.suspecting import DoubtedLabels, suspects

__all__ = ["DoubtedLabels", "Selection", "run", "select", "suspects", "write_values"]
