"""Ids by short hashes of them."""

from __future__ import annotations

import hashlib
import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from banditcore._hash_index import HashIndex, IdHashes

ROWS = np.arange(1)


def blake2b(text: bytes, digest_bytes: int, person: bytes) -> int:
    digest = hashlib.blake2b(text, digest_size=digest_bytes, person=person).digest()
    return int.from_bytes(digest, "little")


def packed(ids: list[str]) -> tuple[NDArray[np.uint32], bytes]:
    encoded = [one.encode() for one in ids]
    return np.cumsum([0, *map(len, encoded)], dtype=np.uint32)[1:], b"".join(encoded)


@pytest.mark.parametrize("digest_bytes", range(1, 9))
@pytest.mark.parametrize("person", [b"", b"arm", bytes(range(240, 256))])
def test_hashes_are_blake2b(digest_bytes: int, person: bytes) -> None:
    """Of messages around whole blocks, of which one has 128 bytes."""
    hashes = IdHashes(digest_bytes, person)
    ids = ["x" * size for size in (0, 1, 127, 128, 129, 255, 256, 257, 1000)] + ["é", "\0"]
    expected = [blake2b(one.encode(), digest_bytes, person) for one in ids]
    assert hashes.of_packed(*packed(ids)).tolist() == expected
    assert hashes.of_strings(ids).tolist() == expected
    assert hashes.of_strings(tuple(ids)).tolist() == expected


@given(st.lists(st.text(max_size=300), max_size=8))
def test_hashes_of_any_text(ids: list[str]) -> None:
    hashes = IdHashes(5, b"arm")
    expected = [blake2b(one.encode(), 5, b"arm") for one in ids]
    assert hashes.of_packed(*packed(ids)).tolist() == expected
    assert hashes.of_strings(ids).tolist() == expected


def test_a_lone_surrogate_has_a_hash() -> None:
    expected = blake2b("a\ud800".encode(errors="surrogatepass"), 5, b"arm")
    assert IdHashes(5, b"arm").of_strings(["a\ud800"]).tolist() == [expected]


def test_what_cannot_be_hashed_is_refused() -> None:
    hashes = IdHashes(5, b"arm")
    for wrong in ((0, b""), (9, b""), (5, bytes(17))):
        with pytest.raises(ValueError, match="digest"):
            IdHashes(*wrong)
    with pytest.raises(TypeError, match="str"):
        hashes.of_strings(["a", b"b"])  # type: ignore[list-item]
    for ends, text in (([1, 2], b"abc"), ([1, 3], b"ab"), ([3, 2], b"ab")):
        with pytest.raises(ValueError, match="id"):
            hashes.of_packed(np.array(ends, np.uint32), text)


def places(hashes: list[int], wanted: list[list[int]], rows: list[int]) -> list[list[int]]:
    """Return what an index finds, row by row."""
    starts = np.cumsum([0, *map(len, wanted)])
    flat = np.array([each for row in wanted for each in row], np.uint64)
    index = HashIndex(np.array(hashes, np.uint64))
    begins, found = index.find_rows(starts, flat, np.array(rows, np.int64))
    assert begins[0] == 0
    assert begins[-1] == found.size
    return [found[a:b].tolist() for a, b in itertools.pairwise(begins)]


def plainly(hashes: list[int], wanted: list[list[int]], rows: list[int]) -> list[list[int]]:
    return [
        [i for each in wanted[row] for i, hashed in enumerate(hashes) if hashed == each]
        if row >= 0
        else []
        for row in rows
    ]


HASHES = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 7), st.integers(2**64 - 8, 2**64 - 1))


@given(st.lists(HASHES, max_size=40), st.lists(st.lists(HASHES, max_size=5), max_size=4), st.data())
def test_it_finds_what_a_search_through_all_finds(
    hashes: list[int], others: list[list[int]], data: st.DataObject
) -> None:
    """Twins, hashes that fill one bucket, and the very first and last included."""
    wanted = [sorted({*row, *hashes[i::3]}) for i, row in enumerate(others)]
    rows = data.draw(st.lists(st.integers(-1, len(wanted) - 1), max_size=6))
    assert places(hashes, wanted, rows) == plainly(hashes, wanted, rows)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 255, 256, 257, 10_000])
def test_any_number_of_hashes(n: int) -> None:
    chance = random.Random(n)
    hashes = [chance.getrandbits(64) for _ in range(n)]
    assert places(hashes, [hashes, [chance.getrandbits(64) for _ in range(9)]], [1, 0]) == [
        [],
        list(range(n)),
    ]
    index = HashIndex(np.array(hashes, np.uint64))
    if n > 2:
        assert 14 <= index.nbytes / n <= 20 if n < 10 else 14 <= index.nbytes / n <= 16.1


def test_rows_that_are_none_are_refused() -> None:
    index = HashIndex(np.arange(3, dtype=np.uint64))
    hashes = np.arange(2, dtype=np.uint64)
    for starts in ([], [0], [0, 3], [1, 2], [0, 2, 1, 2]):
        with pytest.raises(ValueError, match="rows"):
            index.find_rows(np.array(starts, np.int64), hashes, ROWS)
    for row in (-2, 1):
        with pytest.raises(IndexError):
            index.find_rows(np.array([0, 2]), hashes, np.array([row]))
