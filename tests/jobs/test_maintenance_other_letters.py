"""Dead letters of sources that are not the bandit's own streams are checked and forgotten too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.errors import StoreError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_group import RedisGroupSource
from banditcore.maintenance.exporting import export_bandit
from banditcore.maintenance.forget import forget_bandit
from banditcore.maintenance.importing import import_bandit
from banditcore.maintenance.verify import verify_store
from banditcore.store import Store, keys
from banditcore.store.counts import index
from banditcore.store.event_streams import dead_letters, partitions, refusing
from banditcore.store.event_streams.dead_letters import DeadLetter
from banditcore.store.event_streams.stream_removal import StreamsHeld
from bandits import everything
from streamed import Producer, rows

OF = keys.of_bandit("home")
GROUP = dead_letters.keys_of("home", 0, "group:a:b c")
TOPIC = dead_letters.keys_of("home", 7, "kafka:t")


def keep(store: Store, source: str, partition: int, offset: int = 1) -> None:
    dead_letters.keep(store, "home", partition, [DeadLetter(offset, "why", b"x")], source=source)


@pytest.fixture
def refused(any_store: Store) -> Store:
    """A bandit with letters of two other sources, beside another one with letters of its own."""
    Bandit("home", any_store).record("IN", "a")
    keep(any_store, "group:a:b c", 0)
    keep(any_store, "kafka:t", 7)
    keep(any_store, "kafka:t", 7, 2)
    letter = [DeadLetter(1, "why", b"x")]
    dead_letters.keep(any_store, "other", 0, letter, source="group:a:b c")
    return any_store


def test_what_a_worker_refuses_of_a_stream_of_others_is_the_bandits(any_store: Store) -> None:
    """Even when nothing else was there: no counts, no streams."""
    any_store.client.xadd("clicks", {"foo": "bar"})
    bandit = Bandit("web", any_store)
    source = RedisGroupSource(bandit, "clicks")
    worker = IngestWorker(bandit, source)
    while worker.step(0.01):
        pass
    worker.release()
    source.close()
    report = verify_store(any_store)
    assert report.is_clean
    [found] = report.findings
    where = dead_letters.keys_of("web", 0, "group:clicks").dead
    assert (found.bandit, found.where) == ("web", where)
    assert found.what == ("keeps 1 events of 'group:clicks', partition 0, that could not be used")
    assert "--bandit web --source group:clicks --partitions 0`" in found.remedy
    assert verify_store(any_store, "web").findings == report.findings
    assert report.keys == len([key for key in everything(any_store) if key.startswith(b"bc:")])
    assert forget_bandit(any_store, "web").streams == StreamsHeld(0, 0, 1)
    assert verify_store(any_store).findings == ()
    assert set(everything(any_store)) == {b"clicks"}


def test_each_source_says_how_many_and_the_command_that_shows_them(refused: Store, capsys) -> None:
    report = verify_store(refused)
    assert report.is_clean
    assert [(found.bandit, found.where) for found in report.findings] == [
        ("home", GROUP.dead),
        ("home", TOPIC.dead),
        ("other", dead_letters.keys_of("other", 0, "group:a:b c").dead),
    ]
    assert [found.what.split()[1] for found in report.findings] == ["1", "2", "1"]
    assert "--source 'group:a:b c' --partitions 0" in report.findings[0].remedy
    assert verify_store(refused, "home").findings == report.findings[:2]


LETTER = struct.pack("<qI", 7, 1) + b"yx"
DAMAGE: dict[str, tuple[Callable[[Store], object], str, str]] = {
    # name: (damage, where contains, what contains)
    "letter": (lambda s: s.client.zadd(TOPIC.dead, {b"x": 5}), TOPIC.dead, "is no dead letter"),
    "letter's place": (lambda s: s.client.zadd(TOPIC.dead, {LETTER: 5}), TOPIC.dead, "stands at 5"),
    "letters' type": (
        lambda s: [s.client.delete(TOPIC.dead), s.client.rpush(TOPIC.dead, "x")],
        TOPIC.dead,
        "is a list, not a zset",
    ),
    "bytes": (
        lambda s: s.client.hset(TOPIC.offsets, "dead_bytes", "x"),
        f"{TOPIC.offsets} dead_bytes",
        "no whole number",
    ),
    "member": (lambda s: s.client.sadd(OF.refusing, b"\xff:1"), OF.refusing, "has the member"),
    "member of streams": (
        lambda s: s.client.sadd(OF.refusing, "stream:0"),
        OF.refusing,
        "stream:0",
    ),
    "member of no partition": (lambda s: s.client.sadd(OF.refusing, "a:01"), OF.refusing, "a:01"),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_each_damage_is_found_and_nothing_else(refused: Store, name: str) -> None:
    damage, where, what = DAMAGE[name]
    damage(refused)
    [found] = [found for found in verify_store(refused).findings if not found.is_note]
    assert found.bandit == "home"
    assert where in found.where
    assert what in found.what
    forget_bandit(refused, "other")
    if name != "letters' type":  # which forget cannot count
        forget_bandit(refused, "home")
        assert everything(refused) == {}


def test_what_names_the_sources_is_of_another_type(refused: Store) -> None:
    refused.client.delete(OF.refusing)
    refused.client.rpush(OF.refusing, "x")
    wrong = [found for found in verify_store(refused).findings if not found.is_note]
    assert {found.where.partition(",")[0] for found in wrong} == {
        OF.refusing, GROUP.dead, TOPIC.dead,
    }  # fmt: skip
    before = set(refused.client.scan_iter())
    with pytest.raises(StoreError):
        keep(refused, "kafka:t", 8)
    assert set(refused.client.scan_iter()) == before
    refused.client.delete(OF.refusing)
    keep(refused, "group:a:b c", 0, 2)  # whatever is refused next names them again
    dead_letters.learn(refused, "home", 7, "kafka:t")
    dead_letters.learn(refused, "home", 8, "kafka:t")
    assert refusing.known(refused, "home") == [("group:a:b c", 0), ("kafka:t", 7)]
    assert verify_store(refused).is_clean


def test_letters_go_with_their_bandit_and_nobody_elses(refused: Store) -> None:
    Producer(refused).send(rows(9))
    before = everything(refused)
    planned = forget_bandit(refused, "home", dry_run=True)
    assert planned.streams == StreamsHeld(2, 9, 3)
    assert everything(refused) == before
    assert forget_bandit(refused, "home") == planned
    assert index.bandits(refused) == ["other"]
    assert refusing.known(refused, "home") == []
    [left] = verify_store(refused).findings
    assert (left.bandit, left.is_note) == ("other", True)
    forget_bandit(refused, "other")
    assert everything(refused) == {}


def test_a_bandit_of_which_only_letters_are_known_can_be_forgotten(any_store: Store) -> None:
    """As after a failover that lost its name."""
    keep(any_store, "kafka:t", 7)
    any_store.client.srem(keys.BANDITS, "home")
    assert not verify_store(any_store).is_clean
    assert forget_bandit(any_store, "home").streams == StreamsHeld(0, 0, 1)
    assert everything(any_store) == {}


def test_a_letter_that_is_kept_while_its_bandit_is_forgotten_keeps_the_name(
    any_store: Store,
) -> None:
    keep(any_store, "kafka:t", 7)
    index.withdraw(any_store, "home")
    assert index.bandits(any_store) == ["home"]
    assert verify_store(any_store).is_clean


@pytest.mark.parametrize("is_theirs", [True, False], ids=["their streams", "others"])
def test_an_import_leaves_letters_where_it_leaves_the_streams(
    refused: Store, tmp_path: Path, is_theirs: bool
) -> None:
    file = tmp_path / "f"
    if is_theirs:
        partitions.agree(refused, "home")
    keep(refused, dead_letters.STREAMS, 0)
    export_bandit(Bandit("home", refused), file)
    import_bandit(refused, file, name="copy")
    assert refusing.known(refused, "copy") == []
    import_bandit(refused, file, replace=True)
    counts = [
        len(dead_letters.read(refused, "home", partition, source=source))
        for source, partition in (("stream", 0), ("group:a:b c", 0), ("kafka:t", 7))
    ]
    assert counts == ([1, 1, 2] if is_theirs else [0, 0, 0])
    assert verify_store(refused).is_clean


def test_the_command_tells_of_letters_that_go_where_there_are_no_streams(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, "group:a:b c", 0)
    assert main(["forget", "home", "--yes", "--url", store.url]) == 0
    assert "1 that could not be used" in capsys.readouterr().err
    assert everything(store) == {}
