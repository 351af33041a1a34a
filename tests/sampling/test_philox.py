"""The random streams against the known answers published with Random123 (kat_vectors)."""

from __future__ import annotations

import pytest

from banditcore import _sampling

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (ONES, ONES, ONES, ONES),
            (ONES, ONES),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_4x32_10_known_answers(counter, key, block):
    assert _sampling.philox(counter, key) == block


def test_each_counter_and_key_word_matters():
    blocks = {_sampling.philox((0, 0, 0, 0), (0, 0))}
    for place in range(4):
        for bit in (0, 31):
            counter = [0, 0, 0, 0]
            counter[place] = 1 << bit
            blocks.add(_sampling.philox(counter, (0, 0)))
    blocks |= {_sampling.philox((0, 0, 0, 0), key) for key in ((1, 0), (0, 1), (1 << 31, 0))}
    assert len(blocks) == 1 + 8 + 3
