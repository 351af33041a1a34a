"""Chooses for many users of one segment at once."""

from __future__ import annotations

from banditcore.serving.arguments import Exclusions, Given
from banditcore.serving.chance import random_key
from banditcore.serving.exclusions import ExcludedPlaces
from banditcore.serving.rung import Rung

__all__ = ["choose_for_users", "of_places", "together"]


def choose_for_users(
    rung: Rung, users: list[str | None], bucket: int, k: int, excluded: Exclusions
) -> list[tuple[str, ...]]:
    """Return up to k arms for each user: those that one request of his would get.

    Parameters
    ----------
    rung : Rung
        That answers for all of them.
    users : list of (str or None)
        None is drawn at random.
    bucket : int
        The time bucket, 0..2**64 - 1.
    k : int, >= 1
    excluded : Exclusions
        One set for all of them, or what each is not shown.
    """
    keys = rung.users.keys(users, bucket)
    if None in users:
        for place, user in enumerate(users):
            if user is None:
                keys[place] = random_key()
    return rung.policy.choose_many(k, excluded, keys)


def of_places(excluded: Given, places: list[int]) -> Given:
    """Return the exclusions of some users of a batch."""
    return [excluded[place] for place in places] if isinstance(excluded, list) else excluded


def together(given: Given, seen: ExcludedPlaces) -> ExcludedPlaces:
    """Return what users must not be shown: what the caller excludes, and what they have seen."""
    sets = given if isinstance(given, list) else [given] * len(seen)
    if not any(sets):
        return seen
    return ExcludedPlaces.of_sets(seen.arms, [own | seen[i] for i, own in enumerate(sets)])
