"""Makes cleanlab.json: what cleanlab says of held-out probabilities, for tests that run without it.

    python tests/golden/make_cleanlab.py

It runs where cleanlab 2.9 is installed, with nothing of ours. Labels of three classes are drawn from probabilities that
are sharper than those given, and a fifth of them is redrawn at random.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores


def main() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(size=(300, 3)) + np.array([0.5, 0.0, -0.5])
    probability = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    # Rounded to what the file holds.
    probability = probability.round(4)
    probability[:, 2] = (1 - probability[:, :2].sum(1)).round(4)
    labels = (2.5 * logit + rng.gumbel(size=logit.shape)).argmax(1)
    again = rng.random(300) < 0.2
    labels[again] = rng.integers(0, 3, again.sum())
    _, off_diagonal = compute_confident_joint(
        labels, probability, calibrate=False, return_indices_of_off_diagonals=True
    )
    scores = get_label_quality_scores(labels, probability, method="normalized_margin", adjust_pred_probs=False)
    issues = find_label_issues(labels, probability, filter_by="confident_learning", n_jobs=1)
    answer = {
        "probability": probability.tolist(),
        "labels": labels.tolist(),
        "off_diagonal": sorted(np.asarray(off_diagonal).tolist()),
        "issues": np.flatnonzero(issues).tolist(),
        "normalized_margin": scores.round(6).tolist(),
        "self_confidence": get_label_quality_scores(labels, probability, method="self_confidence").round(6).tolist(),
        "version": importlib.metadata.version("cleanlab"),
    }
    Path(__file__).with_name("cleanlab.json").write_text(json.dumps(answer) + "\n", "utf-8")


if __name__ == "__main__":
    main()
