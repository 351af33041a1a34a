"""The version of a segment's statistics: what a writer must know to add to them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from banditcore.errors import CorruptDataError, describe
from banditcore.store.seals import seal, unseal

__all__ = ["SCHEMA", "SegmentVersion"]

SCHEMA = 2
_LAYOUT = struct.Struct("<HHIddd")


@dataclass(frozen=True, slots=True)
class SegmentVersion:
    """Compared as a whole by every write; a writer that holds another one changes nothing.

    Parameters
    ----------
    epoch : int
        Of the arm registry; a slot means the same arm as long as it stays.
    landmark : float
        Seconds since 1970; an event then has weight 1.
    half_life_s : float or None
        Seconds; None when evidence does not fade.
    window_s : float
        How far back, in seconds, events with ids are told apart from their duplicates.
    """

    epoch: int
    landmark: float
    half_life_s: float | None
    window_s: float

    def pack(self) -> bytes:
        """Return the state's field ``v``: 32 bytes, sealed."""
        half_life = self.half_life_s or 0.0
        return seal(_LAYOUT.pack(SCHEMA, 0, self.epoch, self.landmark, half_life, self.window_s))

    @classmethod
    def unpack(cls, raw: bytes, segment: str) -> SegmentVersion:
        """Read the field back; raises CorruptDataError if it is damaged, or of another schema."""
        where = f"of segment {segment!r}"
        if len(raw) == _LAYOUT.size:  # as before values were sealed
            raise CorruptDataError(
                describe("schema", 1, f"{where}; this release reads {SCHEMA}: ingest its logs anew")
            )
        value = unseal(raw, "version", f"{where} is damaged")
        schema = int.from_bytes(value[:2], "little")
        if schema != SCHEMA or len(value) != _LAYOUT.size:
            raise CorruptDataError(
                describe("schema", schema, f"{where}; this release reads {SCHEMA}: upgrade")
            )
        _, _, epoch, landmark, half_life, window = _LAYOUT.unpack(value)
        return cls(epoch, landmark, half_life or None, window)

    def next_epoch(self) -> SegmentVersion:
        """Return the version after a compaction of the registry."""
        return replace(self, epoch=self.epoch + 1)
