"""Chooses the snapshot that answers, and lets it answer: for one request, or for many users."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import filterfalse, islice

from banditcore.events import MAX_AHEAD_S
from banditcore.identifiers import check_segment
from banditcore.serving.arguments import Exclusions, Given
from banditcore.serving.batch import choose_for_users, of_places, together
from banditcore.serving.chance import random_key
from banditcore.serving.exclusions import ExcludedOfGroups
from banditcore.serving.lookups import Seen, SeenOfMany
from banditcore.serving.recommendation import DEFAULT_SOURCE, Recommendation
from banditcore.serving.recommendations import Origin, Recommendations
from banditcore.serving.rung import Rung, climb

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
        excluded: Given,
        moment: float,
        seen: SeenOfMany | None,
    ) -> Recommendations:
        """Answer many users.

        Parameters
        ----------
        groups : mapping of str to list of int
            Segment -> the places in `users` that belong to it.
        seen : SeenOfMany or None
            What each of them must not be shown.
        """
        bucket = int(moment // self._sticky_s) & _BUCKETS
        arms: list[tuple[str, ...]] = [()] * len(users)
        origins = [_NOWHERE] * len(users)
        is_one = len(groups) == 1
        by_group = ExcludedOfGroups()
        for segment, places in groups.items():
            rung, stale = climb(rungs, segment, moment, self._max_age)
            if rung is None:
                for place in places:
                    own = excluded[place] if isinstance(excluded, list) else excluded
                    known = None if seen is None else seen[place]
                    arms[place], degraded = self._from_default(k, own, known)
                    origins[place] = _NOWHERE._replace(degraded=degraded)
                continue
            age = max(0.0, moment - rung.as_of)
            degraded = _STALE if stale else _AS_PROMISED
            origin = Origin(rung.segment, rung.version, age, degraded, rung.policy)
            from_here = [origin] * len(places)
            given = excluded if is_one else of_places(excluded, places)
            hidden: Exclusions = given
            if seen is not None:
                hidden = together(given, seen.among(rung.segment, rung.snapshot.arms, places))
                if not is_one:
                    by_group.put(places, hidden)
                unseen = origin._replace(degraded=(*degraded, *_UNSEEN))
                from_here = [origin if told else unseen for told in seen.told(places)]
            members = users if is_one else [users[place] for place in places]
            found = choose_for_users(rung, members, bucket, k, hidden)
            if seen is not None:
                seen.answered(places, found)
            if is_one:  # which spares taking all of it apart
                return Recommendations(found, from_here, k, hidden)
            for place, chosen, origin in zip(places, found, from_here, strict=True):
                arms[place], origins[place] = chosen, origin
        return Recommendations(arms, origins, k, excluded if seen is None else by_group)

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
