"""One rung of the fallback ladder: a snapshot laid out to answer requests in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore._user_keys import UserKeys
from banditcore.events import MAX_AHEAD_S
from banditcore.exploration import Exploration, exploration
from banditcore.segments import lineage
from banditcore.serving.arguments import Exclusions
from banditcore.serving.bank import BankPolicy
from banditcore.serving.draws import PosteriorDraws
from banditcore.serving.live import LivePolicy
from banditcore.slate_format import PackedSnapshot, SlateHeader

__all__ = ["Policy", "Rung", "climb"]

_US_PER_S = 1e6
_SALT_BYTES = 16


class Policy(Protocol):
    """How a rung chooses: by a key of 64 random bits, and by nothing else."""

    def choose(self, k: int, excluded: frozenset[str], key: int) -> tuple[str, ...]:
        """Return up to k arms."""

    def choose_many(
        self, k: int, excluded: Exclusions, keys: NDArray[np.uint64]
    ) -> list[tuple[str, ...]]:
        """Return `choose` of every key."""

    def propensities(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return the probability of each of `arms` at its position, NaN where it is not known."""


class Rung:
    """What a recommender keeps of one snapshot. Immutable; any number of threads may read it.

    Parameters
    ----------
    snapshot : PackedSnapshot
        What was published.
    live : bool
        Whether requests are drawn anew, instead of from the bank.

    Attributes
    ----------
    segment : str
    version, checksum : int
        The checksum tells a blob that was replaced without a new version.
    length : int
        Of its blob, in bytes.
    as_of : float
        `version` in seconds since 1970.
    confirmed : bool
        False when it came from a backup and the store has not confirmed it: it is never fresh.
    snapshot : PackedSnapshot
        Of this version, or of an older one of which everything else is the same.
    servable : bool
        False for a segment without arms.
    draws : PosteriorDraws
        From its posterior.
    policy : Policy
        How it chooses, if it is servable.
    users : UserKeys
        Keys of users, the same in every process that serves this bandit and segment.
    """

    __slots__ = (
        "as_of",
        "checksum",
        "confirmed",
        "draws",
        "length",
        "policy",
        "segment",
        "servable",
        "snapshot",
        "users",
        "version",
    )

    policy: Policy

    def __init__(self, snapshot: PackedSnapshot, *, live: bool = False) -> None:
        self.segment = snapshot.segment
        self.confirmed = True
        self.snapshot = snapshot
        arms = snapshot.arms
        self.servable = len(arms) > 0
        self.draws = PosteriorDraws(
            arms, snapshot.alpha, snapshot.beta, prepared=live and self.servable
        )
        self.policy = LivePolicy(self.draws) if live else BankPolicy(snapshot.bank, self.draws)
        # The salt makes a user's choices in two bandits independent.
        owner = f"{snapshot.bandit}\0{snapshot.segment}".encode()
        self.users = UserKeys(blake2b(owner, digest_size=_SALT_BYTES).digest())
        self._stamp(snapshot.header)

    @property
    def drawn(self) -> tuple[int, int]:
        """Version and checksum of the blob that first had these slates."""
        return self.snapshot.header.version, self.snapshot.header.checksum

    def exploration(self) -> Exploration:
        """Measure how much the bank explores."""
        bank = self.snapshot.bank
        first = bank.slates[:, 0].tolist() if bank.depth else []
        return exploration(first, len(self.snapshot.arms))

    def restamped(self, header: SlateHeader) -> Rung:
        """Return the same rung as another version of it, confirmed; it shares all memory."""
        twin = copy(self)
        twin.confirmed = True
        twin._stamp(header)
        return twin

    def is_fresh(self, now: float, max_age: float) -> bool:
        """Tell whether it may answer without a label.

        What is over an hour ahead of a clock that went back would be young until then.
        """
        return self.confirmed and -MAX_AHEAD_S <= now - self.as_of <= max_age

    def unconfirmed(self) -> Rung:
        """Return the same rung as one that is never fresh."""
        twin = copy(self)
        twin.confirmed = False
        return twin

    def _stamp(self, header: SlateHeader) -> None:
        self.version = header.version
        self.checksum = header.checksum
        self.length = header.length
        self.as_of = header.version / _US_PER_S


def climb(
    rungs: Mapping[str, Rung], segment: str, now: float, max_age: float
) -> tuple[Rung | None, bool]:
    """Return the rung that answers for `segment`, and whether it is stale.

    The nearest fresh one on the way from the segment to the global one; without any, the nearest of
    all; without that, None. A rung that has no arms is passed by.
    """
    nearest: Rung | None = None
    for step in lineage(segment):
        rung = rungs.get(step)
        if rung is None or not rung.servable:
            continue
        if rung.is_fresh(now, max_age):
            return rung, False
        if nearest is None:
            nearest = rung
    return nearest, nearest is not None
