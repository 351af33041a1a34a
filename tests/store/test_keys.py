from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from banditcore.store import keys

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(ids, ids, ids, ids)
def test_another_bandit_or_segment_has_other_keys(
    bandit: str, segment: str, other_bandit: str, other_segment: str
) -> None:
    ours = set(keys.of_segment(bandit, segment)) | set(keys.of_bandit(bandit))
    theirs = set(keys.of_segment(other_bandit, other_segment))
    if (bandit, segment) != (other_bandit, other_segment):
        assert ours.isdisjoint(theirs)
    if bandit != other_bandit:
        assert ours.isdisjoint(keys.of_bandit(other_bandit))


def test_moving_a_letter_from_bandit_to_segment_changes_the_keys() -> None:
    assert keys.of_segment("ab", "c") != keys.of_segment("a", "bc")
    assert keys.of_segment("a", "") != keys.of_segment("", "a")


@given(ids, ids)
def test_all_keys_of_a_segment_carry_one_hash_tag(bandit: str, segment: str) -> None:
    tags = {key[key.index("{") : key.index("}") + 1] for key in keys.of_segment(bandit, segment)}
    assert len(tags) == 1
    # An id cannot put a brace of its own in front: what is between the braces is hexadecimal.
    assert set(tags.pop()) <= set("{}0123456789abcdef")


@given(ids, st.integers(0, 5), ids, st.integers(0, 5), ids)
def test_a_partition_has_keys_of_its_own_in_one_slot(
    bandit: str, partition: int, other: str, another: int, name: str
) -> None:
    def of(bandit: str, partition: int) -> set[str]:
        producer = keys.producer(bandit, partition, name.encode())
        return {*keys.of_partition(bandit, partition), producer}

    ours, theirs = of(bandit, partition), of(other, another)
    assert (ours == theirs) == ((bandit, partition) == (other, another))
    assert len(ours | theirs) in (5, 10)
    assert len({key[: key.index("}")] for key in ours}) == 1
    others = {*keys.of_bandit(bandit), *keys.of_segment(bandit, name), keys.lease(bandit, name)}
    assert ours.isdisjoint(others)
    assert len(others) == 5 + 5 + 1


@given(ids, ids, ids, ids)
def test_a_mark_belongs_to_one_source_and_partition(a: str, b: str, c: str, d: str) -> None:
    assert (keys.mark_field(a, b) == keys.mark_field(c, d)) == ((a, b) == (c, d))


def test_an_event_digest_has_128_bits() -> None:
    assert len(keys.event_digest("any")) == 16
    assert keys.event_digest("any") != keys.event_digest("any ")
