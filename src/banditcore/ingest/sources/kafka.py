"""A Kafka topic as a source; needs the extra ``kafka``.

Offsets are Kafka's. Marks beside the counts and the leases of the store decide what is applied and
by whom; the offsets that are committed to Kafka are for those who watch the lag there.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    LostWritesError,
    StoreError,
    StoreUnavailableError,
    describe,
)
from banditcore.identifiers import check_id
from banditcore.ingest.sources.kafka_messages import as_batch
from banditcore.ingest.sources.redis_stream import (
    DEFAULT_LEASE_S,
    RedisStreamSource,
    StreamOwnership,
)
from banditcore.ingest.sources.source import (
    PartitionUnavailableError,
    SourceBatch,
    SourceReject,
)
from banditcore.store import leases
from banditcore.store.event_streams import dead_letters
from banditcore.store.event_streams.dead_letters import DeadLetter

if TYPE_CHECKING:
    from banditcore.ingest.ordered import CountingBandit

__all__ = ["KafkaSource"]

_METADATA_FOR_S = 30.0
_BROKER_S = 1.0
"""The longest that a broker which is away keeps a signal from being heard."""

_UNKNOWN_TOPIC = 3  # of Kafka's error codes: there is none yet
_CRITICAL = 2  # of librdkafka's log levels, which are those of syslog
_MOST_AT_ONCE = 10_000
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what brokers take; "^..." would be many topics


class KafkaSource:
    """The messages of a topic, partition by partition. For one thread.

    Each partition has one owner by a lease in the store, not by a consumer group: a former owner
    is fenced off by its epoch, which Kafka's assignment could not.

    Parameters
    ----------
    bandit : Bandit
        Whose counts the messages change; its store also has the leases and the dead letters.
    topic : str
        The topic.
    config : mapping
        Of librdkafka: ``bootstrap.servers``, ``group.id`` (under which progress is shown) and what
        else it takes. Its own log, many lines a second while a broker is away, is silent below
        critical unless ``log_level`` says otherwise: what fails is raised, with the reason. Not
        ``default.topic.config``, which would undo what this source sets: its properties go here.
    name : str, optional
        Tells the topic apart in marks. Default ``kafka:<topic>``; a topic that was deleted and made
        anew needs another one, as its offsets begin anew.
    lease_s : float
        After how many seconds without a word from its owner another takes a partition.
    """

    ordered: Literal[True] = True

    def __init__(
        self,
        bandit: CountingBandit,
        topic: str,
        config: Mapping[str, Any],
        *,
        name: str | None = None,
        lease_s: float = DEFAULT_LEASE_S,
    ) -> None:
        for needed in ("bootstrap.servers", "group.id"):
            if needed not in config:
                raise InvalidValueError(describe("config", sorted(config), f"{needed} is missing"))
        if "default.topic.config" in config:
            remedy = "default.topic.config would undo what is set here: give what it holds beside"
            raise InvalidValueError(describe("config", sorted(config), remedy))
        if not isinstance(topic, str):
            raise InvalidTypeError(describe("topic", topic, "the name of a topic"))
        if not _TOPIC.fullmatch(topic):
            remedy = "the name of one topic: 1 to 249 letters, digits, '.', '_' and '-'"
            raise InvalidValueError(describe("topic", topic, remedy))
        self.name = check_id("name", f"kafka:{topic}" if name is None else name)
        if self.name == RedisStreamSource.name:
            raise InvalidValueError(
                describe("name", name, "the marks of streams have that name: take another")
            )
        self._store = bandit.store
        self._bandit = bandit.name
        self._topic = topic
        self._lease_s = lease_s
        self._kafka = _library()
        self._trouble = ""  # what librdkafka complained of since the last error or success
        self._on_error = config.get("error_cb")
        settings = {
            "log_level": _CRITICAL,
            **config,
            "error_cb": self._hear,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # After the last message there may be offsets without one, of transactions.
            "enable.partition.eof": True,
            # To go on elsewhere, unasked, would be a loss that nobody hears of.
            "auto.offset.reset": "error",
        }
        self._consumer = self._kafka.Consumer(settings)
        # On a connection of its own: a broker answers a question after the request for messages
        # that came before it, which waits for messages.
        self._asker = self._kafka.Consumer({**settings, "statistics.interval.ms": 0})
        self._read: dict[int, _Reading] = {}
        self._partitions: list[int] = []
        self._asked = float("-inf")

    def partitions(self) -> Sequence[int]:
        """Return the topic's partitions; none while there is no such topic."""
        if time.monotonic() >= self._asked + _METADATA_FOR_S or not self._partitions:
            with self._translating():
                try:
                    found = self._asking().list_topics(self._topic, timeout=_BROKER_S)
                except self._kafka.KafkaException:
                    self._asker.poll(0.0)  # no message can come of it, but complaints do
                    raise
            topic = found.topics[self._topic]
            if topic.error is not None and topic.error.code() != _UNKNOWN_TOPIC:
                self._raise(topic.error)
            self._trouble = ""
            self._partitions = sorted(topic.partitions)
            self._asked = time.monotonic()
        return self._partitions

    def owner(self, partition: int) -> StreamOwnership:
        """Return the partition's lease, not acquired yet."""
        name = f"{self.name}:{partition}"
        return StreamOwnership(
            leases.bandit_lease(self._store, self._bandit, name, ttl_s=self._lease_s)
        )

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:
        """Wait for a message of any of these partitions."""
        for partition in self._read.keys() - after.keys():  # what nobody asks for
            self._leave(partition)
        if not self._may_poll(after):
            self._take(1, wait_s)  # `consume` waits for as many as it is asked for
        return self._may_poll(after)

    def poll(self, partition: int, after: int, limit: int) -> SourceBatch | None:
        """Return the next events; see `OrderedSource.poll`.

        Raises
        ------
        LostWritesError
            The partition ends before `after`.
        PartitionUnavailableError
            The broker that leads the partition is away.
        """
        reading = self._read.get(partition)
        if reading is None or reading.after != after:
            reading = self._seek(partition, after)
        reading.has_ended = False
        self._fetch(reading, limit)
        messages = list(islice(reading.messages, limit))
        if not messages:
            self._look_after(partition, reading, after)
            return None
        missing, reading.missing = reading.missing, 0
        # First: whoever interrupts the rest has it read anew.
        reading.after = int(messages[-1].offset())
        for _ in messages:
            reading.messages.popleft()
        return as_batch(partition, messages, missing)

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects as dead letters; return how many were new."""
        letters = [DeadLetter(reject.offset, reject.reason, reject.raw) for reject in rejects]
        return dead_letters.keep(self._store, self._bandit, partition, letters, source=self.name)

    def dead_letters(
        self, partition: int, *, after: int = -1, limit: int = 100
    ) -> list[DeadLetter]:
        """Return up to `limit` messages that could not be used, of offsets above `after`."""
        return dead_letters.read(
            self._store, self._bandit, partition, source=self.name, after=after, limit=limit
        )

    def commit(self, partition: int, offset: int) -> None:
        """Let Kafka show how far the partition is applied."""
        there = self._kafka.TopicPartition(self._topic, partition, offset + 1)
        with self._translating():
            self._consumer.commit(offsets=[there], asynchronous=True)

    def advance(self, partition: int, offset: int) -> bool:
        """Return False; raise if the topic ends before what is applied of it."""
        end = self.end(partition)
        if end is None or end < offset:
            raise self._went_back(partition, end, offset)
        return False

    def end(self, partition: int) -> int | None:
        """Return the offset of the last message; None when there has been none."""
        _, following = self._bounds(partition)
        return following - 1 if following > 0 else None

    def waiting(self, partition: int, offset: int) -> int | None:
        """Return how many offsets come after one; not all need be messages."""
        first, following = self._bounds(partition)
        reading = self._read.get(partition)
        if reading is not None and reading.after == offset and not reading.messages:
            offset = max(offset, reading.ended - 1)
        return max(following - max(offset + 1, first), 0)

    def close(self) -> None:
        """Leave the brokers. May be called again."""
        self._consumer.close()
        self._asker.close()

    def _may_poll(self, after: Mapping[int, int]) -> bool:
        """Return whether a partition has messages or news."""
        for partition, offset in after.items():
            reading = self._read.get(partition)
            if reading is None or reading.after != offset:
                return True
            if reading.messages or reading.trouble or reading.has_ended:
                return True
        return False

    def _seek(self, partition: int, after: int) -> _Reading:
        if partition in self._read:
            self._leave(partition)
        reading = _Reading(after)
        self._assign(partition, after + 1 if after >= 0 else self._kafka.OFFSET_BEGINNING)
        self._read[partition] = reading
        return reading

    def _assign(self, partition: int, first: int) -> None:
        there = self._kafka.TopicPartition(self._topic, partition, first)
        with self._translating():
            self._consumer.incremental_assign([there])

    def _leave(self, partition: int) -> None:
        there = self._kafka.TopicPartition(self._topic, partition)
        with self._translating():
            self._consumer.incremental_unassign([there])
        del self._read[partition]

    def _look_after(self, partition: int, reading: _Reading, after: int) -> None:
        """See to what ended the reading of a partition of which all that came is passed on."""
        if reading.trouble is None:
            return
        code = reading.trouble.code()
        if code != self._kafka.KafkaError._AUTO_OFFSET_RESET:  # its name
            self._leave(partition)  # so that it is read anew
            raise PartitionUnavailableError(self._text(reading.trouble, partition))
        first, following = self._bounds(partition)
        if after >= following:
            raise self._went_back(partition, following - 1, after)
        self._leave(partition)
        self._assign(partition, max(after + 1, first))
        self._read[partition] = there = _Reading(after)
        there.missing = max(first - 1 - after, 0) if after >= 0 else 0  # retention was faster

    def _take(self, most: int, wait_s: float) -> int:
        """Sort what came to the partitions it came from; return how much that was."""
        try:
            with self._translating():
                came = self._consumer.consume(most, wait_s)
            trouble = None
            for message in came:
                partition, error = message.partition(), message.error()
                there = self._read.get(partition)
                if there is None:
                    if error is not None and (partition is None or partition < 0):  # of all
                        trouble = trouble or error
                elif there.trouble is not None:
                    pass  # librdkafka goes on behind what it cannot read: the mark must not
                elif error is None:
                    there.messages.append(message)
                elif error.code() == self._kafka.KafkaError._PARTITION_EOF:  # its name
                    there.ended = int(message.offset())
                    there.has_ended = True
                else:
                    there.trouble = error
        except BaseException:
            # By a signal, or by a callback of the user's: what came is gone, and nobody brings it
            # again. So all is read anew.
            for reading in self._read.values():
                reading.after = None
                reading.messages.clear()
            raise
        if trouble is not None:  # not before all are sorted
            self._raise(trouble)
        return len(came)

    def _fetch(self, reading: _Reading, limit: int) -> None:
        """Take what is there, for any partition, as much as is asked for of one.

        A partition that has a whole batch must have its turn first: else those that have little
        would fill the memory with it, as all come in one queue.
        """
        most_passes = 2 * len(self._read)
        for partition, each in list(self._read.items()):
            each.passed_over = 0 if each is reading else each.passed_over + 1
            if each.passed_over > most_passes:  # nobody asks for it any more
                self._leave(partition)
        room = limit
        while room > 0 and all(len(each.messages) < limit for each in self._read.values()):
            came = self._take(min(room, _MOST_AT_ONCE), 0.0)
            if not came:
                break
            room -= came

    def _asking(self) -> Any:
        """Return the client for questions, after its callbacks: nobody else calls them."""
        self._asker.poll(0.0)
        return self._asker

    def _bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that a partition has, and the one after its last."""
        there = self._kafka.TopicPartition(self._topic, partition)
        try:
            first, following = self._asking().get_watermark_offsets(there, timeout=_BROKER_S)
        except self._kafka.KafkaException as error:
            with self._translating():  # if no broker answers, no partition can be read
                self._asking().list_topics(self._topic, timeout=_BROKER_S)
            raise PartitionUnavailableError(self._text(error.args[0], partition)) from error
        return int(first), int(following)

    def _went_back(self, partition: int, end: int | None, offset: int) -> LostWritesError:
        return LostWritesError(
            describe(
                f"the end of partition {partition}",
                end,
                f"offset {offset} is applied already: if the topic was made anew, give the "
                "source another name",
            )
        )

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._kafka.KafkaException as error:
            self._raise(error.args[0], error)

    def _raise(self, error: Any, cause: Exception | None = None) -> NoReturn:
        """Raise our error for one of librdkafka's."""
        kind = StoreError if error.fatal() else StoreUnavailableError
        raise kind(self._text(error)) from cause

    def _text(self, error: Any, partition: int | None = None) -> str:
        where = "" if partition is None else f" in partition {partition}"
        why = f" ({self._trouble})" if self._trouble else ""
        self._trouble = ""
        return f"Kafka's topic {self._topic!r} cannot be used{where}: {error.str()}{why}"

    def _hear(self, error: Any) -> None:
        """Keep a complaint of librdkafka's, which an error that it raises does not tell."""
        if error.code() != self._kafka.KafkaError._ALL_BROKERS_DOWN:  # its name
            self._trouble = error.str()
        if self._on_error is not None:
            self._on_error(error)


class _Reading:
    """What is read ahead of one partition."""

    def __init__(self, after: int) -> None:
        self.after: int | None = after  # up to where all is passed on; None if it is not known
        self.messages: deque[Any] = deque()
        self.passed_over = 0  # polls of others since its own
        self.missing = 0  # offsets before the next message that the topic no longer has
        self.ended = 0  # the offset at which there was nothing more
        self.has_ended = False  # since the last poll
        self.trouble: Any = None  # librdkafka's error that ended the reading


def _library() -> Any:
    try:
        import confluent_kafka  # noqa: PLC0415  # an extra, for those who have Kafka
    except ImportError as error:
        raise InvalidValueError(
            "Kafka needs the library confluent-kafka: pip install 'banditcore[kafka]'"
        ) from error
    return confluent_kafka
