"""A CRC-32 corrected for another beginning, beside one that is computed anew."""

from __future__ import annotations

import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from banditcore.crc import changed_before


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=300))
@example(b"a", b"b", b"")
@example(b"version 1", b"version 2", bytes(2**20))
@example(b"version 1", b"version 2", b"\xff" * (2**20 - 1))
def test_a_corrected_sum_is_that_of_the_new_bytes(old, new, rest):
    size = min(len(old), len(new))
    old, new = old[:size], new[:size]
    change = changed_before(zlib.crc32(old), zlib.crc32(new), len(rest))
    assert zlib.crc32(new + rest) == zlib.crc32(old + rest) ^ change
