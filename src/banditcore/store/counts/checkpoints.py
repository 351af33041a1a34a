"""How far ordered sources were read, for the next run to go on there.

A checkpoint only saves reading: what counts once, counts once by the marks beside the counts.
It is written after all counts before it, so on one server it is never ahead of them. In a cluster
it is, when the primary of some counts is lost with its last writes. Therefore it names the servers
that held the counts: once there are others, the source has to be read again from its beginning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from banditcore.errors import ConfigurationConflictError, CorruptDataError, describe
from banditcore.logs import EventLog, Position
from banditcore.store import keys
from banditcore.store.seals import seal, unseal
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Checkpoint", "load", "parse", "save"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source was read, and how.

    Attributes
    ----------
    position : Position
        Everything before it is applied, or was refused.
    reading : str
        `EventLog.reading` of those runs; "" if there was none.
    refused : int
        Records before `position` that could not be used.
    identities : tuple of str
        `Store.identities` before the run that left it; () when they are not known.
    """

    position: Position = field(default_factory=Position)
    reading: str = ""
    refused: int = 0
    identities: tuple[str, ...] = ()

    def check(self, log: EventLog) -> None:
        """Raise ConfigurationConflictError unless `log` is read as it was before.

        The marks that make each record count once stand at its segment: a record that another
        map puts into another segment would count there once more.
        """
        if self.reading not in ("", log.reading):
            raise ConfigurationConflictError(
                f"the log {str(log.path)!r} was read as {self.reading!r} before, and is now read "
                f"as {log.reading!r}: records would count twice. Read it as before, or under a "
                "source name of its own (--source NAME), which counts all of it anew"
            )


def load(store: Store, bandit: str, source: str) -> Checkpoint:
    """Return where a source was left; its beginning if it was never read."""
    key = keys.of_bandit(bandit).checkpoints
    [raw] = store.replies([Command(key, ("HGET", key, source))])
    return Checkpoint() if raw is None else parse(source, raw)


def parse(source: str, raw: bytes) -> Checkpoint:
    """Read the stored form of a checkpoint; raises CorruptDataError when it is none."""
    damaged = f"of source {source!r} is damaged; run with --rescan"
    value = unseal(raw, "checkpoint", damaged)
    try:
        offset, line, digest, reading, refused, identities = json.loads(value)
        return Checkpoint(
            Position(int(offset), int(line), str(digest)),
            str(reading),
            int(refused),
            tuple(map(str, identities)),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError(describe("checkpoint", raw, damaged)) from error


def save(store: Store, bandit: str, source: str, checkpoint: Checkpoint) -> None:
    """Remember that everything before the checkpoint's position is dealt with."""
    at = checkpoint.position
    raw = json.dumps(
        [
            at.offset,
            at.line,
            at.digest,
            checkpoint.reading,
            checkpoint.refused,
            checkpoint.identities,
        ]
    )
    key = keys.of_bandit(bandit).checkpoints
    store.replies([Command(key, ("HSET", key, source, seal(raw.encode())))])
