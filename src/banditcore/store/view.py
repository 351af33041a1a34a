"""What one process knows of one segment's statistics."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1

from banditcore.counts import DistinctArms
from banditcore.errors import CorruptDataError, describe
from banditcore.store.library import Held, Reply
from banditcore.store.registry import decode_ids, encode_ids
from banditcore.store.version import SegmentVersion

__all__ = ["SegmentView"]

_TOKEN_BYTES = 12  # 96 random bits


@dataclass(frozen=True, slots=True, eq=False)
class SegmentView:
    """Version, token and registry, as they were together at one moment. Immutable.

    A token never stands beside arms that were registered after it: what a view believes of a slot
    is checked by its token alone.

    Attributes
    ----------
    version : SegmentVersion
        Its landmark and half-life give the weights.
    token : bytes
        Of the registry; changes with every change of it.
    arms : DistinctArms
        Ids in order of their slots.
    slot_of : mapping
        Id -> slot.
    size : int
        Stored bytes of the registry.
    digest : str
        SHA-1 of these bytes in hex.
    """

    version: SegmentVersion
    token: bytes
    arms: DistinctArms
    slot_of: Mapping[str, int]
    size: int
    digest: str

    @classmethod
    def learn(cls, segment: str, reply: Reply, before: SegmentView | None) -> SegmentView:
        """Read the start of a reply of `read` or `open_segment` to one who knew `before`.

        Raises
        ------
        CorruptDataError
            When stored values fail their checks.
        """
        version, token = SegmentVersion.unpack(reply[0], segment), reply[1]
        slots, start, tail = int(reply[2]), int(reply[4]), reply[5]
        if before is None or start == 0:
            view = cls._of(version, token, (), tail)
        elif not tail:
            view = cls(version, token, before.arms, before.slot_of, before.size, before.digest)
        else:
            view = cls._of(version, token, before.arms, tail)
        if len(view.arms) != slots:
            raise CorruptDataError(
                describe("slots", slots, f"segment {segment!r} has {len(view.arms)} arms")
            )
        return view

    @classmethod
    def _of(
        cls, version: SegmentVersion, token: bytes, known: tuple[str, ...], tail: bytes
    ) -> SegmentView:
        arms = known + tuple(decode_ids(tail))
        slot_of = {arm: slot for slot, arm in enumerate(arms)}
        if len(slot_of) != len(arms):
            raise CorruptDataError(describe("registry", len(arms), "an arm stands in it twice"))
        stored = encode_ids(arms)
        digest = sha1(stored, usedforsecurity=False).hexdigest()
        return cls(version, token, DistinctArms(arms), slot_of, len(stored), digest)

    def with_arms(self, new: Sequence[str], token: bytes) -> SegmentView:
        """Return the view after `new` arms were registered and left `token`."""
        return self._of(self.version, token, self.arms, encode_ids(new))

    def held(self, new: Sequence[str] = ()) -> Held:
        """Return what an update that registers `new` arms tells of this view."""
        version = self.version.pack()
        if not new:
            return Held(version, self.token)
        return Held(version, self.token, new_token(), len(new), encode_ids(new))


def new_token() -> bytes:
    """Return a token that no registry has had."""
    return os.urandom(_TOKEN_BYTES)
