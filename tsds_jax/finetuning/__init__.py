"""The target model: a pretrained encoder with a head, fine-tuned on the rows it is given."""

from tsds_jax.finetuning.checks import check_fits, checked_options, steps_for
from tsds_jax.finetuning.scores import METRICS
from tsds_jax.finetuning.target import TargetModel, load_target
from tsds_jax.finetuning.tuning import FineTuned, SeedRuns, finetune, finetune_seeds

__all__ = [
    "METRICS",
    "FineTuned",
    "SeedRuns",
    "TargetModel",
    "check_fits",
    "checked_options",
    "finetune",
    "finetune_seeds",
    "load_target",
    "steps_for",
]
