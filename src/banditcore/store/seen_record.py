"""The stored form of what one user was shown lately: 8 bytes an exposure.

Layout 1, a string: byte 0 is 1; bytes 1 to 3 are the first of the SHA-1 of all that follows; then
exposures, in the order in which they were marked. An exposure is a little-endian u64: the low 24
bits are the whole second since 1970 modulo 2^24 (194 days), the high 40 bits the arm's hash.

A record is a set: the same arm in the same second is one exposure, so marking again after a lost
reply changes nothing. Two arms share a hash with probability 2^-40: for a user who has seen 50 of
a segment's 10,000 arms, one is hidden needlessly with probability 4.5e-7, none shown wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha1

import numpy as np
from numpy.typing import NDArray

from banditcore._exposures import Limits
from banditcore._hash_index import IdHashes
from banditcore._packed import PackedIds
from banditcore.errors import CorruptDataError, describe

__all__ = [
    "AHEAD_S",
    "LONGEST_BYTES",
    "LONGEST_WITHIN_S",
    "MOST_EXPOSURES",
    "Exposures",
    "Forbidden",
    "arm_hash",
    "arm_hashes",
    "check",
    "decode",
    "encode",
    "exposure",
    "forbidden",
    "limits",
    "pack",
]

Exposures = NDArray[np.uint64]

Forbidden = tuple[NDArray[np.int64], NDArray[np.uint64]]
"""Of n users: starts (n + 1,), and the hashes of arms that each of them must not be shown, from his
start on, before the next one: ascending, distinct."""

MOST_EXPOSURES = 1000
"""A record's length; of more, those marked first are dropped."""

LONGEST_WITHIN_S = 90 * 86_400
"""The longest window: twice as long and 14 days of clocks that run ahead fit into 24 bits."""

_LAYOUT = 1
_HEADER_BYTES = 4
_EXPOSURE_BYTES = 8
LONGEST_BYTES = _HEADER_BYTES + _EXPOSURE_BYTES * MOST_EXPOSURES

_TIME_BITS = 24
_WRAP = 1 << _TIME_BITS
AHEAD_S = _WRAP - 2 * LONGEST_WITHIN_S - 1
"""How far ahead of ours a clock may be that marked an exposure: 14 days."""
_HASH_BYTES = 5
_PERSON = b"arm"
_HASHES = IdHashes(_HASH_BYTES, _PERSON)


def arm_hash(arm: str) -> int:
    """Return an arm's 40 bits where an exposure has them: shifted left by 24."""
    text = arm.encode(errors="surrogatepass")
    digest = blake2b(text, digest_size=_HASH_BYTES, person=_PERSON).digest()
    return int.from_bytes(digest, "little") << _TIME_BITS


def arm_hashes(arms: PackedIds | Sequence[str]) -> NDArray[np.uint64]:
    """Return the `arm_hash` of each; of `PackedIds` without the interpreter lock."""
    if isinstance(arms, PackedIds):
        found = _HASHES.of_packed(arms.ends, arms.text)
    else:
        found = _HASHES.of_strings(arms)
    return found << np.uint64(_TIME_BITS)


def exposure(hashed: int, second: int) -> int:
    """Return an arm, by its `arm_hash`, as shown in a second since 1970."""
    return hashed | second % _WRAP


def limits(caps: Iterable[tuple[int, int]]) -> Limits:
    """Return what `forbidden` is asked against: caps, each of so many times within so many seconds.

    Ages are counted from the latest that an exposure can be marked at.
    """
    return Limits([(times, seconds + AHEAD_S) for times, seconds in caps], _TIME_BITS)


def forbidden(
    against: Limits, records: list[bytes], known: list[list[int]], second: int
) -> Forbidden:
    """Return which arms each of many users may not be shown in a second, by their hashes.

    Right for exposures from 180 days before `second` to 14 days after it. Those after it, of clocks
    that differ or went back, count as well.

    Parameters
    ----------
    against : Limits
        All of its caps hold.
    records : list of bytes
        One a user, checked; b"" stands for no record.
    known : list of list of int
        More exposures of each of them; what is in the record too does no harm.
    second : int
        Since 1970.
    """
    return against.forbidden(records, _HEADER_BYTES, known, (second + AHEAD_S) % _WRAP)


def pack(exposures: Iterable[int]) -> bytes:
    """Return exposures as they are stored."""
    return b"".join(each.to_bytes(_EXPOSURE_BYTES, "little") for each in exposures)


def encode(exposures: Iterable[int]) -> bytes:
    """Return a whole record, as seen.lua writes it."""
    body = pack(exposures)
    return bytes([_LAYOUT]) + _checksum(body) + body


def check(record: bytes) -> None:
    """Check a record; b"" stands for no record.

    Raises
    ------
    CorruptDataError
        It is too long or damaged, or of another layout.
    """
    if not record:
        return
    if record[0] != _LAYOUT:
        what, remedy = record[0], f"layout {_LAYOUT} is read; the record expires by itself"
        raise CorruptDataError(describe("layout of a seen record", what, remedy))
    if (
        len(record) > LONGEST_BYTES
        or len(record) % _EXPOSURE_BYTES != _HEADER_BYTES
        or record[1:_HEADER_BYTES] != _checksum(record[_HEADER_BYTES:])
    ):
        remedy = "it is damaged; the next mark begins it anew"
        raise CorruptDataError(describe("length of a seen record", len(record), remedy))


def decode(record: bytes) -> Exposures:
    """Return a record's exposures; of b"", which stands for no record, none.

    Raises
    ------
    CorruptDataError
        As of `check`.
    """
    check(record)
    return np.frombuffer(record[_HEADER_BYTES:], "<u8").astype(np.uint64, copy=False)


def _checksum(body: bytes) -> bytes:
    return sha1(body, usedforsecurity=False).digest()[: _HEADER_BYTES - 1]
