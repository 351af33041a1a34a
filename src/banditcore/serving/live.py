"""The policy "drawn anew for each request"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from banditcore.logit_beta import LARGEST, SMALLEST
from banditcore.propensity import rank_probabilities
from banditcore.serving.arguments import Exclusions
from banditcore.serving.draws import PosteriorDraws

__all__ = ["LivePolicy"]


class LivePolicy:
    """Answers with the best of a draw from the posterior of the arms not excluded. Immutable.

    Parameters
    ----------
    draws : PosteriorDraws
        At least one arm.
    """

    __slots__ = ("_draws",)

    def __init__(self, draws: PosteriorDraws) -> None:
        self._draws = draws

    def choose(self, k: int, excluded: frozenset[str], key: int) -> tuple[str, ...]:
        """Return up to k arms, the same ones for the same 64-bit key."""
        return self._draws.draw(k, excluded, key)

    def choose_many(
        self, k: int, excluded: Exclusions, keys: NDArray[np.uint64]
    ) -> list[tuple[str, ...]]:
        """Return `choose` of every key, with the one set of exclusions or with its own."""
        if not isinstance(excluded, list):
            return self._draws.draw_many(k, excluded, keys)
        draw = self._draws.draw
        return [draw(k, out, key) for out, key in zip(excluded, keys.tolist(), strict=True)]

    def propensities(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return the probability of each arm at its position, by quadrature.

        Returns
        -------
        (len(arms),) float64
            Absolute error as of `rank_probabilities`. NaN throughout where a parameter is outside
            the range of that function.

        Raises
        ------
        NumericalError
            The quadrature did not reach 1e-7.
        """
        depth = min(k, len(arms))
        if not depth:
            return np.zeros(0)
        alpha, beta, ids = self._draws.alpha, self._draws.beta, self._draws.arms
        lowest, highest = min(alpha.min(), beta.min()), max(alpha.max(), beta.max())
        if lowest < SMALLEST or highest > LARGEST:
            return np.full(depth, np.nan)
        eligible = np.ones(len(ids), dtype=np.bool_)
        eligible[ids.places(excluded)] = False
        at_ranks = rank_probabilities(alpha, beta, depth, eligible=eligible)
        return at_ranks[ids.places(arms), np.arange(depth)]
