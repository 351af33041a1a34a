"""The sections of packed events: ids, places in tables of ids, columns of numbers.

Their forms are told in `event_format`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import CorruptDataError, describe

__all__ = ["SectionReader", "pack_ids", "pack_numbers", "pack_places"]

FloatArray = NDArray[np.float64]
Codes = NDArray[np.intp]

_CONSTANT, _BYTES, _TICKS, _DOUBLES = range(4)
_TICKS_PER_UNIT = 2.0**22
_PLACES_OF_A_BYTE = 256


class SectionReader:
    """Takes one section of a body after the other. Methods raise CorruptDataError.

    Parameters
    ----------
    body : bytes
        As stored.
    at : int
        Where its first section begins.
    """

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self._at = at

    def _array(self, dtype: str, count: int) -> NDArray[Any]:
        at, self._at = self._at, self._at + count * np.dtype(dtype).itemsize
        if self._at > len(self._body):
            raise self._corrupt()
        return np.frombuffer(self._body, dtype, count, at)

    def ids(self, count: int) -> list[str]:
        """Return `count` >= 1 ids."""
        ends = np.cumsum(self._array("<u2", count), dtype=np.int64).tolist()
        raw = self._array("u1", ends[-1]).tobytes()
        starts = [0, *ends[:-1]]
        try:
            if raw.isascii():  # then a place in the bytes is one in the text
                text = raw.decode("ascii")
                return [text[start:end] for start, end in zip(starts, ends, strict=True)]
            return [raw[start:end].decode() for start, end in zip(starts, ends, strict=True)]
        except UnicodeDecodeError as error:
            raise self._corrupt() from error

    def places(self, count: int, among: int) -> Codes:
        """Return `count` >= 1 places in a table of `among` ids."""
        places = self._array("u1" if among <= _PLACES_OF_A_BYTE else "<u2", count)
        if int(places.max()) >= among:
            raise self._corrupt()
        return places.astype(np.intp)

    def numbers(self, kind: int, count: int) -> FloatArray:
        """Return a column of `count` numbers of one of the kinds."""
        if kind == _CONSTANT:
            return np.full(count, self._array("<f8", 1)[0])
        if kind == _BYTES:
            return self._array("u1", count).astype(np.float64)
        if kind == _TICKS:
            first = float(self._array("<f8", 1)[0])
            return _from_ticks(first, self._array("<u4", count))
        if kind == _DOUBLES:
            return self._array("<f8", count).astype(np.float64)
        raise self._corrupt()

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._at != len(self._body):
            raise self._corrupt()

    def _corrupt(self) -> CorruptDataError:
        where = f"its sections do not fit at byte {self._at}; the packed events are not used"
        return CorruptDataError(describe("the length of the body", len(self._body), where))


def pack_ids(ids: Sequence[str]) -> bytes:
    """Return the section of these ids, each of less than 64 KiB."""
    text = "".join(ids)
    if text.isascii():
        lengths, raw = list(map(len, ids)), text.encode("ascii")
    else:
        encoded = [each.encode() for each in ids]
        lengths, raw = list(map(len, encoded)), b"".join(encoded)
    return np.array(lengths, "<u2").tobytes() + raw


def pack_places(places: Codes, among: int) -> bytes:
    """Return the section of places in a table of `among` ids, at most 65,536."""
    return places.astype("u1" if among <= _PLACES_OF_A_BYTE else "<u2").tobytes()


def pack_numbers(column: FloatArray) -> tuple[int, bytes]:
    """Return the kind, and the bytes, of a column of finite numbers."""
    first, last = float(column.min()), float(column.max())
    if first == last:
        return _CONSTANT, struct.pack("<d", first)
    if first >= 0 and last <= 255:
        small = column.astype("u1")
        if np.array_equal(small, column):
            return _BYTES, small.tobytes()
    if (last - first) * _TICKS_PER_UNIT < 2.0**32:
        ticks = np.rint((column - first) * _TICKS_PER_UNIT).astype("<u4")
        if np.array_equal(_from_ticks(first, ticks), column):
            return _TICKS, struct.pack("<d", first) + ticks.tobytes()
    return _DOUBLES, column.astype("<f8").tobytes()


def _from_ticks(first: float, ticks: NDArray[Any]) -> FloatArray:
    return first + ticks.astype(np.float64) / _TICKS_PER_UNIT
