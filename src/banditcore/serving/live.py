"""The policy "drawn anew for each request"."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from banditcore.logit_beta import LARGEST, SMALLEST
from banditcore.propensity import rank_probabilities
from banditcore.serving.arguments import Exclusions
from banditcore.serving.draws import PosteriorDraws
from banditcore.serving.exclusions import ExcludedPlaces

__all__ = ["LivePolicy"]


class _Quadrature(NamedTuple):
    """Probabilities at ranks, (n, depth), of the arms of `draws` without `excluded`."""

    draws: weakref.ref[PosteriorDraws]
    excluded: frozenset[str]
    at_ranks: NDArray[np.float64]


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
        if isinstance(excluded, ExcludedPlaces):
            draw_without = self._draws.draw_without
            own = map(excluded.of, range(len(excluded)))
            return [draw_without(k, out, key) for out, key in zip(own, keys.tolist(), strict=True)]
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
        return _at_ranks(self._draws, excluded, depth)[ids.places(arms), np.arange(depth)]


_last: _Quadrature | None = None
"""The latest one: answers that are logged together often share segment and exclusions. One is
enough to keep, at 8 bytes an arm and rank. Replaced whole, so threads may share it."""


def _at_ranks(draws: PosteriorDraws, excluded: frozenset[str], depth: int) -> NDArray[np.float64]:
    global _last  # noqa: PLW0603
    known = _last
    if (
        known is not None
        and known.draws() is draws
        and known.excluded == excluded
        and known.at_ranks.shape[1] >= depth
    ):
        return known.at_ranks
    eligible = np.ones(len(draws.arms), dtype=np.bool_)
    eligible[draws.arms.places(excluded)] = False
    at_ranks = rank_probabilities(draws.alpha, draws.beta, depth, eligible=eligible)
    _last = _Quadrature(weakref.ref(draws), excluded, at_ranks)
    return at_ranks
