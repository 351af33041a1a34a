"""Checks of what a recommender is given: when it is made, and at each request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import inf
from typing import TypeAlias

from banditcore._packed import frozen_ids
from banditcore.arrays import positive_int
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import check_arm, check_segment
from banditcore.iterables import items
from banditcore.segments import with_ancestors
from banditcore.serving.exclusions import ExcludedPlaces

__all__ = [
    "NOTHING",
    "Exclusions",
    "Given",
    "check_arms_of_default",
    "check_excluded",
    "check_excluded_of_many",
    "check_k",
    "check_max_blob_bytes",
    "check_mode",
    "check_now",
    "check_seconds",
    "check_segments",
    "check_segments_of_many",
    "check_shown",
    "check_user",
    "check_users",
    "moment_of",
]

_MOST_BYTES = 2**40
_MOST_ARMS = 2**31 - 1
_FARTHEST_S = 1e300
_LEAST_S = 1e-6
"""Quotients of two times are finite."""

NOTHING: frozenset[str] = frozenset()
"""No exclusions."""

Given: TypeAlias = frozenset[str] | list[frozenset[str]]
"""What the caller excludes of a batch: one set for all of its users, or one for each."""

Exclusions: TypeAlias = Given | ExcludedPlaces
"""The same with what each has seen."""


def check_k(k: int) -> int:
    """Return how many arms are asked for; no more than any segment has."""
    return min(positive_int("k", k), _MOST_ARMS)


def check_max_blob_bytes(most: int) -> int:
    """Return the longest blob to fetch; a server refuses an end that it cannot count to."""
    if positive_int("max_blob_bytes", most) > _MOST_BYTES:
        raise InvalidValueError(describe("max_blob_bytes", most, f"1 to {_MOST_BYTES}"))
    return int(most)


def check_mode(mode: str) -> bool:
    """Return whether every request is drawn anew."""
    if not isinstance(mode, str):
        raise InvalidTypeError(describe("mode", mode, '"bank" or "live"'))
    if mode not in {"bank", "live"}:
        raise InvalidValueError(describe("mode", mode, '"bank" or "live"'))
    return mode == "live"


def check_excluded(exclude: Iterable[str]) -> frozenset[str]:
    """Return the arm ids that must not be shown, as they are now."""
    if isinstance(exclude, (str, bytes)):
        raise InvalidTypeError(describe("exclude", exclude, "a set of arm ids, not one string"))
    try:
        # A copy, unless it cannot change: propensities are counted later, over the same ids.
        return frozen_ids(exclude)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign type may raise
        raise InvalidTypeError(
            describe("exclude", exclude, "an iterable of arm ids, each a str")
        ) from error


def check_excluded_of_many(
    exclude: Iterable[str] | Iterable[Iterable[str] | None] | None, users: int
) -> Given:
    """Return one set for all, or one for each of so many users."""
    if exclude is None:
        return NOTHING
    each = items("exclude", exclude, "arm ids, or of such iterables")
    ids = [one for one in each if isinstance(one, str)]
    if len(ids) == len(each):
        return check_excluded(ids)
    if len(each) != users:
        raise InvalidValueError(
            describe("the length of exclude", len(each), f"one iterable for each of {users} users")
        )
    return [NOTHING if one is None else check_excluded(one) for one in each]


def moment_of(now: float | None) -> float:
    """Return the moment of a request, in seconds since 1970."""
    return time.time() if now is None else check_now(now)


def check_now(now: float) -> float:
    """Return a moment in seconds since 1970."""
    if isinstance(now, bool) or not isinstance(now, (int, float)):
        raise InvalidTypeError(describe("now", now, "seconds since 1970, a number"))
    if not -_FARTHEST_S <= now <= _FARTHEST_S:  # neither is NaN
        raise InvalidValueError(
            describe("now", now, f"seconds since 1970, finite, at most {_FARTHEST_S:g}")
        )
    return float(now)


def check_user(user: str) -> str:
    """Return a user who is known."""
    if not isinstance(user, str):
        raise InvalidTypeError(describe("user", user, "a str; None for an unknown user"))
    if not user:
        raise InvalidValueError(
            describe("user", user, "not empty, or all unknown users share a slate: use None")
        )
    return str.__str__(user)  # of a subclass, such as numpy's or an enum's, the text


def check_shown(arms: Iterable[str]) -> list[str]:
    """Return the arms that somebody was shown."""
    return [check_arm(arm) for arm in items("arms", arms, "arm ids")]


def check_users(users: Iterable[str | None]) -> list[str | None]:
    """Return the users of a batch; None for those who are unknown."""
    found: list[str | None] = [*items("users", users, "users")]
    for place, user in enumerate(found):
        if user is not None and (user.__class__ is not str or not user):
            found[place] = check_user(user)
    return found


def check_segments_of_many(segments: str | Iterable[str], users: int) -> dict[str, list[int]]:
    """Return the segments of a batch, each with the places of its users."""
    if isinstance(segments, str):
        return {check_segment(segments): list(range(users))}
    paths = items("segments", segments, "segment paths")
    if len(paths) != users:
        raise InvalidValueError(
            describe("the length of segments", len(paths), f"one path for each of {users} users")
        )
    groups: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        known = groups.get(path) if path.__class__ is str else None
        if known is None:
            groups[check_segment(path)] = [place]
        else:
            known.append(place)
    return groups


def check_arms_of_default(default: Iterable[str]) -> tuple[str, ...]:
    """Return the caller's own list."""
    arms = tuple(check_arm(arm) for arm in items("default", default, "arm ids"))
    if len(set(arms)) != len(arms):
        raise InvalidValueError(describe("default", arms, "each arm may stand here once"))
    return arms


def check_segments(segments: Iterable[str]) -> list[str]:
    """Return what to watch, ancestors included."""
    return with_ancestors(
        [check_segment(path) for path in items("segments", segments, "segment paths")]
    )


def check_seconds(name: str, value: float, *, endless: bool = False) -> float:
    """Return a duration above 0; infinite only if it may be `endless`."""
    remedy = f"seconds, a number above 0{', or inf' if endless else ''}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(describe(name, value, remedy))
    if not value > 0 or (value == inf and not endless):
        raise InvalidValueError(describe(name, value, remedy))
    if not _LEAST_S <= value <= _FARTHEST_S and value != inf:
        raise InvalidValueError(describe(name, value, f"{_LEAST_S:g} to {_FARTHEST_S:g} seconds"))
    return float(value)
