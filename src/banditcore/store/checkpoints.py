"""How far ordered sources were read, for the next run to go on there.

A checkpoint only saves reading: what counts once, counts once by the marks beside the counts.
It is written after all counts before it, so on one server it is never ahead of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.logs import Position
from banditcore.store import keys
from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["load", "save"]


def load(store: Store, bandit: str, source: str) -> Position:
    """Return where a source was left; its beginning if it was never read."""
    with translating(store):
        raw = store.client.hget(keys.of_bandit(bandit).checkpoints, source)
    if raw is None:
        return Position()
    try:
        offset, line, digest = json.loads(raw)
        return Position(int(offset), int(line), str(digest))
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError(
            describe("checkpoint", raw, f"of source {source!r} is damaged; run with --rescan")
        ) from error


def save(store: Store, bandit: str, source: str, position: Position) -> None:
    """Remember that everything before `position` is applied."""
    raw = json.dumps([position.offset, position.line, position.digest])
    with translating(store):
        store.client.hset(keys.of_bandit(bandit).checkpoints, source, raw)
