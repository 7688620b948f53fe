"""Rates of ours alone: what a run of the core beside its peers and one on an accelerator both measure."""

import jax
import jax.numpy as jnp
import numpy as np
from measures.problem import Arrays, timed
from measures.rows import Speed

from tsds_jax.estimators.permutation import chain_lanes, walk_chains
from tsds_jax.games import logistic_game
from tsds_jax.games.ridge import ridge_game
from tsds_jax.valuation import chain_block


class Logistic:
    """Exact logistic fits along whole permutations of all points, no truncation."""

    def __init__(self, data: Arrays, chains: int) -> None:
        """So many permutations a run."""
        self.game = logistic_game(*data, classes=2)
        self.points, self.chains, self.unconverged = len(data.x), chains, 0
        self.block = chain_block(self.game, self.points)
        self.lanes = min(chain_lanes(self.block * self.points * 2), chains)

    def rate(self, seed: int) -> float:
        """Fits a second of one run."""
        rng = np.random.default_rng(seed)
        orders = np.stack([rng.permutation(self.points) for _ in range(self.chains)]).astype(np.int32)
        walk, seconds = timed(
            lambda: jax.device_get(walk_chains(self.game, orders, jnp.float32(0), block=self.block, lanes=self.lanes))
        )
        self.unconverged += int(walk.unconverged.sum())
        # Two more utilities a chain, of nobody and of everyone, are not counted.
        return int(walk.fits.sum() - 2 * self.chains) / seconds


class RidgePrefixes:
    """Ridge fit and accuracy of every prefix of an order."""

    def __init__(self, data: Arrays, orders: int) -> None:
        """So many orders a run."""
        self.game = ridge_game(*data, classes=2)
        self.points, self.orders = len(data.x), orders
        sizes = jnp.arange(1, self.points + 1)
        self.prefixes = jax.jit(lambda game, order: game.prefix_utilities(order, sizes).utility)

    def rate(self, seed: int) -> float:
        """Prefixes a second of one run."""
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(self.points).astype(np.int32) for _ in range(self.orders)]
        _, seconds = timed(lambda: jax.block_until_ready([self.prefixes(self.game, order) for order in drawn]))
        return self.orders * self.points / seconds


def rate(kind: type[Logistic] | type[RidgePrefixes], data: Arrays, count: int, *, repeats: int) -> Speed:
    """Fits a second of ours along ``count`` permutations, beside nobody."""
    ours = kind(data, count)
    _, first = timed(lambda: ours.rate(0))
    _, later = timed(lambda: ours.rate(0))
    name = "exact logistic fits along permutations" if kind is Logistic else "exact ridge prefixes"
    rates = [ours.rate(repeat) for repeat in range(repeats)]
    about = {"unconverged": ours.unconverged} if isinstance(ours, Logistic) else {}
    return Speed(f"{name}, n = {len(data.x):,}", "fits/s", {"ours": rates}, None, None, (first, later), about=about)
