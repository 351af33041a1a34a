from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import CorruptDataError
from banditcore.store.counts.registry import decode_ids, encode_ids, new_token
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.counts.view import SegmentView

arm_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
registries = st.lists(arm_ids, unique=True, max_size=20)
VERSION = SegmentVersion(0, 1.7e9, None, 3600.0)


def learn(arms: list[str], start: int, before: SegmentView | None) -> SegmentView:
    stored = encode_ids(arms)
    token = new_token(sha1(stored).hexdigest())
    reply = [VERSION.pack(), token, b"%d" % len(arms), b"0", b"%d" % start, stored[start:]]
    return SegmentView.learn("s", reply, before)


@given(registries, st.data())
def test_ids_come_back_in_order_of_their_slots(arms: list[str], data: st.DataObject) -> None:
    stored = encode_ids(arms)
    assert decode_ids(stored) == arms
    some = arms[: data.draw(st.integers(0, len(arms)))]
    before = learn(some, 0, None)
    view = learn(arms, before.size, before)
    assert list(view.arms) == arms
    assert view.slot_of == {arm: slot for slot, arm in enumerate(arms)}
    assert (view.size, view.digest) == (len(stored), sha1(stored).hexdigest())
    assert list(before.arms) == some  # what a view knows never changes
    assert list(before.with_arms(arms[len(some) :], b"new").arms) == arms


@given(registries.filter(bool), st.data())
def test_a_cut_registry_is_refused(arms: list[str], data: st.DataObject) -> None:
    stored = encode_ids(arms)
    whole = {len(encode_ids(arms[:i])) for i in range(len(arms) + 1)}
    cut = data.draw(st.integers(0, len(stored)).filter(lambda size: size not in whole))
    with pytest.raises(CorruptDataError, match="cut"):
        decode_ids(stored[:cut])


def test_the_longest_id_fits() -> None:
    assert decode_ids(encode_ids(["x" * 256, "y"])) == ["x" * 256, "y"]


@pytest.mark.parametrize("arms", [["a", "b", "a"], ["known"]], ids=["twice", "known already"])
def test_a_registry_with_an_arm_twice_is_refused(arms: list[str]) -> None:
    before = learn(["known"], 0, None)
    with pytest.raises(CorruptDataError, match="twice"):
        before.with_arms(arms, b"new")


def test_ids_that_are_not_text_are_refused() -> None:
    with pytest.raises(CorruptDataError, match="UTF-8"):
        decode_ids(b"\x00\xff")


def test_more_or_fewer_ids_than_slots_are_refused() -> None:
    reply = [VERSION.pack(), b"token", b"2", b"0", b"0", encode_ids(["a"])]
    with pytest.raises(CorruptDataError, match="slots"):
        SegmentView.learn("s", reply, None)
