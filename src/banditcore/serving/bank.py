"""The policy "uniform over the slate bank, filtered"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedBank
from banditcore.serving.arguments import Exclusions
from banditcore.serving.draws import PosteriorDraws
from banditcore.serving.exclusions import ExcludedPlaces

__all__ = ["BankPolicy"]


class BankPolicy:
    """Answers with a row of the bank, less what is excluded, filled up by live draws. Immutable.

    Parameters
    ----------
    bank : PackedBank
        At least one row.
    draws : PosteriorDraws
        Of the same arms.
    """

    __slots__ = ("_bank", "_draws", "_rows")

    def __init__(self, bank: PackedBank, draws: PosteriorDraws) -> None:
        self._bank = bank
        self._draws = draws
        self._rows = bank.rows

    def choose(self, k: int, excluded: frozenset[str], key: int) -> tuple[str, ...]:
        """Return up to k arms, the same ones for the same 64-bit key."""
        arms = self._bank.pick(key % self._rows, k, excluded)
        return arms if len(arms) == k else self._filled(arms, k, excluded, key)

    def choose_many(
        self, k: int, excluded: Exclusions, keys: NDArray[np.uint64]
    ) -> list[tuple[str, ...]]:
        """Return `choose` of every key, with the one set of exclusions or with its own."""
        rows = (keys % np.uint64(self._rows)).astype(np.int64)
        if isinstance(excluded, ExcludedPlaces):
            answers = self._bank.pick_each(rows, k, excluded.starts, excluded.places)
        else:
            answers = self._bank.pick_many(rows, k, excluded)
        for place, arms in enumerate(answers):
            if len(arms) < k:
                out = excluded if isinstance(excluded, frozenset) else excluded[place]
                answers[place] = self._filled(arms, k, out, int(keys[place]))
        return answers

    def propensities(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return the share of rows that, filtered, have each arm at its position.

        Returns
        -------
        (len(arms),) float64
            NaN from the first position that some row is too short to fill: live draws have a part
            in the choice there, and a count over the bank would be too low. Their share is a
            quadrature for each short row, as those leave different arms to draw from: too dear.
        """
        return self._bank.shares(arms, k, excluded)

    def _filled(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str], key: int
    ) -> tuple[str, ...]:
        return arms + self._draws.draw(k - len(arms), excluded.union(arms), key)
