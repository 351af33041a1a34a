"""What tests of Kafka share: a topic on the brokers that librdkafka brings for tests."""

from __future__ import annotations

import json
from typing import Any

import confluent_kafka

from banditcore.ingest import IngestWorker
from servers import wait_until

QUIET = {"log_level": 0}
PARTITIONS = 4  # what those brokers give every topic


class Topic:
    """A topic on a broker in this process."""

    def __init__(self, brokers: int = 1) -> None:
        self._producer = confluent_kafka.Producer(
            {
                "test.mock.num.brokers": brokers,
                "bootstrap.servers": "x",
                "message.max.bytes": 2_000_000,
                **QUIET,
            }
        )
        found = self._producer.list_topics(timeout=60).brokers
        self.ports = {number: int(broker.port) for number, broker in found.items()}
        addresses = [f"{broker.host}:{broker.port}" for broker in found.values()]
        self.config = {
            "bootstrap.servers": ",".join(addresses),
            "group.id": "counts",
            "fetch.wait.max.ms": 10,
            **QUIET,
        }
        topics = self._producer.list_topics("events", timeout=60).topics  # makes it
        partitions = topics["events"].partitions
        assert len(partitions) == PARTITIONS
        self.leaders = {number: int(each.leader) for number, each in partitions.items()}
        self.sent: list[tuple[str, str, float]] = []

    def send(self, events: list[tuple[str, str, float]]) -> None:
        for segment, arm, reward in events:
            self.sent.append((segment, arm, reward))
            event = {"segment": segment, "arm": arm, "reward": reward, "time": 1_700_000_000}
            self.write(segment == "X", event)
        self.flush()

    def write(self, partition: int, value: object, **more: Any) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self._producer.produce("events", body, partition=int(partition), **more)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


class Around:
    """Stands around a consumer, which does all that this one does not do in its own way."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.times = 1  # that it does so

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def drain(worker: IngestWorker) -> None:
    """Let a worker of all partitions apply all that waits."""

    def at_end() -> bool:
        worker.step(0.05)
        parts = worker.report().partitions
        return len(parts) == PARTITIONS and all(part.waiting == 0 for part in parts)

    wait_until(at_end, "not all is applied")
