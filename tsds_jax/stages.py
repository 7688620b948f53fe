"""Single stages from files to a folder: what `tsds value` and `tsds finetune` call."""

import dataclasses
import datetime
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsds_jax import __version__
from tsds_jax.arrays import feature_matrix, label_array
from tsds_jax.data import load_data
from tsds_jax.encoders import fit_pca, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning import FineTuned, check_options, finetune
from tsds_jax.options import FineTuneOptions
from tsds_jax.pipeline import write_values
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.folder import UNREADABLE, atomic, check_run_folder, open_run
from tsds_jax.runtime.progress import ProgressFn, silent
from tsds_jax.valuation import value


def load_arrays(file: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``x`` and ``y`` of an .npz file.

    Raises:
      InputError: the file is missing, is no .npz, holds pickled objects, or lacks one of the two.
    """
    try:
        with open(file, "rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise InputError(f"{file} is one array and no .npz: save x and y with numpy.savez")
            for name in ("x", "y"):
                if name not in stored.files:
                    raise InputError(f"{file} has no array {name!r}, only {', '.join(stored.files)}: save x and y")
            return stored["x"], stored["y"]
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {file}: give an .npz with x and y") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{file} cannot be read as .npz without pickle ({reason}): save x and y by numpy.savez"
        ) from None


def value_files(
    train: str,
    validation: str,
    out: str,
    *,
    pca: int = 0,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Path:
    """`value` on two .npz files of ``x`` and ``y``; writes values.parquet and manifest.json to a folder.

    Raises:
      InputError: as `value` and `load_arrays`, or the folder holds another run.
    """
    check_run_folder(out, overwrite=overwrite)
    (x, y), (x_val, y_val) = load_arrays(train), load_arrays(validation)
    x, x_val = feature_matrix(x, f"x in {train}"), feature_matrix(x_val, f"x in {validation}")
    if pca:
        projection = fit_pca(x, pca)
        x, x_val = projection.transform(x), projection.transform(x_val)
    valuation = value(x, y, x_val, y_val, progress=progress, **options)
    data = {
        role: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for role, file in (("train", train), ("validation", validation))
    }
    identity = {"tsds_jax": __version__, "stage": "value", "pca": pca, "options": options, "data": data}
    folder = open_run(out, identity, overwrite=overwrite)
    labels = label_array(y, "y", len(x)).astype(str).tolist()
    write_values(folder.path, valuation, {"row": np.arange(len(x)), "label": labels})
    folder.write_json("manifest.json", _manifest(identity, command, valuation=valuation.summary()))
    return folder.path


def finetune_files(
    train: str,
    model: str,
    test: str,
    out: str,
    *,
    validation: str | None = None,
    text: Any = None,
    label: str | None = None,
    options: FineTuneOptions | None = None,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
) -> tuple[Path, FineTuned]:
    """`finetune` from files; writes predictions.parquet, finetune.json and manifest.json to a folder.

    Without validation rows nothing is set apart: every training row trains, and the last step's model is tested.
    """
    options = options or FineTuneOptions()
    check_options(options)
    check_run_folder(out, overwrite=overwrite)
    rows = load_data(train, text=text, label=label, role="train")
    held = validation and load_data(validation, text=text, label=label, classes=rows.classes, role="validation")
    tested = load_data(test, text=text, label=label, classes=rows.classes, role="test")
    encoder = load_encoder(model)
    tuned = finetune(encoder, rows, validation=held, evaluation=tested, options=options, progress=progress)
    parts = {"train": rows, "test": tested} | ({"validation": held} if held else {})
    identity = {
        "tsds_jax": __version__,
        "stage": "finetune",
        "options": dataclasses.asdict(options),
        "model": encoder.fingerprint(),
        "data": {role: part.fingerprint() for role, part in parts.items()},
    }
    folder = open_run(out, identity, overwrite=overwrite)
    probabilities = np.asarray(tuned.probabilities)
    table = {
        "row": np.arange(len(tested)),
        "label": tested.label_names,
        "prediction": [rows.classes[i] for i in np.argmax(probabilities, 1)],
        **{f"probability_{name}": probabilities[:, i] for i, name in enumerate(rows.classes)},
    }
    with atomic(folder.path / "predictions.parquet") as temporary:
        pq.write_table(pa.table(table), temporary)
    folder.write_json("finetune.json", {"metrics": tuned.metrics, "steps": tuned.steps, "history": tuned.history})
    folder.write_json("manifest.json", _manifest(identity, command))
    return folder.path, tuned


def _manifest(identity: dict[str, Any], command: str | None, **more: Any) -> dict[str, Any]:
    return {
        "tsds_jax": __version__,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "status": "finished",
        "identity": identity,
        **more,
        **environment(),
    }
