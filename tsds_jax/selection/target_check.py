"""A check on the target: short fine-tunings at a few cuts, against one on everything, before a cut is recommended.

What helps a source classifier on frozen representations need not help a model that is fine-tuned. So the model itself
is fine-tuned without the lowest rows and with them, by the same seeds, and compared on the validation rows by the
log-likelihood of their labels, which tells models apart long before accuracy does. Each is taken at its own best
temperature: without wrong labels a model is surer of everything, which as such makes no prediction better.

To be short, it is done on a part of the rows, for as many passes as the whole fine-tuning: a model learns what most
rows have in common first and wrong labels by heart later, so that few steps over all rows would not show their harm.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from tsds_jax.data import TextData
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning import finetune, steps_for
from tsds_jax.finetuning.temperature import at_best_temperature
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.runtime.folder import Arrays, Keep, PartOf, no_part
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection.limits import RemovalOrder


class CheckedCut(NamedTuple):
    """What the model makes of a cut.

    Attributes:
      removed: rows removed.
      difference: log-likelihood of a validation row's label at the model's best temperature, less that of the model
        that saw all rows: the mean over rows and seeds.
      stderr: its standard error, over rows and over seeds.
      accuracy: the same difference of accuracies.
    """

    removed: int
    difference: float
    stderr: float
    accuracy: float

    @property
    def holds_up(self) -> bool:
        """Whether the difference is above zero by more than its standard error."""
        return self.difference > self.stderr


class TargetCheck(NamedTuple):
    """The cuts that were checked, and what follows.

    Attributes:
      cuts: by rows removed.
      seeds: of each cut's fine-tunings.
      rows: that each fine-tuning is about, those that its cut removes included.
      steps: of each fine-tuning.
      recommended: rows to remove: of the smallest cut that holds up, or 0.
    """

    cuts: tuple[CheckedCut, ...]
    seeds: int
    rows: int
    steps: int
    recommended: int

    def __str__(self) -> str:
        """In words."""
        some = "; ".join(
            f"{cut.removed:,} rows removed {1000 * cut.difference:+.1f} ± {1000 * cut.stderr:.1f}" for cut in self.cuts
        )
        end = f"the smallest cut that holds up is {self.recommended:,} rows" if self.recommended else "no cut holds up"
        return (
            f"Checked by fine-tuning the model itself on {self.rows:,} rows for {self.steps} steps by {self.seeds} "
            f"seeds (change of the log-likelihood on validation rows in thousandths, each model at its best "
            f"temperature, with its standard error): {some}. So {end}."
        )


def target_check(
    encoder: Encoder,
    train: TextData,
    validation: TextData,
    order: RemovalOrder,
    removed: np.ndarray,
    index: int,
    options: FineTuneOptions,
    settings: SelectOptions,
    *,
    keep: Keep,
    part: PartOf = no_part,
    progress: ProgressFn = silent,
) -> TargetCheck:
    """Fine-tunes at half the removal index, at it, and at twice as much, or the cuts before these, and on everything.

    The budget is ``4 * check_seeds`` fine-tunings of ``check_steps`` steps, three at the least cuts. Where the whole
    fine-tuning has more steps, each seed draws the same share of the rows, evenly along the order of removal, so that
    every cut removes its share of them.

    Args:
      encoder: the target.
      train: all training rows.
      validation: rows to compare on; they choose no step, the last is taken.
      order: of removal.
      removed: int64 ``[cuts]``, the cuts of the removal curve, from 0 upwards.
      index: the removal index to check, one of them, above 0.
      options: how to fine-tune; ``seed`` and those after it are used.
      settings: ``check_seeds``, at least 1, each of which trains every cut once; ``check_steps``.
      keep: stores what is finished, by name.
      part: what of it is under way, by the same names.
      progress: called after each step, stage "check".
    """
    seeds = settings.check_seeds
    whole = steps_for(options, len(train))
    steps = min(settings.check_steps, whole)
    drawn = max(round(len(train) * steps / whole), 1)
    cuts = np.unique(removed[np.searchsorted(removed, [0, index // 2, index, 2 * index], side="right") - 1])
    total, done = steps * seeds * len(cuts), 0
    found = np.zeros((2, seeds, len(cuts), len(validation)))  # log-likelihoods and hits

    def train_on(name: str, cut: int, places: np.ndarray, own: FineTuneOptions, done: int) -> Arrays:
        def relay(event: Progress) -> None:
            progress(Progress("check", done + event.done, total, "steps", f"{cut} rows removed, {event.detail}"))

        rows = train.select(np.sort(order.points[places[places >= cut]]))
        kept = part(name).of_model()
        tuned = finetune(encoder, rows, evaluation=validation, options=own, progress=relay, **kept)
        return {"probabilities": np.asarray(tuned.probabilities)}

    for seed in range(seeds):
        own = dataclasses.replace(options, steps=steps, seed=(options.seed + seed) % 2**32, patience=None)
        start = np.random.default_rng([own.seed, drawn]).uniform()
        places = ((np.arange(drawn) + start) * len(train) / drawn).astype(np.int64)
        for place, cut in enumerate(cuts.tolist()):
            name = f"check-{cut}-{own.seed}"
            stored = keep(name, functools.partial(train_on, name, cut, places, own, done))
            probability = stored["probabilities"].astype(np.float64)
            done += steps
            calibrated = at_best_temperature(probability, validation.labels)
            own_class = calibrated[np.arange(len(validation)), validation.labels]
            found[:, seed, place] = np.log(np.maximum(own_class, 1e-9)), probability.argmax(1) == validation.labels
    paired = found - found[:, :, :1]
    checked = tuple(
        CheckedCut(int(cut), *_mean_and_error(paired[0, :, place]), float(paired[1, :, place].mean()))
        for place, cut in enumerate(cuts)
        if cut
    )
    recommended = next((cut.removed for cut in checked if cut.holds_up), 0)
    return TargetCheck(checked, seeds, drawn, steps, recommended)


def _mean_and_error(paired: np.ndarray) -> tuple[float, float]:
    """Of differences ``[seeds, rows]``: rows as a sample, and where there are several seeds, seeds as another."""
    rows = paired.mean(0)
    error = float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else 0.0
    if len(paired) > 1:
        error = float(np.hypot(error, paired.mean(1).std(ddof=1) / np.sqrt(len(paired))))
    return float(paired.mean()), error


def as_json(check: TargetCheck) -> dict[str, Any]:
    """For selection.json."""
    return {**check._asdict(), "cuts": [cut._asdict() for cut in check.cuts]}
