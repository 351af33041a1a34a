"""The least rights that docs/operations.md names are enough, and serving cannot write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from banditcore import (
    Bandit,
    Recommender,
    Refresher,
    Store,
    StoreError,
    StoreUnfitError,
    connect,
    export_bandit,
    forget_arm,
    forget_bandit,
    forget_segment,
    import_bandit,
    verify_store,
)
from banditcore.cli.live_state import LiveReader
from banditcore.emitting.replaying import replay
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_group import RedisGroupSource
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store.event_streams import dead_letters, streams
from streamed import Producer, packed, rows, stored, sums

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
ROLES = ("serving", "reporting", "writing", "maintaining")


def _row(name: str) -> list[str]:
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| {name} |"))
    return re.findall(r"`([^`]*)`", row)[-1].replace("\\|", "|").split()


def rules(role: str) -> list[str]:
    """Return the ACL of a role, those of the roles it extends included."""
    if role == "emitting":
        return _row(role)
    if role == "watching":
        return _row("serving") + _row(role)
    words: list[str] = []
    extended = (*ROLES[:3], role) if role in {"working", "sharing"} else ROLES
    for name in extended:
        words += _row(name)
        if name == role:
            return words
    raise AssertionError(role)


def rules_of_clusters() -> list[str]:
    """Return what each role needs besides on a cluster."""
    found = re.search(r"with `redis\+cluster://` add `([^`]*)`", GUIDE)
    assert found
    return found[1].split()


@pytest.fixture
def login(any_store: Store) -> Iterator[Callable[[str], Store]]:
    opened = []

    def as_role(role: str) -> Store:
        words = rules(role) + (rules_of_clusters() if any_store.address.is_cluster else [])
        for server in any_store.servers().values():
            server.execute_command("ACL", "SETUSER", role, "on", ">secret", *words)
        scheme, _, place = any_store.url.partition("://")
        opened.append(connect(f"{scheme}://{role}:secret@{place}"))
        return opened[-1]

    yield as_role
    for store in opened:
        store.close()
    for server in any_store.servers().values():
        users = (*ROLES, "emitting", "working", "watching", "sharing")
        server.execute_command("ACL", "DELUSER", *users)


def test_each_role_can_do_its_work_and_no_more(login: Callable[[str], Store]) -> None:
    bandit = Bandit("home", login("writing"))
    assert bandit.record("IN/m", "a", reward=1, event_id="1").applied == 1
    bandit.record_batch({"segment": ["IN/m"], "arm": ["b"], "reward": [1]}, batch_id="2")
    bandit.add_arms("IN/m", ["c", "d"])
    assert bandit.retire("IN/m", ["d"]) == 1
    assert bandit.refresh().published == ("", "IN", "IN/m")
    refresher = Refresher(bandit)
    assert refresher.step().published == ("", "IN", "IN/m")
    assert refresher.step().unchanged == ("", "IN", "IN/m")
    refresher.release()

    reading = Bandit("home", login("reporting"))
    assert reading.counts("IN/m").arms == ("a", "b", "c")
    assert len(reading.posterior("IN")) == 3
    with pytest.raises(StoreUnfitError, match="ACL"):
        reading.add_arms("IN/m", ["e"])

    serving = Bandit("home", login("serving"))
    with Recommender(serving) as recommender:
        recommender.warm_up()
        assert len(recommender.recommend("IN/m", 3).arms) == 3
    with pytest.raises(StoreUnfitError, match="ACL"):
        serving.counts("IN/m")


def test_watching_can_look_and_change_nothing(
    any_store: Store, login: Callable[[str], Store]
) -> None:
    bandit = Bandit("home", any_store)
    producer = Producer(any_store)
    producer.send(rows(9))
    bandit.record("IN/m", "a")
    bandit.refresh()
    watching = login("watching")
    [seen] = LiveReader(watching, None, 5).read()
    assert {each.entropy for each in seen.segments} == {1.0}
    assert sum(part.waiting for part in seen.partitions) == 9
    with pytest.raises(StoreUnfitError, match="ACL"):
        Bandit("home", watching).record("IN/m", "a")


def test_maintaining_can_verify_move_and_remove(
    any_store: Store, login: Callable[[str], Store], tmp_path: Path
) -> None:
    store, file = login("maintaining"), tmp_path / "home.bce"
    bandit = Bandit("home", store)
    producer = Producer(any_store)
    producer.send(rows(9))
    bandit.record("IN/m", "a", reward=1, event_id="1")
    bandit.record("IN/m", "b")
    bandit.refresh()
    assert verify_store(store).findings == ()
    export_bandit(bandit, file)
    import_bandit(store, file, name="copy")
    import_bandit(store, file, replace=True)
    forget_arm(bandit, "a")
    forget_segment(bandit, "IN/m", keep_marks=True)
    forget_segment(bandit, "IN/m")
    forget_bandit(store, "copy")
    dead_letters.keep(any_store, "home", 0, [dead_letters.DeadLetter(1, "why", b"x")])
    [letters] = verify_store(store).findings
    assert letters.is_note
    forget_bandit(store, "home")
    assert verify_store(store).findings == ()
    bandit.record("IN/m", "b")
    with pytest.raises(StoreError, match="refused a command"):
        forget_segment(Bandit("home", login("writing")), "IN/m")


def test_a_worker_can_follow_streams(any_store: Store, login: Callable[[str], Store]) -> None:
    producer = Producer(any_store)
    producer.send(rows(9))
    producer.append(0, b"poison", 1)
    bandit = Bandit("home", login("working"))
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    while worker.step(0.01):
        pass
    assert sum(part.refused for part in worker.report().partitions) == 1
    worker.release()
    assert stored(any_store) == sums(producer.sent)
    writing = Bandit("home", login("writing"))
    with pytest.raises(StoreUnfitError, match="ACL"):
        IngestWorker(writing, RedisStreamSource(writing)).step()


def test_a_worker_can_share_a_stream_of_others(
    any_store: Store, login: Callable[[str], Store]
) -> None:
    event = {"segment": "X", "arm": "a", "reward": "1"}
    any_store.client.xadd("KEY", {**event, "event_id": "1"})
    any_store.client.xadd("KEY", event)
    bandit = Bandit("home", login("sharing"))
    source = RedisGroupSource(bandit, "KEY", remove=True)
    worker = IngestWorker(bandit, source)
    while worker.step(0.01):
        pass
    worker.release()
    source.close()
    assert any_store.client.xinfo_consumers("KEY", "banditcore") == []
    assert stored(any_store) == {"X": {"a": (1.0, 1.0)}}
    assert len(dead_letters.read(any_store, "home", 0, source="group:KEY")) == 1
    [letters] = verify_store(login("maintaining")).findings
    assert letters.is_note
    forget_bandit(login("maintaining"), "home")
    assert verify_store(any_store).findings == ()


def test_who_maintains_can_replay(any_store: Store, login: Callable[[str], Store]) -> None:
    Producer(any_store, of=1)
    dead_letters.keep(any_store, "home", 0, [dead_letters.DeadLetter(1, "why", packed(rows(3)))])
    assert replay(login("maintaining"), "home", 0).events == 3


def test_a_service_that_emits_can_do_that_only(login: Callable[[str], Store]) -> None:
    bandit = Bandit("home", login("emitting"))
    assert bandit.emit({"segment": ["IN/m"], "arm": ["a"], "reward": [1]}) == 1
    bandit.close()
    with pytest.raises(StoreUnfitError, match="ACL"):
        bandit.segments()
    with pytest.raises(StoreError, match=r"ACL|can't run this command"):
        streams.trim(bandit.store, "home", 0, applied=1, retain_s=0)
