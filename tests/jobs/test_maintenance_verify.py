"""`verify_store` finds what is damaged, says where, and finds nothing else."""

from __future__ import annotations

import datetime as dt
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidValueError
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog
from banditcore.maintenance import verify
from banditcore.maintenance.strangers import MOST_NAMED
from banditcore.maintenance.verify import verify_store
from banditcore.segments import is_within
from banditcore.store import Store, keys
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions import calling, maintenance_library
from banditcore.store.seals import seal
from bandits import everything

OF_BANDIT = keys.of_bandit("home")
IN = keys.of_segment("home", "IN/m")
NOW = 1_790_000_000


@pytest.fixture
def full(any_store: Store, tmp_path) -> Store:
    """A bandit with all that there can be, and another one."""
    log = tmp_path / "log.csv"
    log.write_text("segment,arm,reward,time\n" + f"IN/m,a,1,{NOW}\n" * 3 + f"US,b,0,{NOW}\n")
    bandit = Bandit("home", any_store, half_life=dt.timedelta(days=7))
    ingest_log(bandit, EventLog(log))
    ids = [f"arm {i}" for i in range(300)]
    bandit.record_batch({"segment": ["IN/m"] * 300, "arm": ids, "reward": [1] * 300})
    bandit.record("IN/m", "a", reward=1, event_id="7")
    bandit.retire("US", ["b"])
    bandit.refresh(depth=4, slates=4)
    Bandit("other\0{}", any_store).record("", "x\ny")
    return any_store


def test_a_sound_store_is_clean_and_stays_as_it_is(full: Store) -> None:
    before = everything(full)
    seen: list[tuple[int, int, str]] = []
    report = verify_store(full, progress=lambda *where: seen.append(where))
    assert (report.findings, report.is_clean) == ((), True)
    assert (report.bandits, report.segments, report.keys) == (2, 5, len(before))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1] == (5, 5, "other\0{} ".rstrip())
    assert everything(full) == before
    only = verify_store(full, "home")
    assert (only.bandits, only.segments, only.keys, only.findings) == (1, 4, 0, ())
    with pytest.raises(InvalidValueError, match="the store has 'home', "):
        verify_store(full, "hone")


def test_an_empty_store_and_an_entry_without_a_segment_are_clean(any_store: Store) -> None:
    assert verify_store(any_store).findings == ()
    bandit = Bandit("home", any_store)
    bandit.record("IN", "a")
    any_store.client.sadd(OF_BANDIT.segments, "US")
    assert verify_store(any_store).findings == ()


def chunk(*numbers: float) -> bytes:
    return seal(struct.pack(f"<{len(numbers)}d", *numbers))


def state(field: str, value: bytes | str) -> Callable[[Store], object]:
    return lambda store: store.client.hset(IN.state, field, value)


def version(**changes: float | None) -> bytes:
    fields = {"epoch": 0, "landmark": float(NOW), "half_life_s": 604800.0, "window_s": 3600.0}
    return SegmentVersion(**{**fields, **changes}).pack()


def retyped(key: str, kind: str) -> Callable[[Store], object]:
    def damage(store: Store) -> None:
        store.client.delete(key)
        if kind == "list":
            store.client.rpush(key, "x")
        else:
            store.client.hset(key, "x", "y")

    return damage


def registered(raw: bytes) -> Callable[[Store], object]:
    return lambda store: store.client.set(IN.arms, raw)


def other_id(store: Store) -> None:
    """One bit of one id."""
    store.client.setrange(IN.arms, 1, bytes([store.client.get(IN.arms)[1] ^ 1]))


def truncated_blob(store: Store) -> None:
    store.client.set(IN.blob, store.client.get(IN.blob)[:-1])


def anothers_blob(store: Store) -> None:
    store.client.set(IN.blob, store.client.get(keys.of_segment("home", "IN").blob))


DAMAGE = {
    # name: (damage, segment, where ends with, what contains)
    "version cut": (state("v", b"x"), "IN/m", ":s v", "no version"),
    "version gone": (lambda s: s.client.hdel(IN.state, "v"), "IN/m", ":s v", "missing"),
    "landmark": (state("v", version(landmark=float("nan"))), "IN/m", ":s v", "landmark nan"),
    "half-life": (state("v", version(half_life_s=-1.0)), "IN/m", ":s v", "half-life -1.0"),
    "window": (state("v", version(window_s=0.0)), "IN/m", ":s v", "window 0.0"),
    "slots no number": (state("n", seal(b"3x")), "IN/m", ":s n", "no number"),
    "slots cut": (state("n", seal(b"301")[:-1]), "IN/m", ":s n", "no number"),
    "slots too many": (state("n", seal(b"302")), "IN/m", ":a", "names 301 arms, n says 302"),
    "token gone": (lambda s: s.client.hdel(IN.state, "t"), "IN/m", ":s t", "missing"),
    "registry cut": (lambda s: s.client.append(IN.arms, b"\5ab"), "IN/m", ":a", "is cut"),
    "registry no text": (registered(b"\0\xff" * 301), "IN/m", ":a", "not UTF-8"),
    "an id": (other_id, "IN/m", ":a", "is damaged"),
    "registry twice": (registered(b"\0a" * 301), "IN/m", ":a", "an arm twice"),
    "chunk cut": (state("c:1", seal(b"x" * 17)), "IN/m", ":s c:1", "has 17 bytes"),
    "chunk long": (state("c:2", seal(bytes(16 * 46))), "IN/m", ":s c:2", "has 736 bytes"),
    "chunk's checksum": (state("c:0", bytes(16)), "IN/m", ":s c:0", "its checksum is wrong"),
    "chunk beyond": (state("c:3", chunk(1, 0)), "IN/m", ":s c:3", "beyond the 301 arms"),
    "trials nan": (state("c:0", chunk(float("nan"), 0)), "IN/m", ":s c:0", "slot 0 has nan trials"),
    "successes negative": (
        state("c:1", chunk(1, 1, 1, -2)),
        "IN/m",
        ":s c:1",
        "slot 129 has -2.0 successes",
    ),
    "mark": (state(keys.mark_field("a:b", "0"), seal(b"7")), "IN/m", ":s m:3:a:b:0", "no epoch"),
    "mark's name": (state("m:9:a:b:0", "1 7"), "IN/m", ":s m:9:a:b:0", "no name of a mark"),
    "field": (state("x", "1"), "IN/m", ":s x", "unknown field"),
    "chunk's name": (state("c:01", "1"), "IN/m", ":s c:01", "unknown field"),
    "bucket's parity": (state("w:0", seal(b"7")), "IN/m", ":w:0", "no window bucket"),
    "window for ever": (
        lambda s: [s.client.persist(key) for key in (IN.even, IN.odd)],
        "IN/m",
        "",
        "never expires",
    ),
    "blob cut": (truncated_blob, "IN/m", ":b", "length check"),
    "blob of another": (anothers_blob, "IN/m", ":b", "('home', 'IN')"),
    "blob's type": (retyped(IN.blob, "hash"), "IN/m", ":b", "is a hash, not a string"),
    "state's type": (retyped(IN.state, "list"), "IN/m", ":s", "is a list, not a hash"),
    "registry's type": (retyped(IN.arms, "list"), "IN/m", ":a", "is a list, not a string"),
    "window's type": (retyped(IN.odd, "list"), "IN/m", ":w:1", "is a list, not a set"),
    "settings gone": (lambda s: s.client.delete(OF_BANDIT.settings), None, ":c", "no half-life"),
    "settings half": (
        lambda s: s.client.hdel(OF_BANDIT.settings, "w"),
        None,
        ":c",
        "a field is missing",
    ),
    "settings no number": (
        lambda s: s.client.hset(OF_BANDIT.settings, "w", "x"),
        None,
        ":c",
        "two numbers",
    ),
    "settings negative": (
        lambda s: s.client.hset(OF_BANDIT.settings, "h", "-1"),
        None,
        ":c",
        "two numbers",
    ),
    "settings' type": (retyped(OF_BANDIT.settings, "list"), None, ":c", "is a list"),
    "checkpoint": (
        lambda s: s.client.hset(OF_BANDIT.checkpoints, "log:1", "[1]"),
        None,
        ":p",
        "no position",
    ),
    "checkpoints' type": (retyped(OF_BANDIT.checkpoints, "list"), None, ":p", "is a list"),
    "index's member": (
        lambda s: s.client.sadd(OF_BANDIT.segments, b"\xff"),
        None,
        ":i",
        "has the member",
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_each_damage_is_found_and_nothing_else(full: Store, name: str) -> None:
    damage, segment, where, what = DAMAGE[name]
    damage(full)
    report = verify_store(full)
    wrong = [finding for finding in report.findings if not finding.is_note]
    assert len(wrong) == 1, wrong
    [found] = wrong
    assert (found.bandit, found.segment) == ("home", segment)
    assert found.where.endswith(where)
    assert what in found.what
    assert found.remedy
    assert not report.is_clean
    assert verify_store(full, "home").findings == report.findings
    assert verify_store(full, "other\0{}").is_clean


def test_the_value_of_what_must_be_a_checkpoint_may_be_a_streams(full: Store) -> None:
    full.client.hset(OF_BANDIT.checkpoints, "stream:0", seal(b'[5, 0, ["a"]]'))
    assert verify_store(full).is_clean
    full.client.hset(OF_BANDIT.checkpoints, "log:0", seal(b'[5, 0, ["a"]]'))
    assert not verify_store(full).is_clean


def test_what_is_unusual_and_harmless_is_a_note(full: Store) -> None:
    bandit = Bandit("home", full)
    bandit.record("IN/m", "late", trials=0, reward=1)
    bandit.retire("IN/m", ["arm 7"])
    full.client.hset(OF_BANDIT.settings, "h", "3600.0")
    report = verify_store(full)
    assert report.is_clean
    assert sorted((f.segment, f.where[-3:], f.what.partition(" ")[0]) for f in report.findings) == [
        ("", "}:b", "1"),  # the slates' arm that is retired by now
        ("IN", "}:b", "1"),
        ("IN/m", "c:2", "1"),
        ("IN/m", "s v", "has"),
        ("IN/m", "}:b", "1"),
        ("US", "s v", "has"),
    ]


def test_orphans_and_strangers_are_found_by_scan(full: Store) -> None:
    full.client.srem(OF_BANDIT.segments, "IN/m")
    full.client.set("bc:x", "1")
    full.client.set(IN.state.replace(":s", ":z"), "1")
    full.client.set("abc:x", "1")  # not ours
    wrong = [f for f in verify_store(full).findings if not f.is_note]
    tag = IN.state.removesuffix("s")
    above = keys.of_segment("home", "IN").blob
    shown = {f.where: f.what for f in wrong}
    # IN has slates, but nothing is indexed below it any more.
    assert shown.pop(above) == "belongs to no bandit or segment of the index"
    assert shown.pop("bc:x") == shown.pop(f"{tag}z") == "is of no known kind"
    [(names, what)] = shown.items()
    assert {f"{tag}a", f"{tag}b", f"{tag}s"} <= set(names.split(", "))
    assert what == "belongs to no bandit or segment of the index"
    # A bandit whose name is gone:
    full.client.srem(keys.BANDITS, "home")
    wrong = [f for f in verify_store(full).findings if not f.is_note]
    assert any(OF_BANDIT.segments in f.where for f in wrong)


def test_of_very_many_strangers_the_first_are_named_and_all_counted(full: Store) -> None:
    more = 234
    names = {f"bc:{number}": "x" for number in range(MOST_NAMED + more)}
    for name, value in names.items():
        full.client.set(name, value)
    report = verify_store(full)
    *named, rest = report.findings
    assert len(named) == len({found.where for found in named}) == MOST_NAMED
    assert {found.where for found in named} < set(names)
    assert (rest.where, rest.what.split()[:3]) == ("bc:*", ["and", str(more), "more"])
    assert not report.is_clean
    assert report.keys == sum(len(list(c.scan_iter("bc:*"))) for c in full.servers().values())


def test_counts_at_an_ancestor_that_the_index_does_not_name(full: Store) -> None:
    Bandit("home", full).record("IN", "a")
    assert verify_store(full).is_clean
    full.client.srem(OF_BANDIT.segments, "IN")
    [found] = [f for f in verify_store(full).findings if not f.is_note]
    assert (found.segment, found.what) == ("IN", "has counts, but the index does not name it")


def test_a_segment_of_which_only_parts_are_left(full: Store) -> None:
    full.client.delete(IN.state)
    found = [f for f in verify_store(full).findings if not f.is_note]
    assert {f.segment for f in found} == {"IN/m"}
    assert {f.what for f in found} == {"exists without counts"}


def test_it_is_clean_beside_writers(full: Store) -> None:
    """All that writers do leaves every moment whole: 60 checks beside three threads of writes."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(number: int) -> None:
        bandit = Bandit("home", full)
        i = 0
        try:
            while not stop.is_set():
                i += 1
                segment = f"IN/{number}/{i % 50}"
                bandit.record(segment, f"arm {i}", event_id=f"{number} {i}", reward=1)
                if i % 7 == 0:
                    bandit.retire(segment, [f"arm {i}"])
                if i % 20 == 0:
                    bandit.refresh([segment], depth=2, slates=2)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        reports = [verify_store(full) for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    for report in reports:
        assert report.is_clean, report.findings


def test_an_ancestor_that_comes_to_be_meanwhile_is_no_fault(full: Store, monkeypatch) -> None:
    """It is written to after the index was read, and before the ancestors are."""
    bandit, read = Bandit("home", full), verify.dump

    def after_a_writer(*given: Any, **more: Any) -> Any:
        bandit.record("IN", "arm 1")
        return read(*given, **more)

    monkeypatch.setattr(verify, "dump", after_a_writer)
    assert verify_store(full).is_clean


def test_what_lies_below_is_found_in_the_index() -> None:
    names = [
        "",
        "a",
        "a/b",
        "a/b/c",
        "a0",
        "a0/b",
        "a/",
        "a.",
        "a-b/c",
        "a/b0",
        "a/b/",
        "b",
        "A/b",
        "é/a",
    ]
    paths = sorted({name.strip("/") for name in names})
    for path in (*paths, "a/b/c/d", "zz"):
        below = [other for other in paths if is_within(other, path) and other != path]
        found = [other for other in verify._below(paths, path) if other != path]
        assert found == below, path


def test_an_import_that_has_not_ended_is_found(full: Store) -> None:
    Bandit("third", full).record("IN", "a")
    of = keys.of_bandit("third")
    full.client.srem(of.segments, "IN")
    full.client.delete(*keys.of_segment("third", "IN"))
    calling.run(
        full, [maintenance_library.begin_import(of, token=b"t", paths=b"", bandit=b"third")]
    )
    [found] = verify_store(full).findings
    assert (found.bandit, found.where) == ("third", of.settings)
    assert "being imported" in found.what
