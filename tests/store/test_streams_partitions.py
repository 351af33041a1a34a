from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from banditcore.errors import (
    ConfigurationConflictError,
    CorruptDataError,
    InvalidTypeError,
    InvalidValueError,
)
from banditcore.store import keys
from banditcore.store.counts import index
from banditcore.store.event_streams import partitions, streams


def test_the_partition_of_a_segment_is_fixed_for_ever():
    """Another hash would send events of one segment to two partitions while a fleet is upgraded."""
    found = [partitions.partition_of(segment, 1000) for segment in ("", "IN", "IN/mobile", "ü")]
    assert found == [680, 865, 322, 448]
    assert {partitions.partition_of(f"segment {i}", 7) for i in range(100)} == set(range(7))


def test_the_first_to_ask_decides(any_store):
    assert partitions.load(any_store, "home") is None
    assert partitions.agree(any_store, "home", 7) == 7
    assert partitions.agree(any_store, "home") == partitions.agree(any_store, "home", 7) == 7
    assert partitions.load(any_store, "home") == 7
    with pytest.raises(ConfigurationConflictError, match="have 7"):
        partitions.agree(any_store, "home", 8)
    assert partitions.agree(any_store, "away") == partitions.DEFAULT
    assert index.bandits(any_store) == ["away", "home"]


def test_many_may_ask_at_once(store):
    barrier = Barrier(8)

    def ask(wanted: int) -> int:
        barrier.wait()
        try:
            return partitions.agree(store, "home", wanted)
        except ConfigurationConflictError:
            return partitions.agree(store, "home")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(1, 9)))) == 1


@pytest.mark.parametrize("wanted", [0, -1, 1025, True, 2.0, "4"])
def test_a_number_that_cannot_be(store, wanted):
    with pytest.raises((InvalidValueError, InvalidTypeError), match="partitions"):
        partitions.agree(store, "home", wanted)
    assert store.client.keys() == []


def test_partitions_become_more_when_all_is_applied(any_store):
    partitions.agree(any_store, "home", 2)
    partitions.change(any_store, "home", 3)
    entry = streams.Append(1, b"p" * 16, 1, 5, b"")
    [appended] = streams.append(any_store, "home", [entry], most_unapplied=9)
    with pytest.raises(ConfigurationConflictError, match="5 events"):
        partitions.change(any_store, "home", 4)
    streams.trim(any_store, "home", 1, applied=appended.first + 4, retain_s=3600)
    partitions.change(any_store, "home", 4)
    assert partitions.load(any_store, "home") == 4
    with pytest.raises(ConfigurationConflictError, match="only become more"):
        partitions.change(any_store, "home", 3)
    partitions.change(any_store, "home", 4)


@pytest.mark.parametrize("stored", ["", "x", "0", "99999"])
def test_a_damaged_number_is_not_used(store, stored):
    store.client.hset(keys.of_bandit("home").streams, "partitions", stored)
    with pytest.raises(CorruptDataError, match="partitions"):
        partitions.agree(store, "home")
