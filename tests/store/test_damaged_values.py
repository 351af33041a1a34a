"""Every truncation and every flipped bit of stored values, on real servers.

What damage leaves is an error that names it, or another value where nothing can tell it from the
right one; never a crash, never the text of an error of a server-side function, never another
segment, never a count on another arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import ConfigurationConflictError, CorruptDataError, StoreError
from banditcore.event_format import decode_events
from banditcore.events import EventColumns
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.slate_format import decode
from banditcore.store import Store, keys, publish
from banditcore.store.counts import checkpoints, index, settings
from banditcore.store.counts.dump import forget
from banditcore.store.counts.reading import SegmentReader
from banditcore.store.counts.registry import encode_ids
from banditcore.store.counts.statistics import Statistics
from banditcore.store.counts.updates import BatchUpdate, OrderedUpdate, UniqueUpdate
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.event_streams import (
    dead_letters,
    partitions,
    stream_checkpoints,
    stream_reading,
    streams,
)
from banditcore.store.leases import Lease
from banditcore.store.seals import DIGITS
from bandits import NOW, table
from streamed import packed

MARK = keys.mark_field("log", "0")
IN = keys.of_segment("home", "IN")
OF = keys.of_bandit("home")
ZERO = keys.of_partition("home", 0)
WHOLE = {"a": (3.0, 3.0), "b\xe9": (1.0, 1.0)}
VERSION = SegmentVersion(0, NOW, None, 3600.0)


def damages(value: bytes) -> Iterator[bytes]:
    """Yield every truncation of a value and every value that differs in one bit."""
    yield from (value[:size] for size in range(len(value)))
    for at, byte in enumerate(value):
        for bit in range(8):
            yield value[:at] + bytes([byte ^ 1 << bit]) + value[at + 1 :]


def events(*arms: str, segment: str = "IN", time: float = NOW) -> SegmentEvents:
    columns = {"segment": [segment] * len(arms), "arm": list(arms), "reward": [1] * len(arms)}
    [group] = by_segment(EventColumns.of({**columns, "time": [time] * len(arms)}, now=time))
    return group


@dataclass
class Written:
    """A segment with all kinds of fields, beside another, and one who has written to it."""

    store: Store
    writer: Statistics

    def fresh(self) -> SegmentReader:
        return SegmentReader(self.store, "home")

    def state(self) -> tuple[object, ...]:
        """Return all that the segment's keys hold, to the bit."""
        client = self.store.client
        return client.hgetall(IN.state), client.get(IN.arms), *map(client.smembers, IN[2:4])

    def put_back(self, before: tuple[object, ...]) -> None:
        fields, registry, *sets = before
        pipeline = self.store.client.pipeline(transaction=False)
        pipeline.delete(*IN)
        pipeline.hset(IN.state, mapping=fields)
        pipeline.set(IN.arms, registry)
        for key, members in zip(IN[2:4], sets, strict=True):
            if members:
                pipeline.sadd(key, *members)
        pipeline.execute()


@pytest.fixture
def written(one_server: Store) -> Written:
    index.add(one_server, "home", ["IN", "US"])
    writer = Statistics(one_server, "home", lambda: VERSION, lambda: NOW)
    writer.apply([OrderedUpdate(events("a"), MARK, 1, "", "10", NOW)])
    writer.apply([UniqueUpdate(events("a", "b\xe9"), [b"1" * 16, b"2" * 16], NOW)])
    # The next window bucket, so that both exist.
    writer.apply([BatchUpdate(events("a"), b"3" * 16, None, NOW + 7200)])
    writer.apply([OrderedUpdate(events("a", segment="US"), MARK, 1, "", "1", NOW)])
    return Written(one_server, writer)


NEW = 1.0, 1.0
LATER = NOW + 7200
MORE = {**WHOLE, "a": (4.0, 4.0)}
CHANGES: dict[str, tuple[Callable[[Statistics], object], dict[str, tuple[float, float]]]] = {
    "ordered": (
        lambda s: s.apply([OrderedUpdate(events("a"), MARK, 1, "10", "11", NOW)]),
        MORE,
    ),
    "ordered with a new arm": (
        lambda s: s.apply([OrderedUpdate(events("new"), MARK, 1, "10", "11", NOW)]),
        {**WHOLE, "new": NEW},
    ),
    "batch": (lambda s: s.apply([BatchUpdate(events("a"), b"9" * 16, None, LATER)]), MORE),
    "unique": (
        lambda s: s.apply([UniqueUpdate(events("a", time=LATER), [b"9" * 16], LATER)]),
        MORE,
    ),
    "unique in part": (  # of two new arms one has an event that is counted
        lambda s: s.apply(
            [UniqueUpdate(events("old", "new", time=LATER), [b"1" * 16, b"9" * 16], LATER)]
        ),
        {**WHOLE, "new": NEW},
    ),
    "batch again": (lambda s: s.apply([BatchUpdate(events("a"), b"3" * 16, None, LATER)]), WHOLE),
    "unique again": (
        lambda s: s.apply([UniqueUpdate(events("a", time=LATER), [b"1" * 16], LATER)]),
        WHOLE,
    ),
    "adds": (lambda s: s.add_arms("IN", ["new"]), {**WHOLE, "new": (0.0, 0.0)}),
    "retires": (lambda s: s.retire("IN", ["a"]), {"b\xe9": WHOLE["b\xe9"]}),
    "other half-life": (lambda s: s.change_half_life("IN", 3600.0, NOW), WHOLE),
}


def counts(reader: SegmentReader, segment: str) -> dict[str, tuple[float, float]]:
    [read] = reader.counts([segment], NOW)
    return table(read.counts)


def test_the_segment_is_what_the_changes_are_told_of(written: Written) -> None:
    whole = written.state()
    assert set(whole[0]) == {b"v", b"t", b"n", b"c:0", MARK.encode(), b"w:0", b"w:1"}
    assert all(whole)
    assert counts(written.fresh(), "IN") == WHOLE
    for change, expected in CHANGES.values():
        change(written.writer)
        assert counts(written.fresh(), "IN") == expected
        written.put_back(whole)
        written.writer.reader.look(["IN"])


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow, id="all"), pytest.param(10, id="in turn")]
)
@pytest.mark.parametrize("field", ["v", "t", "n", "c:0", MARK, "w:0", "w:1", "registry"])
def test_damage_to_a_segment_is_an_error_or_harmless(
    written: Written, field: str, every: int
) -> None:
    """Read by one who knows nothing; changed by one who knew the segment before the damage."""
    client, whole = written.store.client, written.state()
    key = IN.arms if field == "registry" else IN.state
    value = client.get(key) if field == "registry" else client.hget(key, field)
    refused = 0
    for number, damaged in enumerate(damages(value)):
        for turn, (change, expected) in enumerate(CHANGES.values()):
            if (number + turn) % every:
                continue
            written.writer.reader.look(["IN"])
            if field == "registry":
                client.set(key, damaged)
            else:
                client.hset(key, field, damaged)
            refused += is_refused(written, field, damaged)
            before = written.state()
            try:
                change(written.writer)
            except CorruptDataError as error:
                assert written.state() == before, "an update that fails changes nothing"
                clearly(error)
            else:
                repaired(written, field, damaged, value)
                assert counts(written.fresh(), "IN") == expected
            assert counts(written.fresh(), "US") == {"a": (1, 1)}
            written.put_back(whole)
    assert refused or field in {"w:0", "w:1"}


def is_refused(written: Written, field: str, damaged: bytes) -> bool:
    """Read what is damaged; it must be refused, unless it means what it did."""
    reader = written.fresh()
    try:
        if field == MARK:
            found: object = reader.marks(["IN"], MARK)
        else:
            found = counts(reader, "IN")
    except CorruptDataError:
        # Windows are not read; 12 bytes of a token are random.
        assert field not in {"w:0", "w:1"}
        return True
    assert found == WHOLE
    assert field in {"w:0", "w:1"} or (field == "t" and len(damaged) == 20)
    return False


def repaired(written: Written, field: str, damaged: bytes, value: bytes) -> None:
    """Undo the damage, where the change that came after it left it alone."""
    client = written.store.client
    if field == "registry":
        now = client.get(IN.arms)
        for added in (b"", encode_ids(["new"])):
            if now == damaged + added:
                client.set(IN.arms, value + added)
    elif field != "t" and client.hget(IN.state, field) == damaged:
        client.hset(IN.state, field, value)


def test_a_damaged_version_keeps_no_marks(written: Written) -> None:
    value = written.store.client.hget(IN.state, "v")
    for damaged in damages(value):
        written.store.client.hset(IN.state, "v", damaged)
        before = written.state()
        with pytest.raises(CorruptDataError, match=r"^v is"):
            forget(written.store, "home", ["IN"], keep_marks=True)
        assert written.state() == before
    written.store.client.hset(IN.state, "v", value)
    forget(written.store, "home", ["IN"], keep_marks=True)
    assert counts(written.fresh(), "IN") == {}


def test_damaged_settings_are_refused_or_other_settings(one_server: Store) -> None:
    settings.agree(one_server, "home", settings.Wanted(604800.0, 3600.0))
    right = settings.load(one_server, "home")
    for field, unharmed in (("h", "window_s"), ("w", "half_life_s")):
        value = one_server.client.hget(OF.settings, field)
        for damaged in damages(value):
            one_server.client.hset(OF.settings, field, damaged)
            try:
                found = settings.load(one_server, "home")
            except (CorruptDataError, ConfigurationConflictError):
                continue
            assert getattr(found, unharmed) == getattr(right, unharmed)
        one_server.client.hset(OF.settings, field, value)


@pytest.mark.parametrize("key", [OF.segments, keys.BANDITS])
def test_a_damaged_name_in_an_index_leaves_the_others(one_server: Store, key: str) -> None:
    for damaged in damages("É/m".encode()):
        one_server.client.delete(key)
        one_server.client.sadd(key, "home", damaged)
        try:
            found = (
                index.bandits(one_server)
                if key == keys.BANDITS
                else index.segments(one_server, "home")
            )
        except CorruptDataError as error:
            assert "verify" in str(error)  # noqa: PT017 # not each of them is refused
        else:
            assert sorted(found) == sorted({"home", damaged.decode()})


def test_a_damaged_checkpoint_is_never_believed(one_server: Store) -> None:
    checkpoints.save(one_server, "home", "log", checkpoints.Checkpoint(refused=12))
    saved = stream_checkpoints.StreamCheckpoint(1234, 0, ("one",))
    stream_checkpoints.save(one_server, "home", "stream", 0, saved)
    loads: dict[str, Callable[[], object]] = {
        "log": lambda: checkpoints.load(one_server, "home", "log"),
        "stream:0": lambda: stream_checkpoints.load(one_server, "home", "stream", 0),
    }
    for field, load in loads.items():
        value = one_server.client.hget(OF.checkpoints, field)
        for damaged in damages(value):
            one_server.client.hset(OF.checkpoints, field, damaged)
            with pytest.raises(CorruptDataError, match=r"^checkpoint is"):
                load()


def test_a_damaged_number_of_partitions_is_refused_or_another(one_server: Store) -> None:
    partitions.agree(one_server, "home", 16)
    for damaged in damages(b"16"):
        one_server.client.hset(OF.streams, "partitions", damaged)
        try:
            found = partitions.load(one_server, "home")
        except CorruptDataError:
            continue
        assert 1 <= found <= partitions.MOST


def entry(sequence: int) -> streams.Append:
    return streams.Append(0, b"p" * 16, sequence, 1, packed([("IN", "a", 1.0)]))


def test_damage_to_what_a_producer_appended_last_is_no_lost_entry(one_server: Store) -> None:
    def append(sequence: int) -> streams.Appended | StoreError:
        [found] = streams.append(one_server, "home", [entry(sequence)], most_unapplied=9)
        return found

    append(1)
    producer = keys.producer("home", 0, b"p" * 16)
    value = one_server.client.get(producer)
    for damaged in damages(value):
        one_server.client.set(producer, damaged)
        assert isinstance(append(2), CorruptDataError)
        assert one_server.client.xlen(ZERO.stream) == 1
    one_server.client.set(producer, value)
    assert append(2).word == "OK"


def test_damaged_offsets_of_a_stream_are_refused_or_other_numbers(one_server: Store) -> None:
    streams.append(one_server, "home", [entry(1)], most_unapplied=9)
    end = streams.states(one_server, "home", [0])[0].end
    letter = dead_letters.DeadLetter(end, "why", b"x")
    dead_letters.keep(one_server, "home", 0, [letter])
    streams.trim(one_server, "home", 0, applied=end, retain_s=3600)
    body = packed([("IN", "a", 1.0)])
    whole = one_server.client.hgetall(ZERO.offsets)
    dumps = {key: one_server.client.dump(key) for key in (ZERO.stream, ZERO.offsets, ZERO.dead)}

    def act(sequence: int) -> None:
        one = streams.Append(0, b"q" * 16, sequence, 1, body)
        [found] = streams.append(one_server, "home", [one], most_unapplied=2**60)
        if isinstance(found, StoreError):
            raise found

    actions: list[Callable[[int], object]] = [
        act,
        lambda _: streams.states(one_server, "home", [0]),
        lambda _: streams.trim(one_server, "home", 0, applied=end, retain_s=3600),
        lambda _: streams.advance(one_server, "home", 0, beyond=end),
        lambda _: dead_letters.keep(one_server, "home", 0, [letter]),
        lambda _: streams.replay(one_server, "home", 0, offset=end, count=1, body=body),
        lambda _: read(one_server, after=end - 1),
    ]
    sequence = refused = 0
    for field, value in whole.items():
        for damaged in damages(value):
            for action in actions:
                for key, dumped in dumps.items():
                    one_server.client.restore(key, 0, dumped, replace=True)
                one_server.client.hset(ZERO.offsets, field, damaged)
                sequence += 1
                try:
                    action(sequence)
                except StoreError as error:
                    clearly(error)
                    refused += 1
    assert refused > 300


def clearly(error: StoreError) -> None:
    """What cannot be used is said to be damaged, or that no offsets are left behind it."""
    assert "user_function" not in str(error), error
    assert "refused a command" not in str(error), error
    assert isinstance(error, CorruptDataError) or "no offsets are left" in str(error), error


def read(store: Store, after: int) -> dict[int, list[stream_reading.Entry]]:
    with stream_reading.StreamReader(store, "home") as reader:
        return reader.read({0: after}, limit=1)


def test_a_damaged_entry_is_never_taken_for_events(one_server: Store) -> None:
    body = packed([("IN", "a", 1.0)])
    for damaged in damages(body):
        with pytest.raises(CorruptDataError):
            decode_events(damaged)
    for damaged in damages(b"100"):  # how many events came before it
        one_server.client.delete(ZERO.stream)
        one_server.client.xadd(ZERO.stream, {"t": damaged, "b": body}, "5-1")
        assert read(one_server, after=0) == {0: [stream_reading.Entry(5, 1, body)]}
        try:
            streams.trim(one_server, "home", 0, applied=5, retain_s=3600)
        except StoreError as error:
            clearly(error)


def test_a_damaged_dead_letter_is_refused_or_another(one_server: Store) -> None:
    dead_letters.keep(one_server, "home", 0, [dead_letters.DeadLetter(7, "why", b"x")])
    [value] = one_server.client.zrange(ZERO.dead, 0, -1)
    for damaged in damages(value):
        one_server.client.delete(ZERO.dead)
        one_server.client.zadd(ZERO.dead, {damaged: 7})
        try:
            [found] = dead_letters.read(one_server, "home", 0)
        except CorruptDataError:
            continue
        differing = [found.offset != 7, found.reason != "why", found.raw != b"x"]
        assert sum(differing) == 1 or len(damaged) < len(value) or found.offset == 7


def test_a_damaged_lease_is_refused_or_another(one_server: Store) -> None:
    lease = Lease(one_server, ZERO.lease, name="ingest:0", ttl_s=60)
    assert lease.acquire()
    whole = one_server.client.hgetall(ZERO.lease)
    for field, value in whole.items():
        for damaged in damages(value):
            one_server.client.hset(ZERO.lease, mapping={**whole, field: damaged})
            try:
                Lease(one_server, ZERO.lease, name="ingest:0", ttl_s=60).acquire()
                lease.renew()
                lease.acquire()
            except CorruptDataError as error:
                assert f"{field.decode()} is" in str(error)  # noqa: PT017 # some are other leases


def test_a_damaged_snapshot_is_refused_and_replaced(one_server: Store) -> None:
    bandit = Bandit("home", one_server)
    bandit.record("IN", "a", reward=1)
    bandit.refresh(depth=1, slates=1)
    value = publish.fetch_one(one_server, "home", "IN")
    version = decode(value).version
    for damaged in damages(value):
        one_server.client.set(IN.blob, damaged)
        with pytest.raises(CorruptDataError):
            decode(publish.fetch_one(one_server, "home", "IN"))
        replaced = publish.publish(one_server, "home", "IN", value, version)
        # Else the flipped bit made it newer by less than an hour, for which it stays.
        newer = int.from_bytes(damaged[8:16], "little") - version
        assert replaced or 0 < newer <= 3601e6


def test_a_segment_of_before_values_were_sealed_is_named_so(one_server: Store) -> None:
    bandit = Bandit("home", one_server)
    bandit.record("IN", "a", reward=1)
    state = keys.of_segment("home", "IN").state
    raw = one_server.client.hgetall(state)
    old = {field: value[:-DIGITS] for field, value in raw.items() if field != b"t"}
    old[b"v"] = b"\1" + old[b"v"][1:]
    one_server.client.hset(state, mapping=old)
    before = one_server.client.hgetall(state)
    again = Bandit("home", one_server)
    for act in (
        lambda: again.counts("IN"),
        lambda: again.record("IN", "a"),
        lambda: again.add_arms("IN", ["b"]),
        lambda: again.retire("IN", ["a"]),
    ):
        with pytest.raises(StoreError, match=r"schema is 1: of segment 'IN'.* ingest its logs"):
            act()
    assert one_server.client.hgetall(state) == before
