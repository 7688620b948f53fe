"""What a run is: versions, seed, options, data and model, and which of it makes it another run."""

import dataclasses
import datetime
import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tsds_jax import __version__
from tsds_jax.data import Splits, TextData, group_names, shared_groups
from tsds_jax.data.messages import counted
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning.checks import lasting
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline.checks import held_out_units
from tsds_jax.runtime.environment import environment
from tsds_jax.selection import Limits

# What of a split makes a run another run.
_IDENTITY = ("sha256", "columns", "format")


def manifest_of(
    splits: Splits,
    encoder: Encoder,
    settings: SelectOptions,
    limits: Limits,
    finetuning: FineTuneOptions | None,
    stages: Mapping[str, float],
    command: str | None,
) -> dict[str, Any]:
    """What is known before the work starts."""

    def about(data: TextData | None) -> dict[str, Any] | None:
        if data is None:
            return None
        return {
            "source": data.source,
            "rows": len(data),
            "sha256": data.fingerprint(),
            "columns": [*data.text_columns, data.label_column],
            "format": data.format,
            "classes": data.class_counts,
        }

    data = {"train": about(splits.train), "validation": about(splits.validation), "test": about(splits.test)}
    options = dataclasses.asdict(settings)
    tuning = dataclasses.asdict(finetuning) if finetuning else None
    model = {
        "name": encoder.name,
        "type": encoder.config.model_type,
        "parameters": encoder.parameters,
        "sha256": encoder.fingerprint(),
    }
    warnings = [*splits.shared_texts(), *_unheard(splits, settings, limits)]
    warnings += [] if settings.group is None else _in_two_splits(splits, settings.group)
    return {
        "tsds_jax": __version__,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "identity": {
            "tsds_jax": __version__,
            "options": options,
            "finetuning": finetuning and lasting(finetuning),
            "model": model["sha256"],
            "head": encoder.head_fingerprint(),
            "data": {role: part and {key: part[key] for key in _IDENTITY} for role, part in data.items()},
            "limits": hashlib.sha256(limits.units.tobytes() + limits.protected.tobytes()).hexdigest(),
            "validation_groups": hashlib.sha256(held_out_units(splits.validation, settings).tobytes()).hexdigest(),
        },
        "seed": settings.seed,
        "options": options,
        "finetuning": tuning,
        **environment(),
        "model": model,
        "data": data,
        "majority_share": majority_share(splits.validation),
        "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
        "warnings": warnings,
    }


def _in_two_splits(splits: Splits, group: str) -> list[str]:
    """Groups of which two splits have rows, so that one says of the other what it has seen of it."""
    found = []
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    for (role, one), (other_role, other) in itertools.combinations(parts.items(), 2):
        shared = 0 if one is None or other is None else shared_groups(one, other, group)
        if shared:
            have = "has" if shared == 1 else "have"
            found.append(f"{counted(shared, 'group')} of column {group!r} {have} {role} and {other_role} rows")
    return found


def _unheard(splits: Splits, settings: SelectOptions, limits: Limits) -> list[str]:
    """Classes and groups that no held-out row speaks for."""
    found, held = [], splits.validation.class_counts
    may_go = np.bincount(splits.train.labels, ~limits.protected, minlength=len(held))
    unseen = [name for number, name in enumerate(held) if may_go[number] and not held[name]]
    if unseen:
        some = f"class {unseen[0]} has" if len(unseen) == 1 else f"{len(unseen)} classes ({unseen[0]} is one) have"
        found.append(
            f"{some} training rows and no validation row: their values are low whatever their labels, for nothing shows"
            " what they are good for: give validation rows, or protect these"
        )
    for role, part in (("validation", splits.validation), ("test", splits.test)):
        if settings.group is not None and part is not None and settings.group in part.rows.column_names:
            names = set(group_names(part, settings.group))
            if len(names) == 1 and "" not in names:
                found.append(
                    f"all {role} rows are of group {names.pop()} of column {settings.group!r}: what they say, and how"
                    " surely, is about that group alone"
                )
    return found


def majority_share(data: TextData) -> float:
    """Of the rows, the share of the largest class."""
    return max(data.class_counts.values()) / len(data)
