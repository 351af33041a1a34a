"""Which partitions of other sources than a bandit's own streams have dead letters.

Their keys tell not whose they are: without this nobody could check or remove them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys, keyspace
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["STREAMS", "RefusingPartition", "enter", "known", "parse"]

STREAMS = "stream"
"""The name of the source that is the bandit's own streams."""

_PARTITION = re.compile(r"0|[1-9]\d{0,9}")


class RefusingPartition(NamedTuple):
    """A partition of another source."""

    source: str
    partition: int


def enter(store: Store, bandit: str, source: str, partition: int) -> None:
    """Enter a partition of another source. Comes before its first letter: none is out of sight."""
    key = keys.of_bandit(bandit).refusing
    # In a cluster two servers: a partition that is entered without letters does no harm.
    store.replies(
        [
            Command(keys.BANDITS, ("SADD", keys.BANDITS, bandit)),
            Command(key, ("SADD", key, f"{source}:{partition}")),
        ]
    )


def known(store: Store, bandit: str) -> list[RefusingPartition]:
    """Return what was entered, sorted, but for what is damaged: that `verify` tells."""
    key = keys.of_bandit(bandit).refusing
    if keyspace.types(store, [key]) != ["set"]:
        return []
    found = set()
    for member in keyspace.members(store, key):
        try:
            found.add(parse(member))
        except CorruptDataError:
            continue
    return sorted(found)


def parse(member: bytes) -> RefusingPartition:
    """Read the stored form; raises CorruptDataError when it is none."""
    source, _, partition = member.decode(errors="replace").rpartition(":")
    is_name = source not in ("", STREAMS) and f"{source}:{partition}".encode() == member
    if not is_name or _PARTITION.fullmatch(partition) is None:
        raise CorruptDataError(describe("source", member, "it is no other source's partition"))
    return RefusingPartition(source, int(partition))
