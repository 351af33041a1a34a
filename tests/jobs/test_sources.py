"""The bandit's own streams as a source: what a worker is given of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidValueError
from banditcore.event_format import encode_events
from banditcore.events import EventColumns
from banditcore.ingest.sources import SourceReject
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store.event_streams import dead_letters
from streamed import T0, Producer, rows


@pytest.fixture
def source(any_store):
    source = RedisStreamSource(Bandit("home", any_store))
    yield source
    source.close()


def test_entries_become_one_batch_with_the_offsets_they_were_given(any_store, source):
    assert list(source.partitions()) == []
    producer = Producer(any_store, of=1)
    assert list(source.partitions()) == [0]
    assert source.poll(0, -1, 10) is None
    assert source.end(0) is None
    producer.send(rows(4))
    producer.send(rows(3))
    producer.send(rows(9))
    batch = source.poll(0, -1, 5)
    assert batch is not None
    assert (len(batch.events), batch.partition, batch.rejects) == (7, 0, ())
    assert batch.events.arms == [arm for _, arm, _ in rows(4) + rows(3)]
    assert batch.events.successes.tolist() == [reward for *_, reward in rows(4) + rows(3)]
    steps = np.diff(batch.offsets)
    assert (steps[[0, 1, 2, 4, 5]] == 1).all()
    assert steps[3] >= 1
    assert batch.end == batch.offsets[-1]
    rest = source.poll(0, batch.end, 100)
    assert rest is not None
    assert len(rest.events) == 9
    assert rest.end == source.end(0)
    assert source.poll(0, rest.end, 100) is None


def test_an_invalid_event_of_a_sound_body_is_told_apart_by_its_offset(any_store, source):
    producer = Producer(any_store, of=1)
    columns = EventColumns(
        ["X"] * 3, ["a", "b", "c"], np.ones(3), np.array([1.0, 2.0, 0.0]), np.full(3, T0)
    )
    first = producer.append(0, encode_events(columns), 3)
    batch = source.poll(0, -1, 10)
    assert batch is not None
    assert batch.events.arms == ["a", "c"]
    assert batch.offsets.tolist() == [first, first + 2]
    [reject] = batch.rejects
    assert (reject.offset, json.loads(reject.raw)["arm"]) == (first + 1, "b")
    assert "at most the trials" in reject.reason


def test_what_is_committed_waits_no_more(any_store, source):
    producer = Producer(any_store, of=1)
    producer.send(rows(4))
    producer.send(rows(3))
    batch = source.poll(0, -1, 1)
    assert batch is not None
    assert source.waiting(0, -1) == 7
    source.commit(0, batch.end)
    assert source.waiting(0, batch.end) == 3


def test_new_offsets_can_be_made_larger_but_never_smaller(any_store, source):
    producer = Producer(any_store, of=1)
    producer.send(rows(4))
    end = source.end(0)
    assert end is not None
    assert source.advance(0, end) is False
    assert source.end(0) == end
    assert source.advance(0, end + 10**9) is True
    producer.send(rows(1))
    batch = source.poll(0, end, 10)
    assert batch is not None
    assert batch.offsets[0] > end + 10**9


def test_rejects_are_kept_once(any_store, source):
    reject = SourceReject(7, b"raw", "why")
    assert source.refuse(0, [reject, SourceReject(8, b"other", "so")]) == 2
    assert source.refuse(0, [reject]) == 0
    [first, _] = dead_letters.read(any_store, "home", 0)
    assert (first.offset, first.raw, first.reason) == (7, b"raw", "why")


@pytest.mark.parametrize("retain_s", [-1.0, float("inf"), float("nan")])
def test_a_time_that_cannot_be_used_is_refused(store, retain_s):
    with pytest.raises(InvalidValueError, match="retain_s"):
        RedisStreamSource(Bandit("home", store), retain_s=retain_s)
