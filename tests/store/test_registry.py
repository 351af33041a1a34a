from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import CorruptDataError
from banditcore.store.registry import Registry, encode_ids

arm_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
registries = st.lists(arm_ids, unique=True, max_size=20)


@given(registries, st.data())
def test_ids_come_back_in_order_of_their_slots(arms: list[str], data: st.DataObject) -> None:
    stored = encode_ids(arms)
    known = data.draw(st.integers(0, len(arms)))
    registry = Registry()
    registry.extend(0, encode_ids(arms[:known]))
    start = data.draw(st.integers(0, known))  # a tail may overlap what is known
    registry.extend(len(encode_ids(arms[:start])), encode_ids(arms[start:]))
    assert registry.arms == arms
    assert registry.slot_of == {arm: slot for slot, arm in enumerate(arms)}
    assert registry.known() == (len(stored), sha1(stored).hexdigest())


@given(registries.filter(bool), st.data())
def test_a_cut_registry_is_refused_and_nothing_is_learnt(
    arms: list[str], data: st.DataObject
) -> None:
    stored = encode_ids(arms)
    whole = {len(encode_ids(arms[:i])) for i in range(len(arms) + 1)}
    cut = data.draw(st.integers(0, len(stored)).filter(lambda size: size not in whole))
    registry = Registry()
    with pytest.raises(CorruptDataError):
        registry.extend(0, stored[:cut])
    assert registry.known()[0] == 0
    assert registry.arms == []


def test_the_longest_id_fits() -> None:
    registry = Registry()
    registry.extend(0, encode_ids(["x" * 256, "y"]))
    assert registry.arms == ["x" * 256, "y"]


@pytest.mark.parametrize(
    "stored",
    [encode_ids(["a", "b", "a"]), b"\x00\xff", encode_ids(["known"])],
    ids=["twice", "not UTF-8", "known already"],
)
def test_a_damaged_registry_is_refused(stored: bytes) -> None:
    registry = Registry()
    registry.extend(0, encode_ids(["known"]))
    size, digest = registry.known()
    with pytest.raises(CorruptDataError, match="registry"):
        registry.extend(size, stored)
    assert registry.known() == (size, digest)


def test_a_gap_is_refused() -> None:
    with pytest.raises(CorruptDataError, match="only 0 bytes"):
        Registry().extend(2, encode_ids(["a"]))
