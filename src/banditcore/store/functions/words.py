"""How numbers and lists are written for server-side functions."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["number", "packed", "unpacked"]


def number(value: float | None) -> str:
    """Return a number with all its digits; "" stands for None."""
    return "" if value is None else repr(float(value))


def packed(strings: Iterable[bytes]) -> bytes:
    """Return a list of strings as one: for each its length as u32, then itself."""
    return b"".join(len(string).to_bytes(4, "little") + string for string in strings)


def unpacked(packed: bytes) -> list[bytes] | None:
    """Return the strings of a packed list; None when it is cut."""
    strings, at = [], 0
    while at < len(packed):
        start = at + 4
        at = start + int.from_bytes(packed[at:start], "little")
        if start > len(packed) or at > len(packed):
            return None
        strings.append(packed[start:at])
    return strings
