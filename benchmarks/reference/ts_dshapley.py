"""TS-DShapley as plainly as its paper reads: NumPy and scikit-learn, one fit a marginal contribution, no tricks.

The yardstick for `tsds_jax`: for its values, which must agree within sampling error (tests/test_reference.py), and for
its time. It shares no code with it. Three steps, each one function: `represent`, `ts_dshapley`, `select`. The paper's
fourth, fine-tuning the target model on what is kept, needs no method of its own.

    python benchmarks/reference/ts_dshapley.py

values 300 tweets, a tenth of them with a flipped label, and says what it found (half a minute).

Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley Values", ACL SRW
2023; truncation as in Ghorbani and Zou, "Data Shapley", ICML 2019. What the paper leaves open is as in the same group's
CS-Shapley: 32 principal components, logistic regression with C = 1, validation accuracy, truncation at 0.001.
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

COMPONENTS, TRUNCATION, SHARE = 32, 1e-3, 0.02


class Data(NamedTuple):
    """Rows that train and rows that validate: features ``[rows, width]`` and labels from 0, ``[rows]``."""

    x: np.ndarray
    y: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray


class Values(NamedTuple):
    """What sampling chains found.

    Attributes:
      values: ``[points]``, each point's mean marginal contribution; NaN of one that no chain drew.
      stderr: ``[points]``, its standard error; NaN of one drawn less than twice.
      counts: ``[points]``, how often it was drawn.
      fits: source classifiers trained.
    """

    values: np.ndarray
    stderr: np.ndarray
    counts: np.ndarray
    fits: int


class Selected(NamedTuple):
    """What is removed.

    Attributes:
      removed: indices of the removed rows, the lowest value first.
      cuts: numbers of rows that were tried.
      scores: the source classifier's validation accuracy without so many.
    """

    removed: np.ndarray
    cuts: np.ndarray
    scores: np.ndarray


def represent(train: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target model's vectors, as principal components of the training rows."""
    pca = PCA(min(COMPONENTS, *train.shape), svd_solver="full").fit(train)
    return pca.transform(train).astype(float), pca.transform(validation).astype(float)


def utility(data: Data, members: np.ndarray) -> float:
    """Validation accuracy of the source classifier that these training rows train.

    Rows of one class predict it. No rows know nothing: the accuracy of a guess among the classes.
    """
    labels = data.y[members]
    if len(labels) == 0:
        return 1 / len(np.unique(data.y_val))
    if (labels == labels[0]).all():
        return float(np.mean(data.y_val == labels[0]))
    # The default tolerance stops where accuracies still move.
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(data.x[members], labels)
    return float(model.score(data.x_val, data.y_val))


def walk_chain(data: Data, order: np.ndarray, truncation: float) -> tuple[np.ndarray, int]:
    """Marginal contributions of the points of a chain, in its order, and the fits that they took.

    A point's is the utility of the points before it and itself, less that of the points before it; 0 once the utility
    is within ``truncation`` of the whole chain's.
    """
    marginals = np.zeros(len(order))
    whole, before, fits = utility(data, order), utility(data, order[:0]), 1
    for place in range(len(order)):
        if abs(whole - before) < truncation:
            break
        after = utility(data, order[: place + 1])
        marginals[place] = after - before
        before, fits = after, fits + 1
    return marginals, fits


def ts_dshapley(
    data: Data, *, chains: int, subset_size: int | None = None, truncation: float = TRUNCATION, seed: int = 0
) -> Values:
    """Values of all training rows by so many sampling chains.

    A chain draws a subset, 2 % of the rows if no size is given, in random order, and walks it. A point's value is the
    mean over the chains that drew it.
    """
    points = len(data.y)
    size = subset_size or max(2, round(SHARE * points))
    rng = np.random.default_rng(seed)
    sums, squares, counts, fits = np.zeros(points), np.zeros(points), np.zeros(points, int), 0
    for _ in range(chains):
        order = rng.permutation(points)[:size]
        marginals, taken = walk_chain(data, order, truncation)
        sums[order] += marginals
        squares[order] += marginals**2
        counts[order] += 1
        fits += taken
    with np.errstate(divide="ignore", invalid="ignore"):
        values = sums / counts
        stderr = np.sqrt((squares / counts - values**2) / (counts - 1))
    return Values(values, stderr, counts, fits)


def select(data: Data, values: np.ndarray, *, step: float = 0.05, most: float = 0.5) -> Selected:
    """The removal index where the source classifier does best on the validation rows, and the rows before it.

    Rows that no chain drew are removed last.
    """
    lowest_first = np.argsort(values, kind="stable")
    cuts = np.unique(np.round(np.arange(0, most + step / 2, step) * len(values)).astype(int))
    scores = np.array([utility(data, lowest_first[cut:]) for cut in cuts])
    return Selected(lowest_first[: cuts[scores.argmax()]], cuts, scores)


def main() -> None:
    from tsds_jax.data import flip_labels, load_tweets
    from tsds_jax.demo import minilm_folder
    from tsds_jax.encoders import load_encoder

    splits = load_tweets(train=300, validation=200, test=1)
    train, wrong = flip_labels(splits.train, 0.1, seed=0)
    encoder = load_encoder(minilm_folder())
    x, x_val = represent(encoder.embed(train.texts), encoder.embed(splits.validation.texts))
    data = Data(x, train.labels, x_val, splits.validation.labels)
    found = ts_dshapley(data, chains=200, subset_size=60)
    chosen = select(data, found.values)
    print(f"{found.fits:,} fits; each row was drawn {found.counts.min()} to {found.counts.max()} times")
    print(
        f"without the lowest {len(chosen.removed)} of {len(x)} rows the source classifier is best: "
        f"{chosen.scores[0]:.1%} to {chosen.scores.max():.1%} validation accuracy; {wrong[chosen.removed].mean():.0%} "
        f"of them are flipped, of all rows {wrong.mean():.0%}"
    )


if __name__ == "__main__":
    main()
