"""Draws slates from a snapshot's posterior for single requests."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedIds
from banditcore.sampling import decide
from banditcore.thompson_sampler import ThompsonSampler

__all__ = ["PosteriorDraws"]


class PosteriorDraws:
    """Thompson slates of one posterior, each under a key of its own. Immutable.

    Parameters
    ----------
    arms : PackedIds
        (n,) arm ids.
    alpha, beta : (n,) float64
        The posterior of each arm.
    prepared : bool
        Whether to build a `ThompsonSampler` now, after which a draw takes a microsecond or two.
        Parameters that it does not take, and posteriors that are not prepared, are drawn arm by
        arm, 5 ns each: of the same law, under one key another draw.
    """

    __slots__ = ("__weakref__", "_boosted", "_sampler", "alpha", "arms", "beta")

    def __init__(
        self,
        arms: PackedIds,
        alpha: NDArray[np.float64],
        beta: NDArray[np.float64],
        *,
        prepared: bool,
    ) -> None:
        self.arms = arms
        self.alpha = alpha
        self.beta = beta
        least = min(alpha.min(initial=np.inf), beta.min(initial=np.inf))
        self._boosted = bool(least < 1.0)
        usable = prepared and ThompsonSampler.takes(alpha, beta)
        self._sampler = ThompsonSampler(alpha, beta) if usable else None

    def draw(self, k: int, excluded: Collection[str], key: int) -> tuple[str, ...]:
        """Return the best k arms of a draw that are not excluded; fewer when they run out.

        Parameters
        ----------
        k : int, >= 1
        excluded : collection of str, distinct
        key : int
            64 random bits: the same key draws the same slate.
        """
        return self.draw_without(k, self.arms.places(excluded) if excluded else None, key)

    def draw_without(self, k: int, without: NDArray[np.int32] | None, key: int) -> tuple[str, ...]:
        """Do what `draw` does; `without` has the places of what is excluded, each once."""
        places = self._places(k, without)
        if not places:
            return ()
        if self._sampler is not None:
            return self.arms.named(self._sampler.decide(places, key, without))
        return self.arms.named(
            decide(self.alpha, self.beta, places, key, without, boosted=self._boosted)
        )

    def draw_many(
        self, k: int, excluded: Collection[str], keys: NDArray[np.uint64]
    ) -> list[tuple[str, ...]]:
        """Return `draw` of every key."""
        if self._sampler is None:
            return [self.draw(k, excluded, key) for key in keys.tolist()]
        without = self.arms.places(excluded) if excluded else None
        places = self._places(k, without)
        if not places:
            return [()] * len(keys)
        return self.arms.named_rows(self._sampler.decide_many(places, keys, without))

    def _places(self, k: int, without: NDArray[np.int32] | None) -> int:
        """Return how many arms there are to answer with, k at most."""
        left = len(self.arms)
        return min(k, left if without is None else left - without.size)
