"""How good predictions, values and methods are, with intervals."""

from tsds_jax.evaluation.detection import Detection, detection
from tsds_jax.evaluation.removal import KeptCurve, kept_curve
from tsds_jax.evaluation.scores import Interval, accuracy, macro_f1, over_seeds, paired_difference, share_interval
from tsds_jax.evaluation.stability import Stability, stability

__all__ = [
    "Detection",
    "Interval",
    "KeptCurve",
    "Stability",
    "accuracy",
    "detection",
    "kept_curve",
    "macro_f1",
    "over_seeds",
    "paired_difference",
    "share_interval",
    "stability",
]
