"""Streams under maintenance: verified, forgotten with their bandit, and told apart at import."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import ConfigurationConflictError, PartlyAppliedError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.maintenance.exporting import export_bandit
from banditcore.maintenance.forget import forget_bandit, forget_segment
from banditcore.maintenance.importing import import_bandit
from banditcore.maintenance.verify import verify_store
from banditcore.store import Store, keys, leases
from banditcore.store.counts import index
from banditcore.store.event_streams import dead_letters, streams
from banditcore.store.event_streams.stream_removal import StreamsHeld
from banditcore.store.functions import calling, maintenance_library
from banditcore.store.seals import seal
from bandits import everything
from streamed import Producer, packed, rows, stored, sums

OF = keys.of_bandit("home")
ZERO = keys.of_partition("home", 0)
ONE = keys.of_partition("home", 1)
TOKEN = b"p" * 16


def drained(worker: IngestWorker) -> None:
    while worker.step(0.01):
        pass


@pytest.fixture
def worked(any_store: Store) -> Store:
    """Two partitions with applied events, dead letters, waiting events, a worker, a job's lease."""
    producer = Producer(any_store)
    producer.send(rows(90, "XYZUVW"))
    producer.append(0, b"poison", 3)
    bandit = Bandit("home", any_store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    drained(worker)
    producer.send(rows(9))
    assert leases.bandit_lease(any_store, "home", "refresh").acquire()
    Bandit("other", any_store).record("IN", "a")
    return any_store


def test_streams_beside_a_worker_are_clean_and_stay_as_they_are(worked: Store) -> None:
    before = everything(worked)
    report = verify_store(worked)
    [letters] = report.findings
    assert report.is_clean
    assert (letters.where, letters.what) == (ZERO.dead, "keeps 1 events that could not be used")
    assert report.keys == len(before)
    assert everything(worked) == before
    assert verify_store(worked, "home").findings == report.findings


def test_a_long_stream_is_read_page_by_page(store: Store) -> None:
    producer = Producer(store, of=1)
    for _ in range(600):
        producer.append(0, packed(rows(1)), 1)
    for offset in range(1, 51):
        dead_letters.keep(store, "home", 0, [dead_letters.DeadLetter(offset, "why", b"x")])
    assert [f.what for f in verify_store(store).findings] == [
        "keeps 50 events that could not be used"
    ]
    store.client.hset(ZERO.offsets, "total", 599)
    [found] = [f for f in verify_store(store).findings if not f.is_note]
    assert found.what == "is 599, the stream holds event 600"


def producers_key(store: Store) -> bytes:
    return min(key for key in store.client.scan_iter() if b":e:" in key)


def overlapping(store: Store) -> None:
    [(name, _)] = store.client.xrevrange(ZERO.stream, count=1)
    first = int(name.partition(b"-")[0])
    end, total = store.client.hmget(ZERO.offsets, "end", "total")
    fields = {"t": int(total), "b": b"x"}
    store.client.xadd(ZERO.stream, fields, id=f"{first}-999")
    store.client.hset(ZERO.offsets, mapping={"end": int(end) + 999, "total": int(total) + 999})


def appended(fields: dict[str, object], name: str = "9007199254740000-1") -> Callable:
    def damage(store: Store) -> None:
        total = int(store.client.hget(ZERO.offsets, "total"))
        whole = {key: total if value is None else value for key, value in fields.items()}
        store.client.xadd(ZERO.stream, whole, id=name)
        end = int(name.partition("-")[0])
        store.client.hset(ZERO.offsets, mapping={"end": end, "total": total + 1})

    return damage


def retyped(key: str) -> Callable[[Store], object]:
    return lambda store: [store.client.delete(key), store.client.rpush(key, "x")]


def offsets(field: str, value: object) -> Callable[[Store], object]:
    return lambda store: store.client.hset(ZERO.offsets, field, value)


def marked(partition: int, offset: int) -> Callable[[Store], object]:
    state = keys.of_segment("home", "X").state
    field = keys.mark_field("stream", str(partition))
    return lambda store: store.client.hset(state, field, seal(b"1 %d" % offset))


LETTER = struct.pack("<qI", 7, 1) + b"yx"
JOBS = keys.lease("home", "refresh")
DAMAGE: dict[str, tuple[Callable[[Store], object], str, str]] = {
    # name: (damage, where contains, what contains)
    "number's type": (retyped(OF.streams), OF.streams, "is a list, not a hash"),
    "number": (lambda s: s.client.hset(OF.streams, "partitions", "x"), OF.streams, "partitions"),
    "number gone": (lambda s: s.client.delete(OF.streams), OF.streams, "does not say how many"),
    "stream's type": (retyped(ZERO.stream), ZERO.stream, "is a list, not a stream"),
    "offsets' type": (retyped(ZERO.offsets), ZERO.offsets, "is a list, not a hash"),
    "letters' type": (retyped(ZERO.dead), ZERO.dead, "is a list, not a zset"),
    "lease's type": (retyped(ONE.lease), ONE.lease, "is a list, not a hash"),
    "offsets gone": (lambda s: s.client.hdel(ZERO.offsets, "end"), " end", "is 0, the stream"),
    "offset no number": (offsets("end", "1x"), " end", "no whole number"),
    "offset unknown": (offsets("more", "1"), " more", "unknown field"),
    "more applied": (offsets("applied_total", 10**9), " applied_total", "of "),
    "applied ahead": (offsets("applied", 2**52), " end", "would not count"),
    "mark ahead": (marked(0, 2**52), " end", f"applied up to {2**52}: new ones would not count"),
    "mark of no partition": (marked(2, 5), OF.streams, "has the mark 5 of partition 2"),
    "entries overlap": (overlapping, f"{ZERO.stream} ", "begins within the entry before it"),
    "entry empty": (appended({"t": None}), f"{ZERO.stream} ", "holds no events"),
    "entry uncounted": (appended({"b": "x"}), f"{ZERO.stream} ", "says that b'' events"),
    "entry miscounted": (appended({"t": 1, "b": "x"}), f"{ZERO.stream} ", "says that 1 events"),
    "entry's name": (
        appended({"t": None, "b": "x"}, "9007199254740000-0"),
        f"{ZERO.stream} ",
        "no entry that a producer appended",
    ),
    "letter": (lambda s: s.client.zadd(ZERO.dead, {b"x": 5}), ZERO.dead, "is no dead letter"),
    "letter's place": (lambda s: s.client.zadd(ZERO.dead, {LETTER: 5}), ZERO.dead, "stands at 5"),
    "lease's field": (lambda s: s.client.hdel(ONE.lease, "epoch"), ONE.lease, "has the fields"),
    "lease's epoch": (lambda s: s.client.hset(ONE.lease, "epoch", "x"), ONE.lease, "no whole"),
    "job's lease": (lambda s: s.client.hset(JOBS, "until", "x"), JOBS, "no whole number"),
    "job's lease's type": (retyped(JOBS), JOBS, "is a list, not a hash"),
    "workers' type": (
        retyped(keys.workers("home", "stream")),
        keys.workers("home", "stream"),
        "is a list, not a zset",
    ),
    "producer for ever": (lambda s: s.client.persist(producers_key(s)), ":e:", "never expires"),
    "producer": (lambda s: s.client.set(producers_key(s), "x", keepttl=True), ":e:", "no sequence"),
    "checkpoint": (
        lambda s: s.client.hset(OF.checkpoints, "stream:0", "[1]"),
        OF.checkpoints,
        "no position",
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_each_damage_is_found_and_nothing_else(worked: Store, name: str) -> None:
    damage, where, what = DAMAGE[name]
    damage(worked)
    wrong = [finding for finding in verify_store(worked).findings if not finding.is_note]
    assert len(wrong) == 1, wrong
    [found] = wrong
    assert where in found.where
    assert what in found.what
    assert "remove it, if nothing else" not in found.remedy


def test_streams_of_nobody_are_not_to_be_removed_lightly(worked: Store) -> None:
    worked.client.srem(keys.BANDITS, "home")
    found = [f for f in verify_store(worked).findings if ZERO.stream in f.where]
    assert [f.remedy.partition(",")[0] for f in found] == ["start a producer of its bandit"]


def test_a_bandit_goes_with_its_streams_and_nobody_elses(worked: Store) -> None:
    forget_bandit(worked, "other")
    other = Producer(worked, "other")
    other.send(rows(9))
    whose = everything(worked)
    planned = forget_bandit(worked, "home", dry_run=True)
    assert everything(worked) == whose
    assert planned.streams == StreamsHeld(2, 9, 1)
    assert forget_bandit(worked, "home") == planned
    assert verify_store(worked).findings == ()
    assert index.bandits(worked) == ["other"]
    forget_bandit(worked, "other")
    assert everything(worked) == {}


def test_a_bandit_that_has_nothing_but_streams_can_be_forgotten(any_store: Store) -> None:
    Producer(any_store).send(rows(9))
    assert forget_bandit(any_store, "home").segments == {}
    assert everything(any_store) == {}


def test_a_forgotten_segment_gets_what_is_retained_again_unless_marks_are_kept(
    any_store: Store,
) -> None:
    producer, bandit = Producer(any_store), Bandit("home", any_store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    producer.send(rows(90))
    drained(worker)
    forget_segment(Bandit("home", any_store), "X")
    producer.send(rows(9))
    drained(worker)
    assert stored(any_store) == sums(producer.sent)
    before = stored(any_store)
    forget_segment(Bandit("home", any_store), "X", keep_marks=True)
    later = rows(9)
    producer.send(later)
    drained(worker)
    assert stored(any_store)["X"] == sums(later)["X"]
    assert stored(any_store)["Y"] != before["Y"]
    assert verify_store(any_store).is_clean


def test_an_import_goes_back_and_its_own_streams_bring_the_rest_again(
    any_store: Store, tmp_path: Path
) -> None:
    producer, bandit, file = Producer(any_store), Bandit("home", any_store), tmp_path / "f"
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    producer.send(rows(90))
    drained(worker)
    export_bandit(bandit, file)
    producer.send(rows(30, "XW"))  # applied, and lost with what is replaced
    drained(worker)
    producer.send(rows(7))  # not applied yet
    worker.release()
    import_bandit(any_store, file, replace=True)
    assert stored(any_store) == sums(producer.sent[:90])
    drained(IngestWorker(bandit := Bandit("home", any_store), RedisStreamSource(bandit)))
    assert stored(any_store) == sums(producer.sent)
    assert verify_store(any_store).findings == ()


@pytest.mark.parametrize("name", ["home", "copy"])
def test_marks_of_other_streams_swallow_nothing(
    any_store: Store, tmp_path: Path, name: str
) -> None:
    """Even if their clock was years ahead of this one."""
    producer, bandit, file = Producer(any_store), Bandit("home", any_store), tmp_path / "f"
    for partition in (0, 1):
        streams.advance(any_store, "home", partition, beyond=2**52)
    producer.send(rows(90))
    drained(IngestWorker(bandit, RedisStreamSource(bandit)))
    export_bandit(bandit, file)
    if name == "home":
        forget_bandit(any_store, "home")
    other = Producer(any_store, name)
    other.send(rows(9))  # before the import
    import_bandit(any_store, file, name=name)
    other.send(rows(30))
    assert not any(b"stream" in field for field in fields_of(any_store, name))
    drained(IngestWorker(copy := Bandit(name, any_store), RedisStreamSource(copy)))
    assert stored(any_store, name) == sums(producer.sent + other.sent)
    assert verify_store(any_store).findings == ()


def fields_of(store: Store, bandit: str) -> list[bytes]:
    of_segments = [keys.of_segment(bandit, path).state for path in "XYZ"]
    hashes = (*of_segments, keys.of_bandit(bandit).checkpoints)
    return [field for key in hashes for field in store.client.hkeys(key)]


def test_what_is_being_imported_keeps_its_seal(any_store: Store) -> None:
    """A process that knew the bandit before must not open it by setting another half-life."""
    bandit = Bandit("home", any_store)
    bandit.record("IN", "a")
    forget_bandit(any_store, "home")
    calling.run(
        any_store, [maintenance_library.begin_import(OF, token=b"t", paths=b"", bandit=b"home")]
    )
    before = everything(any_store)
    with pytest.raises(ConfigurationConflictError, match="being imported"):
        bandit.change_half_life(None)
    with pytest.raises(PartlyAppliedError, match="being imported"):
        bandit.record("IN", "a")
    assert {key: everything(any_store)[key] for key in before} == before
