"""What one process knows of one segment's statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import TYPE_CHECKING

from banditcore.counts import DistinctArms
from banditcore.errors import CorruptDataError, describe
from banditcore.store.counts.registry import check_token, decode_ids, encode_ids, new_token
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions.calling import Reply
from banditcore.store.functions.updates_library import Held

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

__all__ = ["SegmentView"]


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
    _sha: HASH  # of these bytes, to go on from; never updated itself

    @classmethod
    def learn(cls, segment: str, reply: Reply, before: SegmentView | None) -> SegmentView:
        """Read the start of a reply of `read` or `open_segment` to one who knew `before`.

        Raises
        ------
        CorruptDataError
            When stored values fail their checks.
        """
        if reply[0] == b"CORRUPT":
            field = reply[1].decode()
            if len(reply) > 2:
                SegmentVersion.unpack(reply[2], segment)  # another release's explains it
            raise CorruptDataError(describe(field, "damaged", f"segment {segment!r} is not read"))
        version, token = SegmentVersion.unpack(reply[0], segment), reply[1]
        slots, start, tail = int(reply[2]), int(reply[4]), reply[5]
        if before is None or start == 0:
            view = cls._of(version, token, None, tail)
        elif not tail:
            view = replace(before, version=version, token=token)
        else:
            view = cls._of(version, token, before, tail)
        if len(view.arms) != slots:
            raise CorruptDataError(
                describe("slots", slots, f"segment {segment!r} has {len(view.arms)} arms")
            )
        check_token(token, view.digest, f"of segment {segment!r}")
        return view

    @classmethod
    def _of(
        cls, version: SegmentVersion, token: bytes, known: SegmentView | None, tail: bytes
    ) -> SegmentView:
        arms = (() if known is None else known.arms) + tuple(decode_ids(tail))
        slot_of = {arm: slot for slot, arm in enumerate(arms)}
        if len(slot_of) != len(arms):
            raise CorruptDataError(describe("registry", len(arms), "an arm stands in it twice"))
        sha = sha1(usedforsecurity=False) if known is None else known._sha.copy()
        sha.update(tail)
        size = len(tail) + (0 if known is None else known.size)
        return cls(version, token, DistinctArms(arms), slot_of, size, sha.hexdigest(), sha)

    def with_arms(self, new: Sequence[str], token: bytes) -> SegmentView:
        """Return the view after `new` arms were registered and left `token`."""
        return self._of(self.version, token, self, encode_ids(new))

    def held(self, new: Sequence[str] = ()) -> Held:
        """Return what an update that registers `new` arms tells of this view."""
        version = self.version.pack()
        if not new:
            return Held(version, self.token)
        tail, sha = encode_ids(new), self._sha.copy()
        sha.update(tail)
        return Held(version, self.token, new_token(sha.hexdigest()), len(new), tail)
