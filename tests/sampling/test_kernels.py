"""Every kernel this machine runs gives the bits of the serial one: shapes, widths, threads."""

from __future__ import annotations

import numpy as np
import pytest

from banditcore import _sampling

WIDTHS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257]
WIDTHS += [511, 512, 513, 520, 1000, 1023, 1024, 1025, 1032, 2049]
SPREADS = {"boosted": (-3, 12), "from one": (0, 12), "anything": (-100, 100)}
OTHERS = [name for name in _sampling.kernel_names() if name != "serial"]
FAR = 2**32 - 7  # rows whose number passes from one counter word into two


@pytest.fixture
def kernel():
    """Choose a kernel by name, and put back the one in use."""
    before = _sampling.kernel_name()
    yield _sampling._choose
    _sampling._choose(before)


def columns(n, spread):
    rng = np.random.default_rng(n)
    low, high = SPREADS[spread]
    return (*(10 ** rng.uniform(low, high, n) for _ in "ab"), 10 ** rng.uniform(-300, 300, n))


def drawn(n, spread, *, rows=40, threads=1, block=1 << 22, places=(1, 10, 24, 70)):
    """Everything that a kernel computes from these arms, as bytes."""
    a, b, weight = columns(n, spread)
    some = np.flatnonzero(np.random.default_rng(n).random(n) < 0.7).astype(np.int32)
    knobs = {"first_row": FAR, "block": block}
    results = []
    for log_odds in (False, True):
        out = np.empty((rows, n))
        _sampling.fill(a, b, out, 77, threads, log_odds=log_odds, **knobs)
        results.append(out.tobytes())
    for k in places:
        for value in (None, weight):
            for chosen in (None, some):
                best = np.empty((rows, k), dtype=np.int32)
                _sampling.topk(a, b, value, chosen, best, 77, threads, **knobs)
                results.append(best.tobytes())
    return results


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("spread", SPREADS)
def test_each_kernel_gives_the_bits_of_the_serial_one(kernel, name, spread):
    for n in WIDTHS:
        kernel("serial")
        expected = drawn(n, spread)
        kernel(name)
        for threads, block in ((1, 1 << 22), (3, 500)):
            assert drawn(n, spread, threads=threads, block=block) == expected, (n, threads)


@pytest.mark.parametrize("name", _sampling.kernel_names())
def test_a_row_of_many_arms_is_cut_anywhere(kernel, name):
    kernel(name)
    n = 70_001
    whole = drawn(n, "boosted", rows=2, block=1 << 30, places=(1, 30))
    for threads, block in ((1, 1000), (2, 1 << 15), (3, 7777)):
        assert drawn(n, "boosted", rows=2, threads=threads, block=block, places=(1, 30)) == whole


@pytest.mark.parametrize("name", _sampling.kernel_names())
@pytest.mark.parametrize("share", [0.03, 0.5, 1.0])
@pytest.mark.parametrize("low", [-1, -3, -6, -100])
def test_the_best_of_a_row_are_the_greatest_log_odds(kernel, name, share, low):
    """Also where shapes below 1, few or all, drive the odds out of the range of numbers."""
    kernel(name)
    for n in (33, 100, 1025):
        rng = np.random.default_rng(n)
        below = rng.random((2, n)) < share
        a, b = np.where(below, 10 ** rng.uniform(low, 0, (2, n)), 1.0 + rng.gamma(2, 20, (2, n)))
        odds = np.empty((100, n))
        _sampling.fill(a, b, odds, 8, 1, log_odds=True)
        ranked = -np.sort(-odds, axis=1)
        for k in (1, 7, 31):
            best = np.empty((100, k), dtype=np.int32)
            _sampling.topk(a, b, None, None, best, 8, 1)
            found = np.take_along_axis(odds, best, axis=1)
            np.testing.assert_array_equal(found, ranked[:, :k])


@pytest.mark.parametrize("name", _sampling.kernel_names())
def test_the_screen_of_a_top_k_leaves_nobody_out(kernel, name):
    """`boosted` has shapes below 1 looked for, and under weights screens by the key itself."""
    kernel(name)
    for n in WIDTHS:
        a, b, weight = columns(n, "from one")
        for k in (1, 10, 12, 13, 32, 33, 200):
            for value in (None, weight):
                best = [np.empty((20, k), dtype=np.int32) for _ in "xy"]
                for out, boosted in zip(best, (False, True), strict=True):
                    _sampling.topk(a, b, value, None, out, 5, 1, boosted=boosted)
                np.testing.assert_array_equal(best[0], best[1])


def test_ties_are_decided_alike(kernel):
    """Draws that are all one number: only the random words of the arms decide."""
    a, b = np.full(300, 5e99), np.full(300, 1e100)
    found = set()
    for name in _sampling.kernel_names():
        kernel(name)
        for k in (1, 10, 40):
            best = np.empty((50, 40), dtype=np.int32)
            best[:, k:] = -1
            part = np.empty((50, k), dtype=np.int32)
            _sampling.topk(a, b, None, None, part, 9, 2, boosted=False)
            best[:, :k] = part
            found.add((k, best.tobytes()))
    assert len(found) == 3


@pytest.mark.parametrize("name", _sampling.kernel_names())
def test_the_range_of_a_column(kernel, name):
    kernel(name)
    for n in (1, 7, 8, 9, 16, 33):
        for place in range(n):
            column = np.full(n, 2.0)
            assert _sampling.fit(column, 1.0, 3.0) == 1
            for value, seen in (
                (0.5, 2),
                (np.nan, 0),
                (np.inf, 0),
                (-np.inf, 0),
                (0.0, 0),
                (4.0, 0),
            ):
                column[place] = value
                assert _sampling.fit(column, 0.1, 3.0) == seen, (n, place, value)
            column[place] = 2.0


def test_columns_of_another_kind_ask_for_a_closer_look():
    for column in (
        [1.0, 2.0],
        np.ones(4, dtype=np.float32),
        np.ones(4)[::2],
        np.ones((2, 2)),
        np.ones(4).astype(">f8"),
        np.ma.ones(4),
        np.frombuffer(bytes(33), dtype=np.uint8)[1:].view(np.float64),
        None,
    ):
        assert _sampling.fit(column, -1.0, 3.0) == 0
        assert _sampling.plain_fill(column, np.ones(4), 0.5, 3.0, 100) is None
        assert _sampling.plain_topk(np.ones(4), column, 2, 0.5, 3.0, 100) is None


def test_what_could_reach_beyond_an_array_is_refused():
    a, out, best = np.ones(4), np.empty((2, 4)), np.empty((2, 3), dtype=np.int32)
    for wrong in (np.ones(5), np.ones(4, dtype=np.float32), np.ones(8)[::2], [1.0] * 4, None):
        for call in (
            lambda x: _sampling.fill(a, x, out, 1, 1),
            lambda x: _sampling.fill(x, a, out, 1, 1),
            lambda x: _sampling.topk(a, x, None, None, best, 1, 1),
        ):
            with pytest.raises(TypeError, match="column"):
                call(wrong)
    for wrong in (np.empty((2, 4), dtype=np.float32), np.empty((4, 2)).T, np.empty(()), None):
        with pytest.raises(TypeError):
            _sampling.fill(a, a, wrong, 1, 1)
        with pytest.raises(TypeError, match="out"):
            _sampling.topk(a, a, None, None, wrong, 1, 1)
    for wrong in (np.zeros(2), np.zeros(2, dtype=np.int64), np.zeros((1, 2), dtype=np.int32)):
        with pytest.raises(TypeError, match="chosen"):
            _sampling.topk(a, a, None, wrong, best, 1, 1)
    out.flags.writeable = False
    with pytest.raises(TypeError, match="writeable"):
        _sampling.fill(a, a, out, 1, 1)
