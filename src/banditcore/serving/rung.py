"""One rung of the fallback ladder: a snapshot laid out to answer requests in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import filterfalse, islice

import numpy as np
from numpy.typing import NDArray

from banditcore.exploration import Exploration, exploration
from banditcore.sampling import thompson_topk
from banditcore.segments import lineage
from banditcore.slates import Snapshot

__all__ = ["Rung", "climb"]

_US_PER_S = 1e6
_SALT_BYTES = 32


class Rung:
    """What a recommender keeps of one snapshot. Immutable; any number of threads may read it.

    Parameters
    ----------
    snapshot : Snapshot
        What was published.
    checksum : int
        Of its blob: tells a blob that was replaced without a new version.

    Attributes
    ----------
    segment : str
    version, checksum : int
    as_of : float
        `version` in seconds since 1970.
    rows : tuple of tuples of str
        The bank as arm ids. Empty when the segment has no arms.
    arms : tuple of str
        (n,) arm ids; a posterior index is a place in it.
    """

    __slots__ = (
        "_alpha",
        "_beta",
        "_index",
        "_salt",
        "arms",
        "as_of",
        "checksum",
        "rows",
        "segment",
        "version",
    )

    def __init__(self, snapshot: Snapshot, checksum: int) -> None:
        self.segment = snapshot.segment
        self.version = snapshot.version
        self.checksum = checksum
        self.as_of = snapshot.version / _US_PER_S
        self.arms = snapshot.arms
        # Ids, not indices: a request then copies strings and touches no array.
        self.rows = tuple(
            tuple(self.arms[index] for index in row if index >= 0)
            for row in snapshot.bank.slates.tolist()
        )
        self._index = {arm: index for index, arm in enumerate(self.arms)}
        self._alpha = snapshot.alpha
        self._beta = snapshot.beta
        owner = f"{snapshot.bandit}\0{snapshot.segment}".encode()
        self._salt = blake2b(owner, digest_size=_SALT_BYTES).digest()

    @property
    def drawn(self) -> tuple[int, int]:
        """Version and checksum of the blob that first had these slates."""
        return self.version, self.checksum

    def exploration(self) -> Exploration:
        """Measure how much the bank explores."""
        return exploration([row[0] for row in self.rows], len(self.arms))

    def user_key(self, user: str, bucket: int) -> int:
        """Return 64 bits that depend on user, time bucket, bandit and segment, and nothing else.

        The same in every process, unlike ``hash``. The salt makes a user's rows in two bandits
        independent.
        """
        text = f"{bucket}\0{user}".encode(errors="surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=8, key=self._salt).digest(), "little")

    def top_up(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str], seed: int | None
    ) -> tuple[str, ...]:
        """Return `arms` filled up to k by live sampling from the arms that are left.

        Shorter than k when they run out.
        """
        index = self._index
        used = [index[arm] for arm in arms]
        used += [index[arm] for arm in excluded if arm in index]
        room = min(k - len(arms), len(index) - len(used))
        if room <= 0:
            return arms
        # Drawn in the requesting thread: starting others costs more than one decision.
        drawn = thompson_topk(
            self._alpha,
            self._beta,
            room,
            exclude=np.array(used, dtype=np.int64) if used else None,
            seed=seed,
            threads=1,
        )
        return arms + tuple(self.arms[index] for index in drawn.tolist())

    def propensities(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return the share of bank rows that, filtered, have each arm at its position.

        Parameters
        ----------
        arms : tuple of str
            The answer, best first.
        k : int
            What was asked for.
        excluded : frozenset of str
            What was filtered out.

        Returns
        -------
        (len(arms),) float64
            NaN from the first position that some row is too short to fill: live sampling has a
            part in the choice there, and a count over the bank would be too low.
        """
        shares = np.zeros(len(arms))
        depth = len(arms)
        for row in self.rows:
            filtered = tuple(islice(filterfalse(excluded.__contains__, row), k))
            depth = min(depth, len(filtered))
            for position, (arm, here) in enumerate(zip(arms, filtered, strict=False)):
                if arm == here:
                    shares[position] += 1.0
        shares /= max(len(self.rows), 1)
        shares[depth:] = np.nan
        return shares


def climb(
    rungs: Mapping[str, Rung], segment: str, now: float, max_age: float
) -> tuple[Rung | None, bool]:
    """Return the rung that answers for `segment`, and whether it is stale.

    The nearest one not older than `max_age` seconds on the way from the segment to the global
    one; without any, the nearest of all; without that, None. A rung that has no arms is passed by.
    """
    nearest: Rung | None = None
    for step in lineage(segment):
        rung = rungs.get(step)
        if rung is None or not rung.rows:
            continue
        if now - rung.as_of <= max_age:
            return rung, False
        if nearest is None:
            nearest = rung
    return nearest, nearest is not None
