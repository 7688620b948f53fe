"""The comparison: the model fine-tuned on everything, on the selection and on as many random rows, by some seeds."""

import dataclasses
import functools
import itertools
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
    seeds: int,
    progress: ProgressFn,
) -> tuple[float, int]:
    """Fine-tunes the three arms by so many seeds each; the seconds it took, and the texts that were cut.

    Writes finetune.json, and to model/ the selection's model, which where nothing is removed is that of all rows, by
    the first seed.

    The random rows go by the limits that the selection's went by, in whole groups and copies, so that what differs is
    the ranking alone: as many as the selection's, or hardly more where no unit that is left is small enough to go too.
    Each seed draws others.
    """
    train, test = splits.train, splits.test
    assert test is not None
    steps = steps_for(options, len(train))
    by_seed = [dataclasses.replace(options, steps=steps, seed=(options.seed + n) % 2**32) for n in range(seeds)]
    # With nothing removed the three arms are one and the same training.
    trainings, own = (ARMS, "selection") if selection.removal_index else (("full",), "full")
    total = seeds * len(trainings) * steps

    def rows_of(name: str, seed: int) -> np.ndarray:
        if name == "selection":
            return selection.kept_rows
        if name == "full":
            return np.arange(len(train))
        # Another stream than the shuffles' of the same seed, which have two numbers.
        order = limits.random_order(np.random.default_rng([seed, 0, 1]))
        return np.delete(np.arange(len(train)), order.at_most(selection.removal_index))

    def train_arm(name: str, number: int, done: int) -> Arrays:
        kept, options = run.part(_stage(name, number)).of_model(), by_seed[number]
        said = name if seeds == 1 else f"{name}, seed {options.seed},"

        def relay(event: Progress) -> None:
            progress(Progress("finetune", done + event.done, total, "steps", f"{said} {event.detail}"))

        tuned = finetune(
            encoder,
            train.select(rows_of(name, options.seed)),
            validation=splits.validation,
            test=test,
            options=options,
            progress=relay,
            **kept,
        )
        about = {"arm": name} | ({} if seeds == 1 else {"seed": options.seed})
        for line in (kept["folder"] / "metrics.jsonl").read_text("utf-8").splitlines():
            run.log(**(json.loads(line) | about))
        run.log("finetune", **about, test=tuned.metrics)
        if name == own and number == 0:
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

    stored: dict[tuple[str, int], Arrays] = {}
    for place, (number, name) in enumerate(itertools.product(range(seeds), trainings)):
        # Its scores may be there, of a model that somebody has removed.
        anew = (name, number) == (own, 0) and not (run.path / "model").exists()
        train_it = functools.partial(train_arm, name, number, place * steps)
        stored[name, number] = run.keep(_stage(name, number), train_it, anew=anew)
    predicted = {key: np.argmax(found["probabilities"], 1) for key, found in stored.items()}

    def scores(name: str) -> tuple[list[float], list[float]]:
        each = [predicted[name, number] for number in range(seeds)]
        f1 = [evaluation.macro_f1(test.labels, one, len(test.classes)) for one in each]
        return [evaluation.accuracy(test.labels, one) for one in each], f1

    arms = []
    for name in ARMS:
        source = name if name in trainings else "full"
        first = stored[source, 0]
        accuracies, f1 = scores(source)
        arms.append(
            {
                "name": name,
                "rows": len(rows_of(name, options.seed)),
                "accuracy": float(np.mean(accuracies)),
                "macro_f1": float(np.mean(f1)),
                **({} if seeds == 1 else {"accuracies": accuracies, "macro_f1s": f1}),
                "steps": first["steps"].item(),
                "best_step": first["best_step"].item(),
                "seconds": round(sum(stored[source, number]["seconds"].item() for number in range(seeds)), 3),
                "history": json.loads(first["history"].item()),
            }
        )
    units = held_out_units(test, settings)
    differences = []
    for a, b in (("selection", "full"), ("selection", "random"), ("random", "full")):
        for metric in ("accuracy", "macro_f1"):
            one, other = (name if name in trainings else "full" for name in (a, b))
            each = [
                evaluation.paired_difference(
                    test.labels,
                    predicted[one, number],
                    predicted[other, number],
                    metric,
                    classes=len(test.classes),
                    units=units,
                    seed=options.seed,
                )
                for number in range(seeds)
            ]
            differences.append({"a": a, "b": b, "metric": metric, **evaluation.over_seeds(each)._asdict()})
    told = {"arms": arms, "differences": differences, "test_rows": len(test)}
    run.write_json("finetune.json", told | ({} if seeds == 1 else {"seeds": seeds}))
    cut = max(found["truncated"].item() for found in stored.values())
    return round(sum(arm["seconds"] for arm in arms if arm["name"] in trainings), 3), cut


def _stage(arm: str, number: int) -> str:
    return f"finetune-{arm}" + (f"-{number}" if number else "")
