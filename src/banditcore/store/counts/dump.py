"""Segments as a whole, with all that is stored of them but the published blob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys, keyspace
from banditcore.store.counts import index
from banditcore.store.functions import calling, maintenance_library, words

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["SegmentDump", "dump", "forget", "restore"]

_FIELDS_AT = 7  # where the fields begin in a reply of `maintenance_library.dump_segment`
_FORGOTTEN_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class SegmentDump:
    """What is stored of one segment, as it was at one moment.

    Attributes
    ----------
    fields : dict of bytes to bytes
        The state: version, token, counts, marks (see library.lua).
    registry : bytes
        Ids of the arms, in stored form.
    expiries : (int, int)
        When the even and the odd set of digests are dropped, milliseconds since 1970; -1 for
        never, -2 where there is no set.
    digests : (bytes, bytes)
        The two sets, packed; or their sizes in decimal, when they were not asked for.
    types : tuple of str
        The server's types of state, registry, even, odd and blob; "none" where no key is. The
        value of a key of a wrong type is empty above.
    time_ms : int
        The server's clock at that moment, milliseconds since 1970.
    """

    fields: dict[bytes, bytes]
    registry: bytes
    expiries: tuple[int, int]
    digests: tuple[bytes, bytes]
    types: tuple[str, ...]
    time_ms: int


def dump(
    store: Store, bandit: str, segments: Sequence[str], *, with_digests: bool = True
) -> list[SegmentDump]:
    """Read segments, in one round trip, each at one moment. Writes nothing.

    Raises
    ------
    CorruptDataError
        When a set of digests has a member that is none.
    """
    calls = [
        maintenance_library.dump_segment(
            keys.of_segment(bandit, segment), with_digests=with_digests
        )
        for segment in segments
    ]
    dumps = []
    for segment, reply in zip(segments, calling.run(store, calls), strict=True):
        if reply[0] == b"CORRUPT":
            raise CorruptDataError(
                describe(reply[1].decode(), "damaged", f"of segment {segment!r}: no digests")
            )
        words = reply[_FIELDS_AT:]
        dumps.append(
            SegmentDump(
                fields=dict(zip(words[::2], words[1::2], strict=True)),
                registry=reply[4],
                expiries=(int(reply[2]), int(reply[3])),
                digests=(reply[5], reply[6]),
                types=tuple(reply[0].decode().split(" ")),
                time_ms=int(reply[1]),
            )
        )
    return dumps


def restore(store: Store, bandit: str, segment: str, dumped: SegmentDump) -> None:
    """Put a segment in the place of whatever is there, in one step.

    It is out of sight until its bandit's index names it.
    """
    (even_expiry, odd_expiry), (even, odd) = dumped.expiries, dumped.digests
    call = maintenance_library.restore_segment(
        keys.of_segment(bandit, segment),
        registry=dumped.registry,
        even_expiry=even_expiry,
        even=even,
        odd_expiry=odd_expiry,
        odd=odd,
        fields=words.packed(word for pair in dumped.fields.items() for word in pair),
    )
    [reply] = calling.run(store, [call])
    if reply[0] != b"OK":
        raise CorruptDataError(
            describe("segment", segment, f"was not restored: {reply[-1].decode()}")
        )


def forget(store: Store, bandit: str, segments: Sequence[str], *, keep_marks: bool = False) -> None:
    """Remove segments, each in one step, from the index too unless their marks are kept.

    A writer that had one open is answered STALE, and makes it anew.

    Raises
    ------
    CorruptDataError
        When a segment's version is damaged, so that its marks cannot be kept.
    """
    for first in range(0, len(segments), _FORGOTTEN_AT_ONCE):
        batch = segments[first : first + _FORGOTTEN_AT_ONCE]
        calls = [
            maintenance_library.forget_segment(
                keys.of_segment(bandit, segment), keep_marks=keep_marks
            )
            for segment in batch
        ]
        for segment, reply in zip(batch, calling.run(store, calls), strict=True):
            if reply[0] != b"OK":
                raise CorruptDataError(
                    describe(
                        reply[-1].decode(),
                        "damaged",
                        f"of segment {segment!r}: its marks cannot be kept, forget them too",
                    )
                )
        if not keep_marks:
            # Last, so that what is cut short can be found and done again.
            index.remove(store, bandit, batch)
            # A segment that a writer made anew between stays in sight. One that comes later is
            # entered by its writer, who does that after he made it too.
            states = [keys.of_segment(bandit, segment).state for segment in batch]
            exist = keyspace.existing(store, states)
            again = [segment for segment, exists in zip(batch, exist, strict=True) if exists]
            if again:
                index.add(store, bandit, again)
