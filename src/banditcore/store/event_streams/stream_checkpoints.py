"""How far the partitions of streams are applied, and to which servers.

A checkpoint only saves reading: what counts once, counts once by the marks beside the counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys
from banditcore.store.seals import seal, unseal
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["StreamCheckpoint", "load", "parse", "save"]


@dataclass(frozen=True, slots=True)
class StreamCheckpoint:
    """What was done of a partition.

    Attributes
    ----------
    offset : int
        Everything up to it is applied, or was refused; -1 when nothing is known.
    refused : int
        Events that could not be used so far.
    identities : tuple of str
        The servers that hold it, see `Store.identities`; () when nothing is known.
    """

    offset: int = -1
    refused: int = 0
    identities: tuple[str, ...] = ()


def load(store: Store, bandit: str, source: str, partition: int) -> StreamCheckpoint:
    """Return where a partition was left; nothing is known of one that was never read."""
    key = keys.of_bandit(bandit).checkpoints
    [raw] = store.replies([Command(key, ("HGET", key, _field(source, partition)))])
    return StreamCheckpoint() if raw is None else parse(_field(source, partition), raw)


def parse(field: str, raw: bytes) -> StreamCheckpoint:
    """Read the stored form of a checkpoint; raises CorruptDataError when it is none."""
    damaged = (
        f"of {field!r} is damaged: delete the field; marks beside the counts tell what is applied"
    )
    value = unseal(raw, "checkpoint", damaged)
    try:
        offset, refused, identities = json.loads(value)
        return StreamCheckpoint(int(offset), int(refused), tuple(map(str, identities)))
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError(describe("checkpoint", raw, damaged)) from error


def save(
    store: Store, bandit: str, source: str, partition: int, checkpoint: StreamCheckpoint
) -> None:
    """Remember a checkpoint."""
    raw = json.dumps([checkpoint.offset, checkpoint.refused, checkpoint.identities])
    key = keys.of_bandit(bandit).checkpoints
    store.replies([Command(key, ("HSET", key, _field(source, partition), seal(raw.encode())))])


def _field(source: str, partition: int) -> str:
    return f"{source}:{partition}"
