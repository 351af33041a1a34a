"""Corrects a CRC-32 for a change at the beginning of what it covers, without reading the rest."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["changed_before"]

_POLYNOMIAL = 0xEDB88320  # of zlib's CRC-32, bits reversed: bit 31 is x^0
_ONE = 1 << 31
_BYTE = 1 << 23  # x^8


def changed_before(before: int, after: int, length: int) -> int:
    """Return what changes in a CRC-32 when that of its first part changes.

    A CRC is linear: ``crc32(new + rest) == crc32(old + rest) ^ changed_before(crc32(old),
    crc32(new), len(rest))`` for `old` and `new` of one length. It costs some microseconds,
    whatever the length.

    Parameters
    ----------
    before, after : int
        CRC-32 of the old and of the new first part.
    length : int, >= 0
        Bytes that follow.
    """
    return _product(before ^ after, _shift(length))


@lru_cache(maxsize=4096)
def _shift(length: int) -> int:
    """Return x^(8 length) modulo the polynomial."""
    result, square = _ONE, _BYTE
    while length:
        if length & 1:
            result = _product(result, square)
        square = _product(square, square)
        length >>= 1
    return result


def _product(a: int, b: int) -> int:
    """Return the product of two polynomials over GF(2), modulo that of the CRC."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
