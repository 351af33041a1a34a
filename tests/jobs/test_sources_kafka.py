"""A Kafka topic as a source, on the brokers that librdkafka brings for tests."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import confluent_kafka
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidValueError, LostWritesError, StoreUnavailableError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.kafka import KafkaSource
from banditcore.store import keys
from banditcore.store.event_streams import dead_letters, stream_checkpoints
from banditcore.store.event_streams.stream_checkpoints import StreamCheckpoint
from kafka_topics import PARTITIONS, Around, Topic, drain
from servers import free_port, wait_until
from streamed import rows, stored, sums


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def source_of(store, topic, monkeypatch) -> Iterator[Any]:
    monkeypatch.setattr("banditcore.ingest.sources.kafka._BROKER_S", 60.0)  # this one is there
    opened: list[KafkaSource] = []

    def make(**more: Any) -> KafkaSource:
        opened.append(KafkaSource(Bandit("home", store), "events", topic.config, **more))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def test_messages_are_counted_once_and_the_next_worker_goes_on_behind_them(store, topic, source_of):
    source = source_of()
    worker = IngestWorker(Bandit("home", store), source, batch_size=7)
    topic.send(rows(40))
    drain(worker)
    assert stored(store) == sums(topic.sent)
    worker.release()
    topic.send(rows(10))
    other = source_of()
    heir = IngestWorker(Bandit("home", store), other)
    drain(heir)
    assert sum(part.applied for part in heir.report().partitions) == 10
    assert sum(part.duplicate for part in heir.report().partitions) == 0
    assert stored(store) == sums(topic.sent)
    for part in heir.report().partitions:
        assert part.offset == (-1 if part.end is None else part.end)


def test_a_former_owner_is_fenced_off(store, topic, source_of):
    former_source, source = source_of(), source_of()
    former = IngestWorker(Bandit("home", store), former_source)
    topic.send(rows(20))
    drain(former)
    for partition in range(PARTITIONS):
        lease = keys.lease("home", f"kafka:events:{partition}")
        store.client.hset(lease, "until", "0")
    store.client.delete(keys.workers("home", "kafka:events"))
    heir = IngestWorker(Bandit("home", store), source)
    topic.send(rows(20))
    drain(heir)
    topic.send(rows(20))
    wait_until(lambda: not (former.step(0.05) or former.report().partitions), "it goes on")
    former.release()
    drain(heir)
    assert stored(store) == sums(topic.sent)


GOOD = {"segment": "X", "arm": "a", "reward": 1}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[" * 100_000, "nests too deeply"),
        ([1], "a JSON object is needed, not list"),
        ({"arm": "a", "reward": 1}, "it has no key 'segment'"),
        ({"segment": "X", "arm": "a"}, "it has no key 'reward' (or 'successes')"),
        ({**GOOD, "successes": 1}, "mean the same"),
        ({**GOOD, "reward": 2}, "reward is 2.0: at most the trials"),
        ({"segment": "X", "arm": "a", "successes": 2}, "successes is 2.0: at most the trials"),
        ({**GOOD, "reward": "many"}, "reward is 'many': a number is needed"),
        ({**GOOD, "arm": ""}, "1 to 256 UTF-8 bytes"),
        ({**GOOD, "time": "yesterday"}, "ISO 8601"),
        ({**GOOD, "trials": "many"}, "a number is needed"),
    ],
)
def test_a_message_that_cannot_be_used_is_kept_with_its_reason(
    store, topic, source_of, value, reason
):
    topic.write(0, GOOD)
    topic.write(0, value)
    topic.write(0, GOOD)
    topic.flush()
    source = source_of()
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    assert stored(store) == {"X": {"a": (2.0, 2.0)}}
    [letter] = source.dead_letters(0)
    assert reason in letter.reason
    assert letter.offset == 1
    assert letter.raw == (value if isinstance(value, bytes) else json.dumps(value).encode())
    assert source.dead_letters(1) == []


def test_several_messages_that_cannot_be_used_keep_their_offsets(store, topic, source_of):
    for value in (b"{", {**GOOD, "arm": ""}, GOOD, b"]"):
        topic.write(0, value)
    topic.flush()
    source = source_of()
    drain(IngestWorker(Bandit("home", store), source))
    letters = [(letter.offset, letter.reason) for letter in source.dead_letters(0)]
    assert [offset for offset, _ in letters] == [0, 1, 3]
    assert "256 UTF-8 bytes" in letters[1][1]
    assert dead_letters.read(store, "home", 0) == []  # those of the bandit's own streams
    assert stored(store) == {"X": {"a": (1.0, 1.0)}}


def test_an_event_without_a_time_has_that_of_its_message(store, topic, source_of):
    hour, moment = 3600.0, 1_700_000_000.0
    topic.write(0, GOOD, timestamp=int((moment - hour) * 1000))
    topic.flush()
    bandit = Bandit("home", store, half_life=dt.timedelta(hours=1), clock=lambda: moment)
    source = source_of()
    drain(IngestWorker(bandit, source))
    assert bandit.counts("X").trials.tolist() == [0.5]


def test_partitions_without_messages_leave_a_full_one_its_turn(store, topic, source_of):
    topic.send([("Y", "a", 1.0)] * 100)
    source = source_of()
    assert source.poll(0, -1, 7) is None
    wait_until(lambda: source.wait({0: -1}, 0.1), "nothing comes")
    for partition in (1, 2, 3, 1, 2, 3):
        assert source.poll(partition, -1, 7) is None
    # At once: what was read for it is kept until it is asked for.
    assert source.poll(0, -1, 7).offsets.tolist() == list(range(7))


def test_a_full_partition_that_nobody_asks_for_holds_up_no_other(store, topic, source_of):
    topic.send([("Y", "a", 1.0)] * 100)
    source = source_of()
    assert source.poll(0, -1, 7) is None
    wait_until(lambda: source.poll(0, -1, 7) is not None, "nothing comes")
    topic.send([("X", "a", 1.0)] * 7)
    wait_until(
        lambda: bool([source.poll(partition, -1, 7) for partition in (2, 1)][1]), "it is held up"
    )
    wait_until(lambda: source.poll(0, 6, 7) is not None, "it is not read again")


def test_a_partition_that_is_not_waited_for_wakes_nobody(store, topic, source_of):
    topic.send([("Y", "a", 1.0)] * 5000)
    source = source_of()
    assert source.poll(0, -1, 7) is None
    wait_until(lambda: source.poll(0, -1, 7) is not None, "nothing comes")
    topic.send([("X", "a", 1.0)] * 7)
    assert source.poll(1, -1, 7) is None
    waits = 1
    while not source.wait({1: -1}, 0.1):
        waits += 1
        assert waits < 1000  # and not one for each message of the other
    assert source.poll(1, -1, 1).end == 0


def test_an_end_that_is_reached_wakes_once(store, topic, source_of):
    source = source_of()
    assert source.poll(0, -1, 7) is None
    wait_until(lambda: source.wait({0: -1}, 0.1), "it is not told")
    assert source.poll(0, -1, 7) is None
    assert not source.wait({0: -1}, 0.1)


def test_questions_do_not_wait_for_messages(store, topic, source_of):
    topic.config["fetch.wait.max.ms"] = 60_000
    topic.send([("Y", "a", 1.0)] * 3)
    source = source_of()
    applied = -1

    def waits_for_more() -> bool:
        nonlocal applied
        batch = source.poll(0, applied, 7)
        applied = applied if batch is None else batch.end
        return applied == 2 and not source.wait({0: applied}, 0.2)

    wait_until(waits_for_more, "not all comes")
    assert (source.end(0), source.waiting(0, 2), source.advance(0, 2)) == (2, 0, False)


class _Complaining(Around):
    """A consumer that complains before, between or after the messages of one call."""

    place = 0

    def consume(self, most: int, wait_s: float) -> list[Any]:
        came = self._consumer.consume(most, wait_s)
        if len(came) >= 2 and self.times:
            error = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TRANSPORT)
            came.insert(self.place, confluent_kafka.Message(topic="events", error=error))
            self.times -= 1
        return came


@pytest.mark.parametrize("place", [0, 1, 2])
def test_messages_beside_a_complaint_are_not_lost(store, topic, source_of, place):
    topic.send([("Y", "a", 1.0)] * 20)
    source = source_of()
    assert source.poll(0, -1, 7) is None
    wait_until(lambda: source.wait({0: -1}, 0.1), "nothing comes")
    source._consumer = _Complaining(source._consumer)
    source._consumer.place = place
    with pytest.raises(StoreUnavailableError, match="Broker transport failure"):
        source.poll(0, -1, 7)
    assert source.poll(0, -1, 7).offsets.tolist() == list(range(7))


def test_what_a_server_lost_is_read_again(store, topic, source_of):
    topic.send(rows(30))
    source = source_of()
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    worker.release()
    store.client.delete(*keys.of_segment("home", "Y"))
    for partition in range(PARTITIONS):
        saved = stream_checkpoints.load(store, "home", source.name, partition)
        other = StreamCheckpoint(saved.offset, saved.refused, ("another",))
        stream_checkpoints.save(store, "home", source.name, partition, other)
    drain(worker)
    assert stored(store) == sums(topic.sent)


def test_a_topic_that_was_made_anew_is_noticed(store, topic, source_of):
    topic.send(rows(30))
    source = source_of()
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    with pytest.raises(LostWritesError, match="another name"):
        source.advance(0, 10_000)
    assert source.advance(0, 5) is False


AWAY = """
import sys
import banditcore as bc
from banditcore.stopping import stopped_by_signals
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.kafka import KafkaSource

with stopped_by_signals() as stop, bc.connect(sys.argv[1]) as store:
    shop = bc.Bandit("home", store)
    source = KafkaSource(shop, "events", {"bootstrap.servers": sys.argv[2], "group.id": "counts"})
    IngestWorker(shop, source, on_notice=lambda text: print(text, flush=True)).run(stop)
    source.close()
"""


def test_while_the_brokers_are_away_one_notice_says_why_and_librdkafka_nothing(store):
    broker = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", AWAY, store.url, broker]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        notice = process.stdout.readline()
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert notice.startswith("waiting: Kafka's topic 'events' cannot be used: ")
    assert f"Local: Broker transport failure ({broker}/bootstrap: Connect to ipv4#" in notice
    assert "Connection refused" in notice


def test_complaints_of_librdkafka_reach_the_one_who_asked_for_them(store):
    heard: list[Any] = []
    config = {
        "bootstrap.servers": f"127.0.0.1:{free_port()}",
        "group.id": "counts",
        "error_cb": heard.append,
    }
    source = KafkaSource(Bandit("home", store), "events", config)
    with pytest.raises(StoreUnavailableError, match="Connection refused"):
        source.partitions()
    source.close()
    assert {error.code() for error in heard} >= {confluent_kafka.KafkaError._TRANSPORT}


@pytest.mark.parametrize("config", [{}, {"bootstrap.servers": "x"}, {"group.id": "x"}])
def test_a_config_without_brokers_or_group_is_refused(store, config: Mapping[str, str]):
    with pytest.raises(InvalidValueError, match="is missing"):
        KafkaSource(Bandit("home", store), "events", config)
