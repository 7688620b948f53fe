"""How good outputs are beside the labels, in each task."""

import numpy as np
import scipy.special
import scipy.stats

from tsds_jax.evaluation import accuracy, macro_f1

# The metrics of a task; the first decides which step's weights are kept, unless `best_by` says otherwise.
METRICS = {
    "classification": ("accuracy", "macro_f1", "loss"),
    "multi_label": ("micro_f1", "macro_f1", "accuracy", "loss"),
    "regression": ("loss", "mean_absolute_error", "r2", "pearson", "spearman"),
}
_LOWER_IS_BETTER = ("loss", "mean_absolute_error")


def score(outputs: np.ndarray, labels: np.ndarray, task: str) -> dict[str, float]:
    """Every metric of the task.

    In classification "loss" is the mean cross-entropy, without smoothing. Of several labels a row it is the mean over
    rows and classes of the binary one; a class counts as said from a probability of 1/2; "accuracy" is the share of the
    rows with every class right; "micro_f1" is of all rows and classes together, "macro_f1" the mean over the classes,
    where one that is neither there nor said counts 0. In regression "loss" is the mean squared error; "r2" is
    ``1 - mse / var(labels)``, and "pearson" and "spearman" are correlations; the three are 0 where labels or outputs
    are all alike.

    Args:
      outputs: [rows, classes] logits, or [rows, 1] numbers.
      labels: [rows] classes, bool [rows, classes], or [rows] numbers.
      task: a key of `METRICS`.

    Example:
      >>> score(np.array([[2.0], [4.0]]), np.array([2.0, 2.0]), "regression")["loss"]
      2.0
    """
    outputs = outputs.astype(np.float64)
    if task == "classification":
        log_likelihood = outputs[np.arange(len(labels)), labels] - scipy.special.logsumexp(outputs, axis=1)
        found = outputs.argmax(axis=1)
        return {
            "accuracy": accuracy(labels, found),
            "macro_f1": macro_f1(labels, found, outputs.shape[1]),
            "loss": float(-log_likelihood.mean()),
        }
    if task == "multi_label":
        said = outputs >= 0
        # 2 TP + FP + FN of each class
        hits, named = 2 * (said & labels).sum(0), said.sum(0) + labels.sum(0)
        return {
            "micro_f1": float(hits.sum() / max(named.sum(), 1)),
            "macro_f1": float(np.mean(hits / np.maximum(named, 1))),
            "accuracy": float((said == labels).all(1).mean()),
            "loss": float((np.logaddexp(0, outputs) - labels * outputs).mean()),
        }
    given, labels = outputs[:, 0], labels.astype(np.float64)
    squared, spread = float(np.square(given - labels).mean()), float(labels.var())
    varied = spread > 0 and float(given.var()) > 0
    return {
        "loss": squared,
        "mean_absolute_error": float(np.abs(given - labels).mean()),
        "r2": 1 - squared / spread if spread > 0 else 0.0,
        "pearson": float(scipy.stats.pearsonr(given, labels).statistic) if varied else 0.0,
        "spearman": float(scipy.stats.spearmanr(given, labels).statistic) if varied else 0.0,
    }


def goodness(scores: dict[str, float], task: str, best_by: str | None) -> tuple[float, float]:
    """(the metric that decides, minus the loss): the larger, the better."""
    name = best_by or METRICS[task][0]
    return (-scores[name] if name in _LOWER_IS_BETTER else scores[name]), -scores["loss"]
