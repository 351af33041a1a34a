"""Chooses the snapshot that answers, and lets it answer: for one request, or for many users."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import filterfalse, islice

from banditcore.events import MAX_AHEAD_S
from banditcore.identifiers import check_segment
from banditcore.serving.arguments import Exclusions
from banditcore.serving.batch import choose_for_users, of_places
from banditcore.serving.chance import random_key
from banditcore.serving.recommendation import DEFAULT_SOURCE, Recommendation
from banditcore.serving.recommendations import Origin, Recommendations
from banditcore.serving.rung import Rung, climb
from banditcore.serving.seen import Seen

__all__ = ["Chooser"]

_BUCKETS = 2**64 - 1
_AS_PROMISED: tuple[str, ...] = ()
_STALE = ("stale",)
_DEFAULTED = ("default",)
_UNSEEN = ("seen",)
_NOWHERE = Origin(DEFAULT_SOURCE, None, None, _DEFAULTED, None)


class Chooser:
    """Answers from the rungs it is given, or from the caller's default. Keeps nothing.

    Parameters
    ----------
    max_age : float
        Seconds until a rung no longer counts as fresh.
    sticky_s : float
        Seconds of a time bucket.
    default : tuple of str
        Arms to answer with when no rung can.
    """

    __slots__ = ("_default", "_max_age", "_sticky_s")

    def __init__(self, *, max_age: float, sticky_s: float, default: tuple[str, ...]) -> None:
        self._max_age = max_age
        self._sticky_s = sticky_s
        self._default = default

    def choose(  # noqa: PLR0917  # a call by position costs less
        self,
        rungs: Mapping[str, Rung],
        segment: str,
        k: int,
        user: str | None,
        excluded: frozenset[str],
        moment: float,
        seen: Seen | None,
    ) -> Recommendation:
        """Answer one request; arguments are checked but for the segment."""
        degraded = _AS_PROMISED
        rung = rungs.get(segment) if segment.__class__ is str else None
        if (
            rung is None
            or not rung.servable
            or not -MAX_AHEAD_S <= moment - rung.as_of <= self._max_age
            or not rung.confirmed
        ):
            rung, stale = climb(rungs, check_segment(segment), moment, self._max_age)
            if rung is None:
                arms, degraded = self._from_default(k, excluded, seen)
                return Recommendation(arms, DEFAULT_SOURCE, None, None, degraded, None)
            if stale:
                degraded = _STALE
        if seen is not None:
            excluded |= seen.among(rung.segment, rung.snapshot.arms)
            degraded = degraded if seen.ok else (*degraded, *_UNSEEN)
        if user is None:
            key = random_key()
        else:
            key = rung.users.key(user, int(moment // self._sticky_s) & _BUCKETS)
        policy = rung.policy
        arms = policy.choose(k, excluded, key)
        if seen is not None:
            seen.answered(arms)
        age = moment - rung.as_of
        return Recommendation(
            arms,
            rung.segment,
            rung.version,
            max(0.0, age),  # the store's clock may run ahead of ours
            degraded,
            (policy, k, excluded),
        )

    def choose_many(  # noqa: PLR0917
        self,
        rungs: Mapping[str, Rung],
        groups: Mapping[str, list[int]],
        k: int,
        users: list[str | None],
        excluded: Exclusions,
        moment: float,
        seen: list[Seen | None] | None,
    ) -> Recommendations:
        """Answer many users.

        Parameters
        ----------
        groups : mapping of str to list of int
            Segment -> the places in `users` that belong to it.
        seen : list of (Seen or None), or None
            What each of them must not be shown.
        """
        bucket = int(moment // self._sticky_s) & _BUCKETS
        arms: list[tuple[str, ...]] = [()] * len(users)
        origins = [_NOWHERE] * len(users)
        if seen is not None and not isinstance(excluded, list):
            excluded = [excluded] * len(users)
        for segment, places in groups.items():
            rung, stale = climb(rungs, segment, moment, self._max_age)
            if rung is None:
                for place in places:
                    out = excluded[place] if isinstance(excluded, list) else excluded
                    known = None if seen is None else seen[place]
                    arms[place], degraded = self._from_default(k, out, known)
                    origins[place] = _NOWHERE._replace(degraded=degraded)
                continue
            age = max(0.0, moment - rung.as_of)
            degraded = _STALE if stale else _AS_PROMISED
            origin = Origin(rung.segment, rung.version, age, degraded, rung.policy)
            if seen is None and len(groups) == 1:
                arms = choose_for_users(rung, users, bucket, k, excluded)
                return Recommendations(arms, [origin] * len(users), k, excluded)
            if seen is not None and isinstance(excluded, list):
                unseen = origin._replace(degraded=(*degraded, *_UNSEEN))
                for place in places:
                    known = seen[place]
                    origins[place] = origin if known is None or known.ok else unseen
                    if known is not None:
                        excluded[place] |= known.among(rung.segment, rung.snapshot.arms)
            else:
                for place in places:
                    origins[place] = origin
            members = [users[place] for place in places]
            found = choose_for_users(rung, members, bucket, k, of_places(excluded, places))
            for place, chosen in zip(places, found, strict=True):
                arms[place] = chosen
                known = None if seen is None else seen[place]
                if known is not None:
                    known.answered(chosen)
        return Recommendations(arms, origins, k, excluded)

    def _from_default(
        self, k: int, excluded: frozenset[str], seen: Seen | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return arms and what is degraded."""
        degraded: tuple[str, ...] = _DEFAULTED
        if seen is not None:
            excluded |= seen.among_default(self._default)
            degraded = degraded if seen.ok else (*degraded, *_UNSEEN)
        arms = tuple(islice(filterfalse(excluded.__contains__, self._default), k))
        if seen is not None:
            seen.answered(arms)
        return arms, degraded
