"""The comparison: the model fine-tuned on everything, on the selection and on as many random rows."""

import dataclasses
import functools
import json

import numpy as np

from tsds_jax import evaluation
from tsds_jax.data import Splits
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning import finetune, steps_for
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline.checks import held_out_units
from tsds_jax.pipeline.selected import Selection
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import RunFolder
from tsds_jax.runtime.progress import Progress, ProgressFn
from tsds_jax.selection import Limits

ARMS = ("full", "selection", "random")


def compare_arms(
    run: RunFolder,
    splits: Splits,
    encoder: Encoder,
    selection: Selection,
    limits: Limits,
    settings: SelectOptions,
    options: FineTuneOptions,
    progress: ProgressFn,
) -> tuple[float, int]:
    """Fine-tunes the three arms; the seconds it took, and the texts that were cut.

    Writes finetune.json, and to model/ the selection's model, which where nothing is removed is that of all rows.

    The random rows go by the limits that the selection's went by, in whole groups and copies, so that what differs is
    the ranking alone: as many as the selection's, or hardly more where no unit that is left is small enough to go too.
    """
    train, test = splits.train, splits.test
    assert test is not None
    steps = steps_for(options, len(train))
    options = dataclasses.replace(options, steps=steps)
    # Another stream than the shuffles' of the same seed, which have two numbers.
    order = limits.random_order(np.random.default_rng([options.seed, 0, 1]))
    random = np.delete(np.arange(len(train)), order.at_most(selection.removal_index))
    rows = {"full": np.arange(len(train)), "selection": selection.kept_rows, "random": random}
    arms, predictions, cut = [], {}, 0
    # With nothing removed the three arms are one and the same training.
    trainings, own = (ARMS, "selection") if selection.removal_index else (("full",), "full")

    def train_arm(name: str, number: int) -> Arrays:
        kept = run.part(_stage(name)).of_model()

        def relay(event: Progress) -> None:
            progress(
                Progress(
                    "finetune",
                    number * steps + event.done,
                    len(trainings) * steps,
                    "steps",
                    f"{name} {event.detail}",
                )
            )

        tuned = finetune(
            encoder,
            train.select(rows[name]),
            validation=splits.validation,
            test=test,
            options=options,
            progress=relay,
            **kept,
        )
        for line in (kept["folder"] / "metrics.jsonl").read_text("utf-8").splitlines():
            run.log(**(json.loads(line) | {"arm": name}))
        run.log("finetune", arm=name, test=tuned.metrics)
        if name == own:
            run.remove("model")
            tuned.model.save_pretrained(run.path / "model")
        return {
            "probabilities": np.asarray(tuned.probabilities),
            "history": np.asarray(json.dumps(tuned.history)),
            "steps": np.asarray(tuned.steps),
            "best_step": np.asarray(tuned.best_step),
            "truncated": np.asarray(tuned.truncated),
            "seconds": np.asarray(tuned.seconds),
        }

    for number, name in enumerate(ARMS):
        source = name if name in trainings else "full"
        # Its scores may be there, of a model that somebody has removed.
        anew = source == own and not (run.path / "model").exists()
        stored = run.keep(_stage(source), functools.partial(train_arm, source, number), anew=anew)
        predictions[name] = np.argmax(stored["probabilities"], 1)
        cut = max(cut, stored["truncated"].item())
        arm = {
            "name": name,
            "rows": len(rows[name]),
            "accuracy": evaluation.accuracy(test.labels, predictions[name]),
            "macro_f1": evaluation.macro_f1(test.labels, predictions[name], len(test.classes)),
            "steps": stored["steps"].item(),
            "best_step": stored["best_step"].item(),
            "seconds": round(stored["seconds"].item(), 3),
            "history": json.loads(stored["history"].item()),
        }
        arms.append(arm)
    differences = []
    units = held_out_units(test, settings)
    for a, b in (("selection", "full"), ("selection", "random"), ("random", "full")):
        for metric in ("accuracy", "macro_f1"):
            between = evaluation.paired_difference(
                test.labels,
                predictions[a],
                predictions[b],
                metric,
                classes=len(test.classes),
                units=units,
                seed=options.seed,
            )
            differences.append({"a": a, "b": b, "metric": metric, **between._asdict()})
    run.write_json("finetune.json", {"arms": arms, "differences": differences, "test_rows": len(test)})
    return round(sum(arm["seconds"] for arm in arms if arm["name"] in trainings), 3), cut


def _stage(arm: str) -> str:
    return f"finetune-{arm}"
