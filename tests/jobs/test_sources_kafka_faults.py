"""What happens to a Kafka topic, and to who reads it, loses no event and hides no loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import confluent_kafka
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidTypeError, InvalidValueError, StoreUnavailableError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.kafka import KafkaSource
from kafka_proxy import before_brokers
from kafka_topics import PARTITIONS, Around, Topic, drain
from servers import wait_until
from streamed import rows, stored, sums


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def source_of(store, monkeypatch) -> Iterator[Callable[..., KafkaSource]]:
    monkeypatch.setattr(BROKER_S, 60.0)
    opened: list[KafkaSource] = []

    def make(topic: Topic, *, name: str | None = None, **config: Any) -> KafkaSource:
        bandit = Bandit("home", store)
        opened.append(KafkaSource(bandit, "events", {**topic.config, **config}, name=name))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


BROKER_S = "banditcore.ingest.sources.kafka._BROKER_S"
EVENT = {"segment": "Y", "arm": "a", "reward": 1, "time": 1_700_000_000}


def step_until(worker: IngestWorker, condition: Callable[[], bool], what: str) -> None:
    def holds() -> bool:
        with suppress(StoreUnavailableError):  # as `run` does, which waits
            worker.step(0.05)
        return condition()

    wait_until(holds, what)


def offsets(worker: IngestWorker) -> list[int]:
    return [part.offset for part in worker.report().partitions]


def failed(worker: IngestWorker) -> dict[int, str]:
    return {part.partition: part.error for part in worker.report().partitions if part.error}


# --- the topic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [5, 29])
def test_a_topic_that_ends_before_its_mark_is_not_taken_for_applied(store, topic, source_of, again):
    topic.send([("Y", "a", 1.0)] * 30)
    worker = IngestWorker(Bandit("home", store), source_of(topic))
    drain(worker)
    worker.release()
    expected = sums(topic.sent)
    anew = Topic()
    anew.send([("Y", "a", 1.0)] * again)
    worker = IngestWorker(Bandit("home", store), source_of(anew))
    step_until(worker, lambda: 0 in failed(worker), "it is not noticed")
    assert "another name" in failed(worker)[0]
    worker.release()
    assert stored(store) == expected
    drain(IngestWorker(Bandit("home", store), source_of(anew, name="kafka:events, anew")))
    assert stored(store) == sums(topic.sent + anew.sent)


def test_offsets_that_retention_took_before_they_were_read_are_told(store, topic, source_of):
    topic.send([("Y", "a", 1.0)] * 5)
    source = source_of(topic)
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    worker.release()
    source.close()
    for _ in range(12):  # a partition of those brokers holds 5 MiB
        topic.write(0, {**EVENT, "more": "x" * 900_000})
        topic.flush()
    said: list[str] = []
    source = source_of(topic)
    worker = IngestWorker(Bandit("home", store), source, on_notice=said.append)
    step_until(worker, lambda: 16 in offsets(worker), "not applied")
    there = confluent_kafka.TopicPartition("events", 0)
    first, following = source._consumer.get_watermark_offsets(there)
    assert 5 < first < following == 17
    assert stored(store) == {"Y": {"a": (5.0 + 17 - first, 5.0 + 17 - first)}}
    assert said == [
        f"partition 0 of 'kafka:events': {first - 5} offsets after 4 were gone before they were "
        "read: events of theirs are lost"
    ]


def test_nothing_waits_behind_the_end_of_a_transaction(store, topic, source_of):
    producer = confluent_kafka.Producer({**topic.config, "transactional.id": "one"})
    producer.init_transactions(60)
    for _ in range(2):
        producer.begin_transaction()
        producer.produce("events", b'{"segment": "Y", "arm": "a", "reward": 1}', partition=0)
        producer.commit_transaction(60)
    source = source_of(topic)
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    assert stored(store) == {"Y": {"a": (2.0, 2.0)}}
    there = confluent_kafka.TopicPartition("events", 0)
    assert source._consumer.get_watermark_offsets(there)[1] > 2  # not all are messages
    assert {part.lag_s for part in worker.report().partitions} == {0.0}
    topic.write(0, EVENT)
    topic.flush()
    assert source.waiting(0, worker.report().partitions[0].offset) == 1


def test_a_broker_that_is_away_stops_its_partitions_alone(store, source_of, monkeypatch):
    topic = Topic(brokers=2)
    while len(set(topic.leaders.values())) == 1:  # by lot
        topic = Topic(brokers=2)
    brokers = list(topic.ports.values())
    with before_brokers(brokers) as proxies:
        servers = ",".join(f"127.0.0.1:{proxies.port(broker)}" for broker in brokers)
        config = {"bootstrap.servers": servers, "reconnect.backoff.max.ms": 100}
        worker = IngestWorker(Bandit("home", store), source_of(topic, **config))
        for partition in range(PARTITIONS):
            topic.write(partition, EVENT)
        topic.flush()
        drain(worker)
        gone = topic.leaders[0]
        away = {partition for partition, leader in topic.leaders.items() if leader == gone}
        monkeypatch.setattr(BROKER_S, 1.0)
        proxies.cut(topic.ports[gone])
        step_until(worker, lambda: failed(worker).keys() == away, "it is not told")
        for partition in range(PARTITIONS):
            topic.write(partition, {**EVENT, "arm": "b"})
        topic.flush()
        there = float(PARTITIONS - len(away))
        step_until(
            worker, lambda: stored(store)["Y"].get("b") == (there, there), "the others stand still"
        )
        proxies.mend(topic.ports[gone])
        everything = {"Y": {"a": (4.0, 4.0), "b": (4.0, 4.0)}}
        step_until(worker, lambda: stored(store) == everything, "it does not come back")
        worker.release()


# --- whoever reads it --------------------------------------------------------------------------


class _Interrupted(Around):
    """A consumer that a signal, or the callback of a user, interrupts when messages have come."""

    def consume(self, most: int, wait_s: float) -> list[Any]:
        came = self._consumer.consume(most, wait_s)
        if self.times and any(message.error() is None for message in came):
            self.times -= 1
            raise KeyboardInterrupt
        return came


def test_a_worker_that_was_interrupted_while_it_waited_goes_on(store, topic, source_of):
    source = source_of(topic)
    worker = IngestWorker(Bandit("home", store), source)
    drain(worker)
    assert not worker.step(0.05)
    topic.send(rows(10))
    source._consumer = _Interrupted(source._consumer)
    with pytest.raises(KeyboardInterrupt):
        step_until(worker, lambda: False, "it is not interrupted")
    step_until(worker, lambda: stored(store) == sums(topic.sent), "it waits for ever")


class _Skipping(Around):
    """A consumer that cannot read one message, complains of it and goes on behind it."""

    def consume(self, most: int, wait_s: float) -> list[Any]:
        came = self._consumer.consume(most, wait_s)
        for place, message in enumerate(came):
            if self.times and message.error() is None and message.offset() == 3:
                self.times -= 1
                error = confluent_kafka.KafkaError(confluent_kafka.KafkaError._BAD_COMPRESSION)
                came[place] = confluent_kafka.Message(topic="events", partition=0, error=error)
        return came


def test_the_mark_passes_no_message_that_librdkafka_skips(store, topic, source_of):
    topic.send([("Y", "a", 1.0)] * 10)
    source = source_of(topic)
    source._consumer = _Skipping(source._consumer)
    said: list[str] = []
    worker = IngestWorker(Bandit("home", store), source, on_notice=said.append)
    step_until(worker, lambda: 0 in failed(worker), "it is not told")
    assert "Invalid compressed data" in failed(worker)[0]
    assert stored(store) == {"Y": {"a": (3.0, 3.0)}}
    step_until(worker, lambda: stored(store) == sums(topic.sent), "it is not read again")


class _Refused(Around):
    """A consumer whom the brokers do not let see the topic."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        found = self._consumer.list_topics(topic, timeout=timeout)
        code = confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
        found.topics[topic].error = confluent_kafka.KafkaError(code)
        found.topics[topic].partitions = {}
        return found


def test_a_topic_that_may_not_be_read_is_not_taken_for_one_that_is_not_there(
    store, topic, source_of
):
    source = source_of(topic)
    source._asker = _Refused(source._asker)
    with pytest.raises(StoreUnavailableError, match="Topic authorization failed"):
        source.partitions()


@pytest.mark.parametrize("name", ["^events", "", "a b", "events,others", "x" * 250, "\u00e9"])
def test_what_is_no_name_of_one_topic_is_refused(store, topic, name):
    with pytest.raises(InvalidValueError, match="topic"):
        KafkaSource(Bandit("home", store), name, topic.config, name="kafka:some")
    with pytest.raises(InvalidTypeError, match="topic"):
        KafkaSource(Bandit("home", store), name.encode(), topic.config)  # type: ignore[arg-type]  # refused


def test_a_config_that_would_undo_what_the_source_sets_is_refused(store, topic):
    config = {**topic.config, "default.topic.config": {"auto.offset.reset": "latest"}}
    with pytest.raises(InvalidValueError, match="would undo"):
        KafkaSource(Bandit("home", store), "events", config)
