"""Runs cleanlab; started with the Python of cleanlab's own environment, see answering.py.

Task: "label_errors", confident learning by five-fold cross-validation of scikit-learn's LogisticRegression: the lower a
label's quality, the likelier it is wrong. It has no use for validation rows.
"""

from answering import Given, answer, timed
from cleanlab.classification import CleanLearning
from sklearn.linear_model import LogisticRegression


def label_errors(given: Given) -> dict:
    """The quality of each label."""
    learner = CleanLearning(LogisticRegression(), cv_n_folds=5, seed=given.options["seed"])
    issues, seconds = timed(lambda: learner.find_label_issues(given.x, given.y))
    return {
        "values": issues["label_quality"].tolist(),
        "issues": issues["is_label_issue"].tolist(),
        "seconds": seconds,
    }


if __name__ == "__main__":
    answer({"label_errors": label_errors}, ("cleanlab", "scikit-learn", "numpy"))
