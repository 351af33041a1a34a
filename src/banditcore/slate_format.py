"""The binary form of a snapshot, as published: layout and checks in docs/slate-format.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import msgpack  # type: ignore[import-untyped]  # msgpack ships no annotations
import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedBank, PackedIds
from banditcore.errors import (
    BanditCoreError,
    CorruptDataError,
    InvalidTypeError,
    InvalidValueError,
    describe,
)
from banditcore.identifiers import MAX_ID_BYTES, check_bandit, check_segment
from banditcore.slate_header import (
    CHECKED_BYTES,
    HEADER_BYTES,
    SCHEMA,
    SlateHeader,
    checked_part,
    decode_header,
    encode_header,
    refuse,
    restamped,
)
from banditcore.slates import SlateBank, Snapshot, check_parameters

__all__ = [
    "DEFAULT_MAX_BYTES",
    "HEADER_BYTES",
    "SCHEMA",
    "PackedSnapshot",
    "SlateHeader",
    "decode",
    "decode_header",
    "encode",
    "encode_header",
    "restamped",
    "unpack",
]

DEFAULT_MAX_BYTES = 64 * 2**20
"""The longest blob written or read unless told otherwise: some two million arms."""

_METADATA_LENGTH = struct.Struct("<I")
_MAX_METADATA_BYTES = 1024
_ALIGNMENT = 8
_KEYS = ("bandit", "segment", "arms", "slates", "depth", "id_bytes", "index_bytes")
_NARROW, _WIDE = np.dtype("<u2"), np.dtype("<u4")


@dataclass(frozen=True, slots=True, eq=False)
class PackedSnapshot:
    """A blob's snapshot as it lies there, every part of it checked. Immutable.

    Parameters
    ----------
    bandit, segment : str
        Whose snapshot this is.
    header : SlateHeader
        Of its blob.
    arms : PackedIds
        (n,) arm ids. One object for all snapshots in use whose arms are the same, in one order.
    alpha, beta : (n,) float64
        The posterior of each arm.
    bank : PackedBank
        Slates over these arms.
    """

    bandit: str
    segment: str
    header: SlateHeader
    arms: PackedIds
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    bank: PackedBank


# The arms of segments are often the same, and those of a segment's next version nearly always.
_ARMS_IN_USE: WeakValueDictionary[tuple[bytes, bytes], PackedIds] = WeakValueDictionary()


def encode(snapshot: Snapshot, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Return `snapshot` as a blob. Equal snapshots give equal bytes.

    Parameters
    ----------
    snapshot : Snapshot
        What to write.
    max_bytes : int
        The longest blob allowed; readers refuse a longer one.

    Raises
    ------
    InvalidValueError
        The blob would be longer than `max_bytes`.
    """
    arms = snapshot.arms
    ids = "".join(arms).encode()
    characters = list(map(len, arms))
    one_each = sum(characters) == len(ids)  # else some character has several bytes
    sizes = characters if one_each else [len(arm.encode()) for arm in arms]
    ends = np.cumsum(np.fromiter(sizes, np.uint64, len(sizes)))
    index_type = _index_type(len(arms))
    metadata = msgpack.packb(
        {
            "bandit": snapshot.bandit,
            "segment": snapshot.segment,
            "arms": len(arms),
            "slates": len(snapshot.bank),
            "depth": snapshot.bank.depth,
            "id_bytes": len(ids),
            "index_bytes": index_type.itemsize,
        }
    )
    body = b"".join(
        _padded(part)
        for part in (
            _METADATA_LENGTH.pack(len(metadata)) + metadata,
            snapshot.alpha.astype("<f8").tobytes(),
            snapshot.beta.astype("<f8").tobytes(),
            ends.astype("<u4").tobytes(),
            ids,
            snapshot.bank.slates.astype(index_type).tobytes(),  # -1 becomes all ones
        )
    )
    length = HEADER_BYTES + len(body)
    if length > max_bytes:
        raise InvalidValueError(
            describe(
                f"blob of {snapshot.bandit!r} segment {snapshot.segment!r}",
                length,
                f"at most {max_bytes} bytes: retire arms, or lower slates or depth",
            )
        )
    checksum = zlib.crc32(body, zlib.crc32(checked_part(snapshot.version, length)))
    return encode_header(SlateHeader(snapshot.version, length, checksum)) + body


def decode(blob: bytes | bytearray | memoryview, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Snapshot:
    """Return the snapshot in `blob`, every part of it checked.

    Parameters and errors are those of `unpack`.
    """
    found = unpack(blob, max_bytes=max_bytes)
    indices = found.bank.slates
    slates = indices.astype(np.int64)
    slates[indices == np.iinfo(indices.dtype).max] = -1
    return Snapshot(
        found.bandit,
        found.segment,
        found.header.version,
        tuple(found.arms),
        found.alpha,
        found.beta,
        SlateBank(slates),
    )


def unpack(
    blob: bytes | bytearray | memoryview, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> PackedSnapshot:
    """Return what is in `blob`, checked but not unfolded: what a serving process keeps of it.

    Size, magic, schema, length and checksum come before anything is parsed.

    Parameters
    ----------
    blob : bytes-like
        A whole blob and nothing else.
    max_bytes : int
        The longest blob looked at.

    Raises
    ------
    CorruptDataError
        A check fails; the message names which.
    """
    if not isinstance(blob, (bytes, bytearray, memoryview)):
        raise InvalidTypeError(describe("blob", type(blob).__name__, "bytes, as published"))
    if memoryview(blob).nbytes > max_bytes:
        refuse("size", memoryview(blob).nbytes, f"at most {max_bytes} bytes are read")
    data = bytes(blob)
    header = decode_header(data)
    if header.length != len(data):
        refuse("length", len(data), f"the header says {header.length} bytes")
    checksum = zlib.crc32(memoryview(data)[HEADER_BYTES:], zlib.crc32(data[:CHECKED_BYTES]))
    if checksum != header.checksum:
        refuse("checksum", f"{checksum:#010x}", f"the header says {header.checksum:#010x}")
    return _parse(data, header)


def _parse(data: bytes, header: SlateHeader) -> PackedSnapshot:
    reader = _Reader(data)
    (metadata_length,) = _METADATA_LENGTH.unpack(reader.take("metadata", _METADATA_LENGTH.size))
    if metadata_length > _MAX_METADATA_BYTES:
        refuse("metadata length", metadata_length, f"at most {_MAX_METADATA_BYTES} bytes")
    metadata = _metadata(reader.take("metadata", metadata_length))
    reader.align()
    n_arms, slates, depth = metadata["arms"], metadata["slates"], metadata["depth"]
    index_type = _index_type(n_arms)
    if metadata["index_bytes"] != index_type.itemsize:
        refuse("index_bytes", metadata["index_bytes"], f"{index_type.itemsize} for {n_arms} arms")
    if depth > n_arms or (slates == 0) != (n_arms == 0) or (depth == 0) != (n_arms == 0):
        # Slates of no places would take no bytes, so a short blob could claim any number of them.
        refuse("bank shape", (slates, depth), f"it does not fit {n_arms} arms")
    alpha = reader.array("alpha", np.dtype("<f8"), n_arms)
    beta = reader.array("beta", np.dtype("<f8"), n_arms)
    ends = reader.take("arm id ends", n_arms * _WIDE.itemsize)
    reader.align()
    ids = reader.take("arm ids", metadata["id_bytes"])
    reader.align()
    indices = reader.array("bank", index_type, slates * depth)
    reader.finish()
    arms = _packed_ids(ends, ids)
    try:
        bank = PackedBank(arms, indices.reshape(slates, depth))
    except ValueError as error:
        raise CorruptDataError(f"slate blob refused, bank check: {error}") from error
    try:
        return PackedSnapshot(
            check_bandit(metadata["bandit"]),
            check_segment(metadata["segment"]),
            header,
            arms,
            check_parameters("alpha", alpha, n_arms),
            check_parameters("beta", beta, n_arms),
            bank,
        )
    except BanditCoreError as error:
        raise CorruptDataError(f"slate blob refused, content check: {error}") from error


def _packed_ids(ends: bytes, ids: bytes) -> PackedIds:
    known = _ARMS_IN_USE.get((ends, ids))
    if known is not None:
        return known
    stops = np.frombuffer(ends, _WIDE).astype(np.uint32, copy=False)
    try:
        made = PackedIds(stops, ids, MAX_ID_BYTES)
    except ValueError as error:  # that of text which is no UTF-8 is one too
        raise CorruptDataError(f"slate blob refused, arm id check: {error}") from error
    _ARMS_IN_USE[ends, ids] = made
    return made


class _Reader:
    """Walks over a blob, never past its end; padding must be zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = HEADER_BYTES

    def take(self, part: str, size: int) -> bytes:
        if size > len(self._data) - self._at:
            refuse(f"size of {part}", size, f"{len(self._data) - self._at} bytes are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def align(self) -> None:
        padding = self.take("padding", -self._at % _ALIGNMENT)
        if any(padding):
            refuse("padding", padding, "it is zeros")

    def array(self, part: str, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        found = np.frombuffer(self.take(part, count * dtype.itemsize), dtype)
        self.align()
        return found.astype(dtype.newbyteorder("="), copy=False)

    def finish(self) -> None:
        if self._at != len(self._data):
            refuse("end", len(self._data) - self._at, "nothing follows the bank")


def _metadata(packed: bytes) -> dict[str, Any]:
    try:
        found = msgpack.unpackb(
            packed,
            raw=False,
            unicode_errors="strict",
            strict_map_key=True,
            object_pairs_hook=_distinct_keys,
            ext_hook=_no_extension,
            max_str_len=MAX_ID_BYTES,
            max_bin_len=0,
            max_array_len=0,
            max_map_len=len(_KEYS),
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:  # all that msgpack raises on bad input
        raise CorruptDataError(f"slate blob refused, metadata check: {error}") from error
    if not isinstance(found, dict) or set(found) != set(_KEYS):
        refuse("metadata", found, f"a map of {', '.join(_KEYS)}")
    for key, value in found.items():
        if key in {"bandit", "segment"}:
            if type(value) is not str:
                refuse(f"metadata {key}", value, "a str")
        elif type(value) is not int or value < 0:
            refuse(f"metadata {key}", value, "an int, not negative")
    return found


def _distinct_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(describe("keys", [key for key, _ in pairs], "each stands once"))
    return found


def _no_extension(code: int, _data: bytes) -> NoReturn:
    raise ValueError(describe("extension type", code, "none are allowed"))


def _index_type(n_arms: int) -> np.dtype[Any]:
    # All ones mean "no arm", so 65,535 arms no longer fit 16 bits.
    return _NARROW if n_arms < np.iinfo(_NARROW).max else _WIDE


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % _ALIGNMENT)
