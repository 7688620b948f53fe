"""Transferred Shapley data valuation in JAX.

Values every training example by its Shapley value for a simple source classifier on a language model's own
representations (TS-DShapley), says which examples to remove, and fine-tunes the model on the rest.

    import tsds_jax as tsds

    v = tsds.value(x_train, y_train, x_val, y_val, seed=0)
    doubted = tsds.suspects("train.csv", model="bert-base-uncased")
    s = tsds.select("train.csv", validation="dev.csv", model="bert-base-uncased")
    tsds.finetune("bert-base-uncased", s.kept, validation="dev.csv", test="test.csv")

Names are imported at first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tsds_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from tsds_jax.baselines import baseline
    from tsds_jax.data import Splits, TextData, flip_labels, load_data, load_splits, write_rows
    from tsds_jax.encoders import Encoder, embed, fit_pca, load_encoder
    from tsds_jax.errors import InputError, TsdsError
    from tsds_jax.evaluation import accuracy, detection, kept_curve, macro_f1, paired_difference, stability
    from tsds_jax.finetuning import FineTuned, SeedRuns, TargetModel, finetune, finetune_seeds, load_target
    from tsds_jax.options import FineTuneOptions, SelectOptions
    from tsds_jax.pipeline import DoubtedLabels, Selection, run, select, suspects
    from tsds_jax.report import write_report
    from tsds_jax.runtime.progress import Progress
    from tsds_jax.selection import (
        Choice,
        RemovalCurve,
        removal_curve,
        removal_index,
        select_points,
        suspected_labels,
    )
    from tsds_jax.study import evaluate
    from tsds_jax.valuation import Valuation, value, value_game

_HOME = {
    "tsds_jax.baselines": ("baseline",),
    "tsds_jax.data": ("Splits", "TextData", "flip_labels", "load_data", "load_splits", "write_rows"),
    "tsds_jax.encoders": ("Encoder", "embed", "fit_pca", "load_encoder"),
    "tsds_jax.errors": ("InputError", "TsdsError"),
    "tsds_jax.evaluation": ("accuracy", "detection", "kept_curve", "macro_f1", "paired_difference", "stability"),
    "tsds_jax.study": ("evaluate",),
    "tsds_jax.finetuning": (
        "FineTuned",
        "SeedRuns",
        "TargetModel",
        "finetune",
        "finetune_seeds",
        "load_target",
    ),
    "tsds_jax.options": ("FineTuneOptions", "SelectOptions"),
    "tsds_jax.pipeline": ("DoubtedLabels", "Selection", "run", "select", "suspects"),
    "tsds_jax.report": ("write_report",),
    "tsds_jax.runtime.progress": ("Progress",),
    "tsds_jax.selection": (
        "Choice",
        "RemovalCurve",
        "removal_curve",
        "removal_index",
        "select_points",
        "suspected_labels",
    ),
    "tsds_jax.valuation": ("Valuation", "value", "value_game"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Choice",
    "DoubtedLabels",
    "Encoder",
    "FineTuneOptions",
    "FineTuned",
    "InputError",
    "Progress",
    "RemovalCurve",
    "SeedRuns",
    "SelectOptions",
    "Selection",
    "Splits",
    "TargetModel",
    "TextData",
    "TsdsError",
    "Valuation",
    "accuracy",
    "baseline",
    "detection",
    "embed",
    "evaluate",
    "finetune",
    "finetune_seeds",
    "fit_pca",
    "flip_labels",
    "kept_curve",
    "load_data",
    "load_encoder",
    "load_splits",
    "load_target",
    "macro_f1",
    "paired_difference",
    "removal_curve",
    "removal_index",
    "run",
    "select",
    "select_points",
    "stability",
    "suspected_labels",
    "suspects",
    "value",
    "value_game",
    "write_report",
    "write_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
