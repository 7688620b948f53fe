"""What a run is: versions, seed, options, data and model, and which of it makes it another run."""

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

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
    warnings = [*splits.shared_texts(), *_unheard(splits, settings)]
    for role, part in (("validation", splits.validation), ("test", splits.test)):
        if settings.group is not None and part is not None:
            shared = shared_groups(splits.train, part, settings.group)
            if shared:
                have = "has" if shared == 1 else "have"
                groups = counted(shared, "group")
                warnings.append(f"{groups} of column {settings.group!r} {have} training and {role} rows")
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


def _unheard(splits: Splits, settings: SelectOptions) -> list[str]:
    """Classes and groups that no validation row speaks for."""
    train, validation = splits.train, splits.validation
    found = []
    for name, many in train.class_counts.items():
        if many and not validation.class_counts[name]:
            rows = counted(many, "training row")
            found.append(
                f"class {name} has {rows} and no validation row: its values are low whatever its labels, for nothing"
                " shows what these rows are good for: give validation rows of it, or protect it"
            )
    if settings.group is not None and settings.group in validation.rows.column_names:
        names = set(group_names(validation, settings.group))
        if len(names) == 1 and "" not in names:
            found.append(
                f"all validation rows are of group {names.pop()} of column {settings.group!r}: what they say of a cut,"
                " and how surely, is about that group alone"
            )
    return found


def majority_share(data: TextData) -> float:
    """Of the rows, the share of the largest class."""
    return max(data.class_counts.values()) / len(data)
