"""What all processes that share a bandit must agree on, kept in the store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import ConfigurationConflictError, CorruptDataError, describe
from banditcore.identifiers import check_bandit, check_segment
from banditcore.store import keys
from banditcore.store.functions import calling, library, words
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Settings", "Wanted", "agree", "importing", "load", "pending", "save"]

DEFAULT_WINDOW_S = 3600.0

_IMPORTING = b"importing"  # see begin_import in maintenance.lua


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for; None leaves it to the store, or to the default of a new bandit."""

    half_life_s: float | None = None
    window_s: float | None = None

    def settings(self) -> Settings:
        """Return what a new bandit gets."""
        return Settings(self.half_life_s, self.window_s or DEFAULT_WINDOW_S)


def load(store: Store, bandit: str) -> Settings | None:
    """Return a bandit's settings; None before its first write.

    Raises
    ------
    ConfigurationConflictError
        While the bandit is being imported.
    """
    key = keys.of_bandit(bandit).settings
    [(half_life, window)] = store.replies([Command(key, ("HMGET", key, "h", "w"))])
    if half_life is None or window is None:
        return None
    return _read(bandit, half_life, window)


def save(store: Store, bandit: str, settings: Settings) -> None:
    """Replace a bandit's settings, in one step.

    Segments that exist keep theirs until they are changed.

    Raises
    ------
    ConfigurationConflictError
        While the bandit is being imported.
    """
    fields = _fields(settings)
    call = library.settle(keys.of_bandit(bandit), half_life_s=fields["h"], window_s=fields["w"])
    [reply] = calling.run(store, [call])
    if reply[0] != b"OK":
        raise _importing(bandit)


def pending(store: Store, bandit: str) -> list[str]:
    """Return the segments that an import which has not ended may have written, out of sight.

    Raises
    ------
    CorruptDataError
        The list of them is damaged.
    """
    key = keys.of_bandit(bandit).settings
    [(half_life, raw)] = store.replies([Command(key, ("HMGET", key, "h", "s"))])
    if half_life != _IMPORTING or raw is None:
        return []
    damaged = CorruptDataError(
        describe("segments", raw, f"of the unfinished import of {bandit!r}: HDEL s of {key}")
    )
    paths = words.unpacked(raw)
    if paths is None:
        raise damaged
    try:
        return [check_segment(path.decode()) for path in paths]
    except ValueError as error:
        raise damaged from error


def importing(store: Store, key: bytes) -> str | None:
    """Return the bandit of which an import has begun, by the key of its settings; else None.

    An index need not have it: the first import enters a bandit there when it ends.

    Parameters
    ----------
    key : bytes
        Of a hash, or of nothing.

    Raises
    ------
    StoreError
        Something else is stored there.
    """
    [half_life, name] = store.replies([Command(key, ("HMGET", key, "h", "b"))])[0]
    if half_life != _IMPORTING or name is None:
        return None
    try:
        bandit = check_bandit(name.decode())
    except ValueError:
        return None
    return bandit if keys.of_bandit(bandit).settings.encode() == key else None


def agree(store: Store, bandit: str, wanted: Wanted, *, insist: bool = True) -> Settings:
    """Return the settings in force, which are the wanted ones if the bandit has none yet.

    Parameters
    ----------
    insist : bool
        Whether it is an error that the store holds others.

    Raises
    ------
    ConfigurationConflictError
        When the store holds other settings than a caller who insists.
    """
    fields = _fields(wanted.settings())
    call = library.agree(keys.of_bandit(bandit), half_life_s=fields["h"], window_s=fields["w"])
    [(half_life, window)] = calling.run(store, [call])
    stored = _read(bandit, half_life, window)
    if insist:
        for what in ("half_life", "window"):
            asked, kept = getattr(wanted, f"{what}_s"), getattr(stored, f"{what}_s")
            if asked is not None and asked != kept:
                raise ConfigurationConflictError(
                    describe(
                        what, f"{asked} s", f"bandit {bandit!r} is kept with {_REMEDY[what](kept)}"
                    )
                )
    return stored


def _read(bandit: str, half_life: bytes, window: bytes) -> Settings:
    if half_life == _IMPORTING:
        raise _importing(bandit)
    try:
        found = Settings(float(half_life) or None, float(window))
    except ValueError as error:
        raise _damaged(bandit, half_life, window) from error
    if not all(math.isfinite(s) and s > 0 for s in (found.half_life_s or 1.0, found.window_s)):
        raise _damaged(bandit, half_life, window)
    return found


def _importing(bandit: str) -> ConfigurationConflictError:
    return ConfigurationConflictError(
        describe("bandit", bandit, "it is being imported: wait, or run the import again")
    )


def _damaged(bandit: str, half_life: bytes, window: bytes) -> CorruptDataError:
    return CorruptDataError(
        describe("settings", [half_life, window], f"of bandit {bandit!r}: two numbers of seconds")
    )


def _kept_half_life(seconds: float | None) -> str:
    kept = "evidence that never fades" if seconds is None else f"{seconds} s"
    return f"{kept}; leave half_life out, or call change_half_life()"


def _kept_window(seconds: float | None) -> str:
    return f"{seconds} s; leave window out"


_REMEDY = {"half_life": _kept_half_life, "window": _kept_window}


def _fields(settings: Settings) -> dict[str, str]:
    return {"h": repr(settings.half_life_s or 0.0), "w": repr(settings.window_s)}
