"""The stored form of what a user was shown."""

from __future__ import annotations

import hashlib

import pytest

from banditcore.errors import CorruptDataError
from banditcore.store import seen_record
from banditcore.store.seen_record import (
    arm_hash,
    arm_hashes,
    decode,
    encode,
    exposure,
    forbidden,
    limits,
)

NOW = 1_790_000_123


def test_the_layout() -> None:
    hashed = hashlib.blake2b(b"scarf", digest_size=5, person=b"arm").digest()
    body = (NOW % 2**24).to_bytes(3, "little") + hashed
    record = b"\x01" + hashlib.sha1(body, usedforsecurity=False).digest()[:3] + body
    assert encode([exposure(arm_hash("scarf"), NOW)]) == record
    assert decode(record).tolist() == [arm_hash("scarf") | NOW % 2**24]
    assert decode(b"").tolist() == []


def test_every_truncation_and_every_flipped_bit_is_refused() -> None:
    record = encode(exposure(arm_hash(f"item-{i}"), NOW) for i in range(3))
    damaged = [record[:end] for end in range(1, len(record))]
    damaged += [
        bytes(byte ^ (1 << bit) if at == place else byte for at, byte in enumerate(record))
        for place in range(len(record))
        for bit in range(8)
    ]
    damaged.append(encode(range(seen_record.MOST_EXPOSURES + 1)))
    part = record[4:-4]
    damaged.append(b"\x01" + hashlib.sha1(part, usedforsecurity=False).digest()[:3] + part)
    for each in damaged:
        with pytest.raises(CorruptDataError):
            decode(each)
    assert len(decode(encode(range(seen_record.MOST_EXPOSURES)))) == seen_record.MOST_EXPOSURES


@pytest.mark.parametrize("now", [NOW, NOW - NOW % 2**24, NOW - NOW % 2**24 - 1, 5, -7, 10**200])
def test_ages_are_right_from_180_days_before_to_14_days_after(now: int) -> None:
    for age in (0, 1, 86_400, 86_401, 180 * 86_400, -1, -14 * 86_400):
        held = exposure(arm_hash("a"), now - age)
        for seconds in (1, 86_400, seen_record.LONGEST_WITHIN_S):
            against = limits([(1, seconds)])
            for records, known in (([encode([held])], [[]]), ([b""], [[held]])):
                starts, hashes = forbidden(against, records, known, now)
                assert starts.tolist() == [0, int(age <= seconds)]
                assert hashes.tolist() == [arm_hash("a")] * (age <= seconds)


def test_stored_hashes_stay_what_they_are() -> None:
    known = {
        "scarf": 0xF70C1EB74D,
        "item-17": 0x498A221F80,
        "é": 0x721C3720D4,
        "a" * 256: 0x182A62EEB7,
    }
    assert {arm: arm_hash(arm) >> 24 for arm in known} == known
    assert arm_hashes([*known]).tolist() == [number << 24 for number in known.values()]


def test_hashes_are_spread() -> None:
    hashes = set(arm_hashes([f"item-{i}" for i in range(100_000)]).tolist())
    assert len(hashes) == 100_000  # two of them share one with probability 0.0045; these do not
    assert {hashed % 2**24 for hashed in hashes} == {0}
    assert max(hashes).bit_length() == 64
