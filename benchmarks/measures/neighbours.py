"""KNN-Shapley: exact values of all training points for all validation rows, ours and the peers'."""

from collections.abc import Sequence
from statistics import median

import numpy as np
from measures.problem import Arrays, in_turn, timed
from measures.rates import fastest
from measures.rows import Speed
from peers.environment import CannotError, Peer
from reference.knn_shapley import knn_shapley as plain

from tsds_jax.games import knn_shapley

K = 5


def knn_rate(data: Arrays, peers: Sequence[Peer], wanted: float, *, repeats: int) -> Speed:
    """Pairs of a training point and a validation row a second; ours is measured against the fastest other."""
    pairs, double = len(data.x) * len(data.x_val), data.double()
    expected = plain(*double, k=K)
    differences: dict[str, float] = {}
    cannot: dict[str, str] = {}

    def checked(name: str, values: np.ndarray, seconds: float) -> float:
        differences[name] = float(np.abs(np.asarray(values) - expected).max())
        return pairs / seconds

    def ours(_: int) -> float:
        return checked("ours", *timed(lambda: knn_shapley(*data, k=K)))

    def of(peer: Peer) -> float:
        if peer.name in cannot:
            return float("nan")
        try:
            found = peer.run(*double, task="knn", k=K, warm=True)
        except CannotError as error:
            cannot[peer.name] = str(error)
            return float("nan")
        return checked(peer.name, found["values"], found["seconds"])

    sides = {"ours": ours} | {peer.name: lambda _, peer=peer: of(peer) for peer in peers}
    sides["reference"] = lambda _: checked("reference", *timed(lambda: plain(*double, k=K)))
    _, first = timed(lambda: ours(0))
    rates = {name: found for name, found in in_turn(repeats, sides).items() if name not in cannot}
    return Speed(
        f"KNN-Shapley, k = {K}, N = {len(data.x):,}, {len(data.x_val):,} validation rows, {data.x.shape[1]} features",
        "pairs/s",
        rates,
        fastest(rates),
        wanted,
        (first, pairs / median(rates["ours"])),
        ("largest difference in value from the reference, ours or a peer's", max(differences.values())),
        {"differences": differences},
        cannot,
        most=1e-6,
    )
