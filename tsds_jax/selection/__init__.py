"""The transfer: from values to which points are removed."""

from tsds_jax.selection.choice import Choice
from tsds_jax.selection.curve import (
    RemovalCurve,
    check_cuts,
    crossed_curve,
    ordered_curve,
    removal_curve,
    wanted_cuts,
)
from tsds_jax.selection.limits import Limits, RemovalOrder
from tsds_jax.selection.points import select_points
from tsds_jax.selection.rules import RULES, removal_index
from tsds_jax.selection.suspects import Suspects, suspected_labels

__all__ = [
    "RULES",
    "Choice",
    "Limits",
    "RemovalCurve",
    "RemovalOrder",
    "Suspects",
    "check_cuts",
    "crossed_curve",
    "ordered_curve",
    "removal_curve",
    "removal_index",
    "select_points",
    "suspected_labels",
    "wanted_cuts",
]
