"""What a study is asked for, refused before the work where a part of it cannot be done."""

import dataclasses
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tsds_jax import __version__
from tsds_jax.arrays import number_in, one_of
from tsds_jax.baselines import BASELINES, check_baseline
from tsds_jax.data import Splits, TextData, flip_labels, numbers, without_overlap
from tsds_jax.data.loading import with_classes
from tsds_jax.data.noise import NOISES
from tsds_jax.data.splitting import count_overlap
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning import check_fits, checked_options
from tsds_jax.finetuning.checks import lasting
from tsds_jax.options import EVALUATED, FineTuneOptions, SelectOptions, build, plain
from tsds_jax.pipeline.checks import (
    check_cache,
    check_for_comparison,
    check_precision,
    check_representing,
    check_select_options,
    check_sizes,
    pooled_by,
)
from tsds_jax.runtime.folder import check_place
from tsds_jax.selection import Limits
from tsds_jax.study.summary import ORACLE

# Ours, as `select` values and cuts by default.
OURS = "shapley"
METHODS = (OURS, *BASELINES, ORACLE)
# Labels of which the crowd's share is below are doubtful.
_CONFIDENT = 0.7
# Some disk takes them for something else than a letter of a file's name.
_NOT_IN_NAMES = frozenset('/\\:*?"<>|\0')
# Bytes of a data set's name: a file's name has 255 at most, with method, share and seed behind it.
LONGEST_NAME = 120


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A study of which every part can be done.

    Attributes:
      data: name to splits.
      methods: see `evaluate`, and so are the next four.
      flips: see ``methods``.
      seeds: see ``methods``.
      finetuned: see ``methods``.
      shares: see ``methods``.
      settings: how to represent, value and cut.
      tuning: how to fine-tune.
      fine_tunes: whether anything is.
      encoder: the model.
      doubted: of each data set's labels as they came which are doubtful, and of which that is known.
      flipped: by name, share and seed the training rows with flipped labels, and which are.
      identity: what makes the study this one, as JSON values.
    """

    data: dict[str, Splits]
    methods: Sequence[str]
    flips: tuple[float, ...]
    seeds: tuple[int, ...]
    finetuned: Sequence[str]
    shares: tuple[float, ...]
    settings: SelectOptions
    tuning: FineTuneOptions
    fine_tunes: bool
    encoder: Encoder
    doubted: dict[str, tuple[np.ndarray, np.ndarray]]
    flipped: dict[tuple[str, float, int], tuple[TextData, np.ndarray]]
    identity: dict[str, Any]

    @property
    def asked(self) -> dict[str, list[Any]]:
        """What a resumed study may be asked for otherwise, as JSON values."""
        names = ("methods", "flips", "seeds", "finetuned", "shares")
        return {name: list(getattr(self, name)) for name in names}

    @property
    def rows(self) -> list[TextData]:
        """All of them, part by part."""
        return [part for splits in self.data.values() for part in _parts(splits)]


def planned(
    data: Mapping[str, Splits],
    *,
    model: str | os.PathLike | Encoder,
    out: str | os.PathLike,
    methods: Sequence[str],
    flips: Sequence[float],
    noise: str,
    seeds: Sequence[int],
    finetuned: Sequence[str],
    finetuned_shares: Sequence[float],
    finetuning: FineTuneOptions | None,
    confidence: str | None,
    confident_from: float | None,
    cache: str | os.PathLike | None,
    checkpoint_every: float,
    resume: bool,
    overwrite: bool,
    options: Mapping[str, Any],
) -> Plan:
    """What `evaluate` is asked for, which has the arguments' meanings.

    Raises:
      InputError: something given cannot be used.
    """
    settings = build(SelectOptions, {"check_seeds": 0, **options})
    for name in options:
        if name not in EVALUATED:
            raise InputError(f"option {name} is not for evaluate, which values rows one by one: leave it out")
    check_select_options(settings)
    several = {"methods": methods, "flips": flips, "seeds": seeds}
    for name, given in (several | {"finetuned": finetuned, "finetuned_shares": finetuned_shares}).items():
        if isinstance(given, str | int | float):
            raise InputError(f"{name} is {given!r:.60}: give a list")
    flips, seeds, shares = (tuple(map(plain, some)) for some in (flips, seeds, finetuned_shares))
    if confident_from is not None and confidence is None:
        raise InputError(f"confident_from is {confident_from!r:.60} of no column: give confidence too, or leave it out")
    confident_from = _CONFIDENT if confident_from is None else plain(confident_from)
    _check(data, methods, flips, noise, seeds)
    data = {name: _of_one_list(splits) for name, splits in data.items()}
    if settings.drop_overlap:
        data = {name: without_overlap(splits) for name, splits in data.items()}
    _check_finetuned(finetuned, shares, methods)
    tuning = finetuning or FineTuneOptions()
    check_for_comparison(tuning)
    tuning = checked_options(tuning)
    for method, splits in itertools.product(methods, data.values()):
        check_baseline(method, len(splits.train))
    number_in("confident_from", confident_from, -1e30, 1e30, whole=False)
    if confidence is not None and 0 not in flips:
        raise InputError(f"confidence {confidence!r} is asked about where no label is flipped: have 0 among flips")
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    doubted = {name: _doubted_by_crowd(splits.train, confidence, confident_from) for name, splits in data.items()}
    rows = [part for splits in data.values() for part in _parts(splits)]
    check_place(out, (model, *rows), resume=resume, overwrite=overwrite)
    check_cache(cache)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    settings = pooled_by(encoder, settings)
    for splits in data.values():
        check_sizes(splits, encoder, settings, Limits.none(splits.train.labels))
    flipped = {}
    for (name, splits), share, seed in itertools.product(data.items(), flips, seeds):
        flipped[name, share, seed] = flip_labels(splits.train, share, seed, noise)
        _check_classes_left(name, splits, flipped[name, share, seed][0], share, seed)
    fine_tunes = bool(finetuned) or settings.represent_by != "pretrained" or settings.check_seeds > 0
    if fine_tunes:
        check_precision(encoder)
        check_fits(tuning, encoder)
        check_representing(settings, encoder, tuning)
    identity = {
        "tsds_jax": __version__,
        "stage": "evaluate",
        "options": dataclasses.asdict(settings),
        "finetuning": lasting(tuning),
        "confidence": None if confidence is None else [confidence, confident_from],
        # The oracle removes them, and they are no part of the data's fingerprint.
        "doubtful": confidence and {name: _hash(*arrays) for name, arrays in doubted.items()},
        "noise": noise,
        "model": encoder.fingerprint(),
        "head": encoder.head_fingerprint(),
        "data": {name: [part.fingerprint() for part in _parts(splits)] for name, splits in data.items()},
    }
    encoder.tokenizer  # noqa: B018, it is read before the folder is opened
    asked = (methods, flips, seeds, finetuned, shares)
    return Plan(data, *asked, settings, tuning, fine_tunes, encoder, doubted, flipped, identity)


def check_name_is_new(name: str, others: Iterable[str]) -> None:
    """Raise InputError for a data set that is called as another one is."""
    # Their state files would be one on a disk that does not tell A from a.
    if name.casefold() in map(str.casefold, others):
        raise InputError(f"two data sets are called {name}: rename one of them")


def _check(data: Mapping[str, Splits], methods: Any, flips: Any, noise: str, seeds: Any) -> None:
    if not data or not methods or not flips or not seeds:
        raise InputError("evaluation needs at least one data set, one method, one share of flips and one seed")
    for method in methods:
        one_of("method", method, METHODS)
    one_of("noise", noise, NOISES)
    for share in flips:
        number_in("flips", share, 0, 0.5, whole=False)
    for seed in seeds:
        number_in("seed", seed, 0, 2**32 - 1)
    for what, given in (("methods", methods), ("flips", flips), ("seeds", seeds)):
        if len(set(given)) < len(given):
            raise InputError(f"{what} has something twice: {', '.join(map(str, given))}")
    for place, (name, splits) in enumerate(data.items()):
        if not name or _NOT_IN_NAMES.intersection(name):
            raise InputError(f"data set {name!r:.60} cannot be part of a file's name: call it by letters and numbers")
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise InputError(f"data set {name:.60}... has a name of more than {LONGEST_NAME} bytes: give a shorter one")
        check_name_is_new(name, list(data)[:place])
        if not isinstance(splits, Splits):
            raise InputError(f"data set {name} is a {type(splits).__name__}: give what load_splits gives")
        if splits.test is None:
            raise InputError(f"data set {name} has no test rows: give some")


def _of_one_list(splits: Splits) -> Splits:
    """The same of one list of classes, the training rows', with the texts counted that stand in two of its parts.

    Whoever put the parts together by hand need not have seen to either.
    """
    known = splits.train.classes
    test = None if splits.test is None else with_classes(splits.test, known, "test")
    splits = dataclasses.replace(splits, validation=with_classes(splits.validation, known), test=test)
    # Of what was left out the count is from before.
    return splits if splits.left_out else dataclasses.replace(splits, overlap=count_overlap(*_parts(splits)))


def _check_classes_left(name: str, splits: Splits, train: TextData, share: float, seed: int) -> None:
    """Raise InputError for a class of validation or test rows that no training row has once labels are flipped."""
    for part in _parts(splits)[1:]:
        for label in np.setdiff1d(part.labels, train.labels):
            raise InputError(
                f"data set {name}: with a share of {share:g} flipped by seed {seed} no training row is of class"
                f" {train.classes[label]}: leave out that seed, that share or the class"
            )


def _check_finetuned(finetuned: Sequence[str], shares: Sequence[float], methods: Sequence[str]) -> None:
    for method in finetuned:
        if method not in methods:
            raise InputError(f"the model is to be fine-tuned without the rows of {method}: add it to the methods")
    for share in shares:
        number_in("finetuned_shares", share, 0.001, 0.99, whole=False)
    if shares and not finetuned:
        raise InputError("finetuned_shares is for the methods in finetuned: name some")
    # The oracle's index is its own; the others are cut at that of ours.
    without = [method for method in finetuned if method != ORACLE]
    if without and not shares and OURS not in methods:
        raise InputError(f"no share is given, and without {OURS} among the methods {without[0]} has no index: give one")


def _doubted_by_crowd(train: TextData, confidence: str | None, confident_from: float) -> tuple[np.ndarray, np.ndarray]:
    """Which labels the crowd was not sure of, and of which rows that is known.

    Raises InputError where that parts no row from the others, for there would be nothing to find.
    """
    if confidence is None:
        return np.zeros(len(train), bool), np.ones(len(train), bool)
    sure = numbers(train, confidence)
    doubted, known = sure < confident_from, np.isfinite(sure)
    if doubted[known].all() or not doubted.any():
        raise InputError(
            f"{train.source}: column {confidence!r} is from {np.nanmin(sure):g} to {np.nanmax(sure):g}, so"
            f" confident_from {confident_from:g} doubts {'all' if doubted.any() else 'no'} labels: give another"
        )
    return doubted, known


def _hash(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def _parts(splits: Splits) -> list[TextData]:
    assert splits.test is not None
    return [splits.train, splits.validation, splits.test]
