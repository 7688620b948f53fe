"""Options of a valuation are refused before any work where they are out of range, or do not suit the points."""

import numpy as np

from tsds_jax.arrays import number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.estimators import MAX_PLAYERS
from tsds_jax.games import REGRESSION_UTILITIES, UTILITIES

SOURCES = ("logistic", "ridge", "kernel")
ESTIMATORS = ("add_one", "permutation", "exact", "banzhaf", "banzhaf_add_one")
# Their numbers are int32, and calls go some beyond the last.
MOST_SAMPLES = 2**31 - 2**16


def check_value_options(
    *,
    source: str,
    utility: str,
    estimator: str,
    subset_size: int | None,
    samples: int,
    reliability: float | None,
    C: float,
    truncation: float,
    seed: int,
) -> None:
    """Raises InputError for the first option of `value` that is wrong whatever the data."""
    check_source(source, utility, C)
    if subset_size is not None:
        number_in("subset_size", subset_size, 1, np.inf)
    check_sampling(estimator, samples, reliability, truncation, seed)


def check_source(source: str, utility: str, C: float) -> None:
    """Raises InputError for a source classifier, a utility of it or a penalty that there is not."""
    one_of("source", source, SOURCES)
    one_of("utility", utility, UTILITIES if source == "logistic" else (*UTILITIES, *REGRESSION_UTILITIES))
    number_in("C", C, 1e-6, 1e6, whole=False)


def check_sampling(estimator: str, samples: int, reliability: float | None, truncation: float, seed: int) -> None:
    """Raises InputError for an estimator that there is not, or what it is told out of range."""
    one_of("estimator", estimator, ESTIMATORS)
    number_in("samples", samples, 1, MOST_SAMPLES)
    if reliability is not None:
        number_in("reliability", reliability, 0, 0.999, whole=False)
    number_in("truncation", truncation, 0, 1e30, whole=False)
    number_in("seed", seed, 0, 2**32 - 1)


def check_together(
    estimator: str,
    *,
    reliability: float | None,
    top_overlap: float | None,
    antithetic: bool,
    per_validation_point: bool,
    row_groups: object,
) -> None:
    """Raises InputError for options that do not go with the estimator, or with each other."""
    if top_overlap is not None:
        number_in("top_overlap", top_overlap, 0, 1, whole=False)
        if reliability is None:
            raise InputError("top_overlap is given without reliability: give both")
    if antithetic and estimator != "permutation":
        raise InputError(f"antithetic is for chains, not for {estimator!r}: leave it out, or use 'permutation'")
    for name, given in (("per_validation_point", per_validation_point), ("row_groups", row_groups is not None)):
        if given and estimator == "banzhaf":
            raise InputError(f"{name} is not for 'banzhaf': use estimator='banzhaf_add_one'")
    if per_validation_point and row_groups is not None:
        raise InputError("per_validation_point and row_groups both split the values: give one of them")


def check_points(players: int, subset_size: int | None, estimator: str, *, groups: bool = False) -> None:
    """Raises InputError where so many training points, or groups of them, do not suit the options."""
    what, training = ("groups", "") if groups else ("points", "training ")
    if subset_size is not None and subset_size > players:
        raise InputError(
            f"subset_size {subset_size} is more than the {players} {training}{what}: give at most {players}"
        )
    if subset_size is not None and subset_size < players and estimator.startswith("banzhaf"):
        raise InputError(f"subset_size {subset_size} is not for {estimator!r}, which takes all {what}: leave it out")
    if estimator == "exact" and players > MAX_PLAYERS:
        raise InputError(f"{players} {what} are too many to enumerate: use at most {MAX_PLAYERS}, or another estimator")
