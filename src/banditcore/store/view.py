"""What one process knows of one segment's statistics."""

from __future__ import annotations

from dataclasses import dataclass

from banditcore.errors import CorruptDataError, describe
from banditcore.store.registry import Registry
from banditcore.store.version import SegmentVersion

__all__ = ["SegmentView"]


@dataclass(frozen=True, slots=True)
class SegmentView:
    """Version, token and registry, as they were together at one moment.

    Parameters
    ----------
    version : SegmentVersion
        Its landmark and half-life give the weights.
    token : bytes
        Of the registry; changes with every change of it.
    registry : Registry
        At least the arms of that moment; newer views of the same epoch share it.
    """

    version: SegmentVersion
    token: bytes
    registry: Registry

    @classmethod
    def learn(cls, segment: str, reply: list[bytes], before: SegmentView | None) -> SegmentView:
        """Read the start of a reply of `read` or `open`, given what was known before.

        Raises
        ------
        CorruptDataError
            When stored values fail their checks.
        """
        version, token = SegmentVersion.unpack(reply[0], segment), reply[1]
        slots, start, tail = int(reply[2]), int(reply[4]), reply[5]
        registry = before.registry if before is not None and start > 0 else Registry()
        registry.extend(start, tail)
        if len(registry.arms) < slots:
            raise CorruptDataError(
                describe("slots", slots, f"segment {segment!r} has {len(registry.arms)} arms")
            )
        return cls(version, token, registry)
