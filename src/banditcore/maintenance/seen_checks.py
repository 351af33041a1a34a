"""Checks what is stored of what users have seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError
from banditcore.maintenance.segment_checks import Problem
from banditcore.store import keyspace
from banditcore.store.seen_record import LONGEST_BYTES, decode
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["check_seen"]

_REMEDY = "remove it: its user begins anew"


def check_seen(store: Store, names: Sequence[bytes]) -> Iterator[Problem]:
    """Yield what is wrong with records of users."""
    shown = [name.decode() for name in names]
    found = dict(zip(shown, keyspace.types(store, shown), strict=True))
    for name, kind in found.items():
        if kind not in ("none", "string"):
            yield Problem(name, f"is a {kind}, not a string", _REMEDY)
    strings = [name for name, kind in found.items() if kind == "string"]
    commands = []
    for name in strings:
        commands.append(Command(name, ("GETRANGE", name, 0, LONGEST_BYTES)))
        commands.append(Command(name, ("PEXPIRETIME", name)))
    replies = store.replies(commands)
    for name, record, expiry in zip(strings, replies[::2], replies[1::2], strict=True):
        if expiry == -1:
            yield Problem(name, "never expires", _REMEDY)
        try:
            decode(record)
        except CorruptDataError as error:
            yield Problem(name, str(error), _REMEDY)
