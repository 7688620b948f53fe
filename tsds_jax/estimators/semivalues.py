"""Semivalues: weights over coalition sizes that turn mean marginal contributions by size into one value."""

import numpy as np
from scipy.special import betaln, gammaln

from tsds_jax.errors import InputError


def semivalue_weights(kind: str, players: int, *, alpha: float = 1.0, beta: float = 1.0, size: int = 0) -> np.ndarray:
    """The weight ``w_k`` of coalition size ``k``: a semivalue is ``sum_k w_k D_i(k)``, the weights summing to one.

    ``D_i(k)`` is the mean marginal contribution of ``i`` to the coalitions of ``k`` other players.

    Args:
      kind: ``"shapley"`` (equal weights), ``"truncated"`` (equal below ``size``), ``"beta"`` (Beta Shapley with
        ``alpha`` and ``beta``; Kwon & Zou 2022) or ``"banzhaf"`` (binomial; Wang & Jia 2023).
      players: number of players.
      alpha: first parameter of Beta Shapley; large values weigh small coalitions.
      beta: second parameter of Beta Shapley.
      size: coalition sizes that count, of ``"truncated"``.

    Returns:
      float64 ``[players]``.

    Example:
      >>> semivalue_weights("truncated", 4, size=2)
      array([0.5, 0.5, 0. , 0. ])
    """
    k = np.arange(players)
    log_choose = gammaln(players) - gammaln(k + 1) - gammaln(players - k)
    if kind == "shapley":
        return np.full(players, 1.0 / players)
    if kind == "truncated":
        if not 1 <= size <= players:
            raise InputError(f"size {size} is not a chain's: use 1 to the number of players, {players}")
        return np.where(k < size, 1.0 / size, 0.0)
    if kind == "banzhaf":
        return np.exp(log_choose - (players - 1) * np.log(2))
    if kind == "beta":
        # alpha and beta change places against the density's usual order: see eq. 5 of the paper, where (16, 1)
        # favours small coalitions.
        return np.exp(log_choose + betaln(beta + k, alpha + players - 1 - k) - betaln(alpha, beta))
    raise InputError(f"semivalue {kind!r} is unknown: use shapley, truncated, beta or banzhaf")
