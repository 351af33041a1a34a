"""Arms and slates read where they lie give what plain lists and tuples give."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banditcore._packed import PackedBank, PackedIds, frozen_ids
from banditcore.slate_format import encode, unpack
from banditcore.slates import Snapshot, draw_bank

IDS = st.lists(st.text(min_size=1, max_size=9).filter(str.isprintable), unique=True, max_size=40)


def packed(ids: list[str]) -> PackedIds:
    raw = [each.encode() for each in ids]
    ends = np.cumsum([len(each) for each in raw], dtype=np.uint32)
    return PackedIds(ends, b"".join(raw), 256)


def bank(rows: list[list[int]], arms: int, kind: Any = np.uint16) -> PackedBank:
    depth = max(map(len, rows))
    none = int(np.iinfo(kind).max)
    filled = [row + [none] * (depth - len(row)) for row in rows]
    return PackedBank(packed([f"a{i}" for i in range(arms)]), np.array(filled, kind))


@settings(deadline=None)
@given(IDS, st.lists(st.text()))
def test_ids_are_found_where_they_stand(ids: list[str], others: list[str]) -> None:
    found = packed(ids)
    assert len(found) == len(ids)
    assert list(found) == ids
    assert [found[i] for i in range(len(ids))] == ids
    assert found[1:5] == tuple(ids[1:5])
    for each in [*ids, *others]:
        assert found.find(each) == (ids.index(each) if each in ids else -1)
    asked = [*others, *ids]
    assert found.places(asked).tolist() == [ids.index(each) for each in asked if each in ids]


def test_what_is_no_id_is_not_found() -> None:
    found = packed(["a", "b"])
    assert found.find("\ud800") == found.find("") == found.find("ab") == -1
    assert found.places({"\ud800", "b"}).tolist() == [1]
    for wrong in (2, -1):
        with pytest.raises(IndexError):
            found[wrong]
    with pytest.raises(IndexError):
        found.named(np.array([2], np.int32))
    with pytest.raises(TypeError):
        found.places([3])  # type: ignore[list-item]  # meant


def test_a_negative_place_ends_a_slate() -> None:
    found = packed(["a", "b", "c"])
    assert found.named(np.array([2, 0, -1, 1], np.int32)) == ("c", "a")
    assert found.named_rows(np.array([[1, -1], [0, 2]], np.int32)) == [("b",), ("a", "c")]


@pytest.mark.parametrize(
    ("ends", "text", "words"),
    [
        ([1], b"ab", "ends at 1, all of them have 2 bytes"),
        ([2, 1, 3], b"abc", "id 1 has no length"),
        ([1, 1, 2], b"ab", "id 1 has no length"),
        ([3, 2], b"ab", "id 0 has no length"),
        ([3], b"abc", "no length of 1 to 2"),
        ([1, 2], "é".encode(), "id 1 begins within a character"),
        ([1, 2, 3], b"aba", "'a' stands twice"),
        ([1], b"\xff", "utf-8"),
    ],
)
def test_ids_that_lie_are_refused(ends: list[int], text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PackedIds(np.array(ends, np.uint32), text, 2)


@st.composite
def banks(draw: Any) -> tuple[list[list[int]], int]:
    arms = draw(st.integers(1, 12))
    row = st.lists(st.integers(0, arms - 1), unique=True, max_size=arms)
    return draw(st.lists(row, min_size=1, max_size=6).filter(any)), arms


@settings(deadline=None)
@given(banks(), st.integers(1, 14), st.sets(st.integers(0, 14)), st.sampled_from(["<u2", "<u4"]))
def test_rows_are_cut_and_counted_as_lists_are(
    made: tuple[list[list[int]], int], k: int, out: set[int], kind: str
) -> None:
    rows, arms = made
    found = bank(rows, arms, np.dtype(kind).type)
    excluded = frozenset(f"a{i}" for i in out)
    kept = [tuple(f"a{i}" for i in row if i not in out)[:k] for row in rows]
    assert [found.pick(i, k, excluded) for i in range(len(rows))] == kept
    order = np.array([*range(len(rows)), 0, 0])
    expected = [kept[i] for i in order]
    assert found.pick_many(order, k, excluded) == expected
    assert found.pick_many(order, k, [excluded] * len(order)) == expected
    without = found.arms.places(excluded)[::-1]
    starts = np.arange(len(order) + 1) * without.size
    many = np.tile(without, len(order))
    assert found.pick_each(order, k, starts, many) == expected
    nothing = np.zeros(len(order) + 1, np.int64)
    full = found.pick_many(order, k, frozenset())
    assert found.pick_each(order, k, nothing, many) == full
    # What one row is asked without is nothing to the next.
    by_turns = np.arange(len(order) + 1) // 2 * without.size
    turns = [(expected if i % 2 else full)[i] for i in range(len(order))]
    assert found.pick_each(order, k, by_turns, many) == turns
    longest = max(kept, key=len)
    reached = min(map(len, kept))
    shares = [
        sum(row[p : p + 1] == (arm,) for row in kept) / len(rows) for p, arm in enumerate(longest)
    ]
    shares[reached:] = [np.nan] * (len(longest) - reached)
    np.testing.assert_array_equal(found.shares(longest, k, excluded), shares)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0, 1], [3, 0]], "row 1 has an index beyond 3 arms"),
        ([[0, 1], [2, 2]], "row 1 has an arm twice"),
    ],
)
def test_banks_that_lie_are_refused(kind: Any, rows: list[list[int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bank(rows, 3, kind)
    none = int(np.iinfo(kind).max)
    with pytest.raises(ValueError, match="row 0 goes on after its end"):
        bank([[none, 1]], 3, kind)


def test_what_is_asked_wrongly_is_refused() -> None:
    found = bank([[0, 1], [1, 0]], 2)
    nobody: frozenset[str] = frozenset()
    for row in (-1, 2):
        with pytest.raises(IndexError):
            found.pick(row, 1, nobody)
        with pytest.raises(IndexError):
            found.pick_many(np.array([row]), 1, nobody)
        with pytest.raises(IndexError):
            found.pick_each(np.array([row]), 1, np.zeros(2, np.int64), np.empty(0, np.int32))
    one = np.array([0])
    for starts, without in (
        ([0, 2], [0]),
        ([1, 0], [0]),
        ([-1, 0], [0]),
        ([0, 1], [9]),
        ([0, 1], [-1]),
    ):
        with pytest.raises(IndexError):
            found.pick_each(one, 1, np.array(starts), np.array(without, np.int32))
    with pytest.raises(ValueError, match="one start"):
        found.pick_each(one, 1, np.array([0]), np.array([0], np.int32))
    with pytest.raises(ValueError, match="one set"):
        found.pick_many(np.array([0, 1]), 1, [nobody])
    with pytest.raises(TypeError):
        found.pick_many(np.array([0]), 1, {"a0"})  # type: ignore[arg-type]  # meant


def test_frozen_ids_are_strings() -> None:
    assert frozen_ids(["a", "b", "a"]) == {"a", "b"}
    same = frozenset("ab")
    assert frozen_ids(same) is same
    for wrong in ([1], ["a", None], [["a"]], 3):
        with pytest.raises(TypeError):
            frozen_ids(wrong)  # type: ignore[arg-type]  # meant


def test_no_string_is_held_or_lost_by_answers() -> None:
    found = bank([[0, 1, 2]], 3)
    found.pick(0, 3, frozenset())
    name = found.arms[1]
    before = sys.getrefcount(name)
    answers = [found.pick(0, 3, frozenset({"a0"})) for _ in range(100)]
    assert sys.getrefcount(name) == before + 100
    del answers
    gc.collect()
    assert sys.getrefcount(name) == before


def test_threads_that_need_the_same_strings_get_them() -> None:
    ids = [f"a{i}" for i in range(20_000)]
    found = packed(ids)
    with ThreadPoolExecutor(4) as pool:
        assert all(each == ids for each in pool.map(lambda _: list(found), range(8)))


def test_snapshots_with_the_same_arms_share_them() -> None:
    def blob(segment: str, arms: list[str]) -> bytes:
        alpha = np.ones(len(arms))
        return encode(Snapshot("b", segment, 1, arms, alpha, alpha, draw_bank(alpha, alpha)))

    first, second = (unpack(blob(name, ["x", "y"])) for name in ("A", "B"))
    assert first.arms is second.arms
    assert unpack(blob("C", ["y", "x"])).arms is not first.arms
    assert unpack(blob("C", ["xy"])).arms is not first.arms
