"""A check on the target: short fine-tunings at a few cuts, against one on everything, before a cut is recommended.

What helps a source classifier on frozen representations need not help a model that is fine-tuned. So the model itself
is fine-tuned without the lowest rows and with them, by the same seeds, and compared on the validation rows by the
log-likelihood of their labels, which tells models apart long before accuracy does. Each is taken at its own best
temperature: without wrong labels a model is surer of everything, which as such makes no prediction better.

Values were measured on validation rows, so a model that is judged by the same ones is flattered. Where the rule
cross-fits, so does the check: each seed removes rows in the order that one part of the validation rows did not decide,
and is judged by that part alone. And of several useless cuts one does better by chance sooner than one alone would, so
what a cut has to gain goes by how many there are.

To be short, it is done on a part of the rows, for as many passes as the whole fine-tuning: a model learns what most
rows have in common first and wrong labels by heart later, so that few steps over all rows would not show their harm.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from tsds_jax.data import TextData
from tsds_jax.data.messages import counted
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning import finetune, steps_for
from tsds_jax.finetuning.temperature import at_best_temperature
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import Keep, PartOf, no_part
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection.choice import Choice

# Of fewer rows than this a model learns nothing that could be compared.
_FEWEST = 100


class CheckedCut(NamedTuple):
    """What the model makes of a cut.

    Attributes:
      removed: rows removed.
      difference: log-likelihood of a validation row's label at the model's best temperature, less that of the model
        that saw all rows: the mean over rows and seeds.
      stderr: its standard error, over rows and over seeds.
      accuracy: the same difference of accuracies.
      needed: how many standard errors it has to gain to hold up, see `errors_needed`.
    """

    removed: int
    difference: float
    stderr: float
    accuracy: float
    needed: float

    @property
    def holds_up(self) -> bool:
        """Whether the difference is above zero by as many standard errors as are needed."""
        return self.difference > self.needed * self.stderr


class TargetCheck(NamedTuple):
    """The cuts that were checked, and what follows.

    Attributes:
      cuts: by rows removed.
      seeds: of each cut's fine-tunings.
      rows: that each fine-tuning is about, those that its cut removes included.
      steps: of each fine-tuning.
      recommended: rows to remove: of the smallest cut that holds up, or 0.
      crossed: whether each validation row was scored after removals that other rows had decided.
      truncated: texts that were cut at the length limit of fine-tuning, in one of them.
      proposed: rows that the rule would remove.
    """

    cuts: tuple[CheckedCut, ...]
    seeds: int
    rows: int
    steps: int
    recommended: int
    crossed: bool
    truncated: int
    proposed: int

    def __str__(self) -> str:
        """In words."""
        some = "; ".join(
            f"{counted(cut.removed, 'row')} removed {1000 * cut.difference:+.1f} ± {1000 * cut.stderr:.1f} "
            f"({1000 * cut.needed * cut.stderr:.1f} needed)"
            for cut in self.cuts
        )
        by = "seed, whose own luck is not in the error" if self.seeds == 1 else "seeds"
        flattered = "" if self.crossed else ", which valued the rows too and so flatter it,"
        judging = "half of the validation rows" if self.crossed and self.seeds == 1 else "validation rows"
        smallest = counted(self.recommended, "row")
        end = f"the smallest cut that holds up is {smallest}" if self.recommended else "no cut holds up"
        return (
            f"By the curve alone the rule would remove {counted(self.proposed, 'row')}. "
            f"Checked by fine-tuning the model itself on {self.rows:,} rows for {counted(self.steps, 'step')} by "
            f"{self.seeds} {by} (change of the log-likelihood on {judging}{flattered} in thousandths, each model at "
            f"its best temperature, with its standard error): {some}. So {end}."
        )


def errors_needed(cuts: int, freedom: float = np.inf) -> float:
    """How many standard errors a cut has to gain, so that all cuts together find as little by chance as one by one.

    The chance that one useless cut gains more than its true standard error is 16 %; that is shared among them as if
    they were independent (Sidak). An error that is itself estimated with so many degrees of freedom, as of two seeds
    with one, takes more (Student's t).

    Example:
      >>> [round(errors_needed(cuts), 2) for cuts in (1, 2, 3)], round(errors_needed(1, freedom=1.0), 2)
      ([1.0, 1.39, 1.59], 1.84)
    """
    return float(scipy.stats.t.ppf(scipy.stats.norm.cdf(1.0) ** (1 / cuts), freedom))


def target_check(
    encoder: Encoder,
    train: TextData,
    validation: TextData,
    choice: Choice,
    folds: np.ndarray | None,
    options: FineTuneOptions,
    settings: SelectOptions,
    *,
    keep: Keep,
    part: PartOf = no_part,
    progress: ProgressFn = silent,
    units: np.ndarray | None = None,
) -> TargetCheck:
    """Fine-tunes at half the removal index, at it, and at twice as much, or the cuts before these, and on everything.

    The budget is ``4 * check_seeds`` fine-tunings of ``check_steps`` steps, three at the least cuts. Where the whole
    fine-tuning has more steps, each seed draws the same share of the rows, evenly along the order of removal, so that
    every cut removes its share of them.

    Args:
      encoder: the target.
      train: all training rows.
      validation: rows to compare on; they choose no step, the last is taken.
      choice: what the rule chose; a removal index above 0.
      folds: int ``[rows]``, the fold of each validation row where ``choice`` has an order for each: the seeds take
        turns with them. None where one order is judged by all rows.
      options: how to fine-tune; ``seed`` and those after it are used.
      settings: ``check_seeds``, at least 1, each of which trains every cut once; ``check_steps``.
      keep: stores what is finished, by name.
      part: what of it is under way, by the same names.
      progress: called after each step, stage "check".
      units: int ``[rows]``, validation rows of one unit (copies, a document's) say what they say together; None where
        every row is by itself.
    """
    seeds = settings.check_seeds
    whole = steps_for(options, len(train))
    steps = min(settings.check_steps, whole)
    drawn = min(max(round(len(train) * steps / whole), _FEWEST), len(train))
    removed, index = choice.curve.removed, choice.removal_index
    cuts = np.unique(removed[np.searchsorted(removed, [0, index // 2, index, 2 * index], side="right") - 1])
    total, done, truncated = steps * seeds * len(cuts), 0, 0
    orders = (choice.order,) if folds is None else choice.crossed
    found = np.full((2, seeds, len(cuts), len(validation)), np.nan)  # log-likelihoods and hits

    def train_on(name: str, cut: int, rows: np.ndarray, own: FineTuneOptions, done: int) -> Arrays:
        def relay(event: Progress) -> None:
            progress(Progress("check", done + event.done, total, "steps", f"{cut} rows removed, {event.detail}"))

        kept = part(name).of_model()
        tuned = finetune(encoder, train.select(rows), test=validation, options=own, progress=relay, **kept)
        return {
            "probabilities": np.asarray(tuned.probabilities),
            "truncated": np.asarray(tuned.truncated),
            "seconds": np.asarray(tuned.seconds),
        }

    for seed in range(seeds):
        own = dataclasses.replace(options, steps=steps, seed=(options.seed + seed) % 2**32, patience=None, best_by=None)
        start = np.random.default_rng([own.seed, drawn]).uniform()
        places = ((np.arange(drawn) + start) * len(train) / drawn).astype(np.int64)
        order = orders[seed % len(orders)]
        judges = np.arange(len(validation)) if folds is None else np.flatnonzero(folds == seed % len(orders))
        labels = validation.labels[judges]
        for place, cut in enumerate(cuts.tolist()):
            near = order.near(cut)
            # By another name than where what is next was not passed over, which an earlier version did not.
            name = f"check-{cut}-{own.seed}" + ("-near" if len(near) != order.cuts(np.array([cut]))[0] else "")
            rows = np.setdiff1d(order.points[places], near)
            stored = keep(name, functools.partial(train_on, name, cut, rows, own, done))
            probability = stored["probabilities"][judges].astype(np.float64)
            done, truncated = done + steps, max(truncated, stored["truncated"].item())
            own_class = at_best_temperature(probability, labels)[np.arange(len(judges)), labels]
            found[0, seed, place, judges] = np.log(np.maximum(own_class, 1e-9))
            found[1, seed, place, judges] = probability.argmax(1) == labels
    paired = found - found[:, :, :1]
    checked = []
    for place, cut in enumerate(cuts.tolist()):
        if cut:
            mean, error, freedom = mean_and_error(paired[0, :, place], units)
            accuracy, *_ = mean_and_error(paired[1, :, place], units)
            checked.append(CheckedCut(cut, mean, error, accuracy, errors_needed(int(np.count_nonzero(cuts)), freedom)))
    recommended = next((cut.removed for cut in checked if cut.holds_up), 0)
    return TargetCheck(tuple(checked), seeds, drawn, steps, recommended, folds is not None, truncated, index)


def mean_and_error(paired: np.ndarray, units: np.ndarray | None = None) -> tuple[float, float, float]:
    """Of differences ``[seeds, rows]`` the mean, its standard error, and that one's degrees of freedom.

    Rows are a sample, or ``units`` of them are, int ``[rows]``, and where there are several seeds, seeds are another
    (Welch and Satterthwaite). NaN where a seed is not judged by a row. Seeds that are judged by different rows differ
    by these too, which counts twice then: an error that is rather too large. Of one row or unit the error is as large
    as what it says.
    """
    judged = ~np.isnan(paired).all(0)
    rows = np.nanmean(paired[:, judged], 0)
    _, unit = np.unique(np.arange(len(rows)) if units is None else units[judged], return_inverse=True)
    errors, freedom = [abs(float(rows.mean()))], [1.0]
    if unit.max() > 0:
        away = np.bincount(unit, rows - rows.mean()) / len(rows)
        errors, freedom = [float(np.sqrt(np.sum(away**2) * len(away) / (len(away) - 1)))], [len(away) - 1.0]
    if len(paired) > 1:
        errors.append(float(np.nanmean(paired, 1).std(ddof=1) / np.sqrt(len(paired))))
        freedom.append(len(paired) - 1.0)
    parts = np.square(errors)
    doubt = float(np.sum(parts**2 / freedom))
    return float(rows.mean()), float(np.sqrt(parts.sum())), parts.sum() ** 2 / doubt if doubt > 0 else np.inf


def as_json(check: TargetCheck) -> dict[str, Any]:
    """For selection.json."""
    return {**check._asdict(), "cuts": [cut._asdict() for cut in check.cuts]}
