"""Which arms caps forbid."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore._exposures import Limits

BITS = 4
HEADER = 3


def plainly(exposures: set[int], caps: list[tuple[int, int]], latest: int) -> list[int]:
    """Return hashes of arms that some cap forbids, ascending."""
    ages = defaultdict(list)
    for each in exposures:
        ages[each >> BITS].append((latest - each) % 2**BITS)
    return [
        hashed << BITS
        for hashed, of_arm in sorted(ages.items())
        if any(sum(age <= oldest for age in of_arm) >= times for times, oldest in caps)
    ]


def record(exposures: list[int]) -> bytes:
    return b"\xff" * HEADER + b"".join(each.to_bytes(8, "little") for each in exposures)


EXPOSURE = st.one_of(
    st.integers(0, 79), st.integers(2**64 - 64, 2**64 - 1), st.integers(0, 2**64 - 1)
)
USER = st.tuples(
    st.one_of(st.none(), st.lists(EXPOSURE, max_size=30)), st.lists(EXPOSURE, max_size=8)
)
CAPS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 20)), min_size=1, max_size=3)


@given(CAPS, st.lists(USER, max_size=6), st.integers(0, 2**BITS - 1))
def test_each_user_is_forbidden_what_a_plain_count_forbids(
    caps: list[tuple[int, int]], users: list[tuple[list[int] | None, list[int]]], latest: int
) -> None:
    records = [b"" if stored is None else record(stored) for stored, _ in users]
    known = [more for _, more in users]
    starts, hashes = Limits(caps, BITS).forbidden(records, HEADER, known, latest)
    found = [hashes[a:b].tolist() for a, b in itertools.pairwise(starts)]
    expected = [plainly({*(stored or ()), *more}, caps, latest) for stored, more in users]
    assert found == expected
    assert hashes.size == starts[-1]
    assert starts.dtype == np.int64
    assert hashes.dtype == np.uint64


def test_all_64_bits_of_an_exposure_count() -> None:
    exposures = [1 << bit for bit in range(24, 64)]
    starts, hashes = Limits([(1, 0)], 24).forbidden([record(exposures)], HEADER, [[]], 0)
    assert starts.tolist() == [0, 40]
    assert hashes.tolist() == exposures


def test_what_cannot_be_is_refused() -> None:
    for caps, bits in (([(0, 1)], 4), ([(1, 1)], 0), ([(1, 1)], 64)):
        with pytest.raises(ValueError, match=r"cap|bits"):
            Limits(caps, bits)
    with pytest.raises(OverflowError):
        Limits([(1, -1)], 4)
    limits = Limits([(1, 1)], BITS)
    for one, users in ((b"abc", 0), (b"ab", 1), (b"abcd", 1)):
        with pytest.raises(ValueError, match="record"):
            limits.forbidden([one], HEADER, [[] for _ in range(users)], 0)
    with pytest.raises(TypeError):
        limits.forbidden(["abc"], HEADER, [[]], 0)  # type: ignore[list-item]
    with pytest.raises(OverflowError):
        limits.forbidden([b""], HEADER, [[2**64]], 0)
