"""What all processes that share a bandit must agree on, kept in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import ConfigurationConflictError, describe
from banditcore.store import keys
from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Settings", "agree", "load", "save"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a bandit's evidence is kept.

    Parameters
    ----------
    half_life_s : float or None
        Seconds after which an event counts half; None when evidence does not fade.
    window_s : float
        How far back, in seconds, events with ids are told apart from their duplicates.
    """

    half_life_s: float | None
    window_s: float


def load(store: Store, bandit: str) -> Settings | None:
    """Return a bandit's settings; None before its first write."""
    with translating(store):
        half_life, window = store.client.hmget(keys.of_bandit(bandit).settings, ["h", "w"])
    if half_life is None or window is None:
        return None
    return Settings(float(half_life) or None, float(window))


def save(store: Store, bandit: str, settings: Settings) -> None:
    """Replace a bandit's settings. Segments that exist keep theirs until they are changed."""
    with translating(store):
        fields = [text for field in _fields(settings).items() for text in field]
        store.client.hset(keys.of_bandit(bandit).settings, items=fields)


def agree(store: Store, bandit: str, wanted: Settings, *, insist: bool) -> Settings:
    """Return the settings in force, which are `wanted` if the bandit has none yet.

    Parameters
    ----------
    insist : bool
        Whether the caller chose `wanted`, so that another half-life in the store is an error.

    Raises
    ------
    ConfigurationConflictError
        When the store holds another half-life and the caller insists on this one.
    """
    name = keys.of_bandit(bandit).settings
    with translating(store):
        pipeline = store.client.pipeline(transaction=True)  # both fields or none
        for field, value in _fields(wanted).items():
            pipeline.hsetnx(name, field, value)
        pipeline.execute()
    stored = load(store, bandit)
    if stored is None:
        return wanted
    if insist and stored.half_life_s != wanted.half_life_s:
        raise ConfigurationConflictError(
            describe(
                "half_life",
                wanted.half_life_s,
                f"bandit {bandit!r} is kept with {stored.half_life_s} s; leave it out, or call "
                "bandit.change_half_life()",
            )
        )
    return stored


def _fields(settings: Settings) -> dict[str, str]:
    return {"h": repr(settings.half_life_s or 0.0), "w": repr(settings.window_s)}
