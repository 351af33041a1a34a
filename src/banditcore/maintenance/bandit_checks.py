"""Checks what exists once a bandit: settings and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from banditcore.errors import ConfigurationConflictError, CorruptDataError
from banditcore.maintenance.segment_checks import Problem
from banditcore.store import keys, keyspace
from banditcore.store.counts import checkpoints, settings
from banditcore.store.counts.settings import Settings
from banditcore.store.event_streams import stream_checkpoints

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["check_checkpoints", "check_settings"]

_READ_AGAIN = "remove it, and rescan: nothing counts twice"
_SET_AGAIN = "remove it; open the bandit with its half_life and window: its first write sets them"


def check_settings(
    store: Store, bandit: str, *, is_needed: bool
) -> tuple[Settings | None, list[Problem]]:
    """Return a bandit's settings, None if they cannot be used, and what is wrong with them."""
    key = keys.of_bandit(bandit).settings
    [kind] = keyspace.types(store, [key])
    if kind == "none":
        missing = Problem(key, "no half-life and window are set", _SET_AGAIN)
        return None, [missing] if is_needed else []
    if kind != "hash":
        return None, [Problem(key, f"is a {kind}, not a hash", _SET_AGAIN)]
    kept, problem = None, None
    try:
        kept = settings.load(store, bandit)
    except CorruptDataError as error:
        problem = Problem(key, str(error), _SET_AGAIN)
    except ConfigurationConflictError as error:
        problem = Problem(key, str(error), "import again, or forget it")
    else:
        if kept is None:
            problem = Problem(key, "a field is missing", _SET_AGAIN)
    return (kept, []) if problem is None else (None, [problem])


def check_checkpoints(store: Store, bandit: str) -> Iterator[Problem]:
    """Yield what is wrong with how far sources were read."""
    key = keys.of_bandit(bandit).checkpoints
    [kind] = keyspace.types(store, [key])
    if kind == "none":
        return
    if kind != "hash":
        yield Problem(
            key, f"is a {kind}, not a hash", "remove it, and rescan: nothing counts twice"
        )
        return
    for source, raw in keyspace.fields(store, key).items():
        shown = source.decode(errors="backslashreplace")
        if not _is_checkpoint(shown, raw):
            what = f"of source {shown!r} is {raw!r}: no position"
            yield Problem(key, what, _READ_AGAIN)


def _is_checkpoint(source: str, raw: bytes) -> bool:
    # A partition of a stream or topic has another form. A log may be called like one.
    forms: list[Callable[[str, bytes], object]] = [checkpoints.parse]
    if source.startswith(("stream:", "kafka:")):
        forms.append(stream_checkpoints.parse)
    for parse in forms:
        try:
            parse(source, raw)
        except CorruptDataError:
            continue
        return True
    return False
