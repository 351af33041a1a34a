"""Snapshots on disk: what is written, what is refused, and how answers from there are labelled."""

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidTypeError, StoreUnavailableError
from banditcore.serving import Recommender, backup
from banditcore.serving.backup import Backup
from banditcore.slate_format import decode, encode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts import index
from faults.server import MortalServer
from published import Home, put, rows, snapshot
from servers import wait_until

NOTHING_LISTENS = "unix:///nothing/listens/here"


@pytest.fixture
def away() -> Iterator[Store]:
    """A store that is not there."""
    with connect(NOTHING_LISTENS, at_once=False, timeout_s=60) as store:
        yield store


@pytest.fixture
def server() -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


def recent(segment: str, *, seed: int = 1, age: float = 5.0) -> Snapshot:
    return snapshot(segment, at=round(time.time()) - age, seed=seed)


def back_up(store: Store, directory: Path, *snapshots: Snapshot) -> None:
    put(store, *snapshots)
    known = [each.segment for each in snapshots]
    with Recommender(Home(store, known), backup=directory, poll_s=None) as recommender:
        recommender.warm_up()
        assert recommender.polling.backup_error is None


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if not path.is_dir())


def file_of(directory: Path, segment: str) -> Path:
    kept = Backup(directory, "home", renew_after_s=0.0)
    return kept.directory / kept.file_of(segment)


@pytest.mark.parametrize("segments", [None, ["IN/mobile"]])
def test_a_restart_without_the_store_answers_stale_until_it_confirms(
    server: MortalServer, tmp_path: Path, segments: list[str] | None
) -> None:
    held = [recent(""), recent("IN"), recent("IN/mobile")]
    with connect(server.url) as store:
        index.add(store, "home", ["IN/mobile"])
        back_up(store, tmp_path, *held)
    server.kill()
    with (
        connect(server.url, at_once=False, timeout_s=60) as store,
        Recommender(Bandit("home", store), segments, backup=tmp_path, poll_s=0.02) as recommender,
    ):
        recommender.warm_up()
        assert recommender.ready
        answer = recommender.recommend("IN/mobile", 12, user="u")
        assert answer.arms in rows(held[2])
        # Young as it is, nobody knows what was published since.
        assert (answer.source, answer.version) == ("IN/mobile", held[2].version)
        assert answer.degraded == ("stale",)
        assert answer.age is not None
        assert answer.age < 900
        assert recommender.polling.unconfirmed == 3
        assert recommender.polling.last_success is None
        server.start()
        wait_until_confirmed(recommender)
        same = recommender.recommend("IN/mobile", 12, user="u")
        assert (same.arms, same.version, same.degraded) == (answer.arms, answer.version, ())
    assert recommender.polling.error is None


def wait_until_confirmed(recommender: Recommender) -> None:
    wait_until(lambda: recommender.polling.unconfirmed == 0, "they are not confirmed")


def test_what_the_store_confirms_is_not_fetched(store: Store, tmp_path: Path, away: Store) -> None:
    held = recent("IN")
    back_up(store, tmp_path, held)
    bandit = Home(away, ["IN"])
    with Recommender(bandit, backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
        store.client.config_resetstat()
        bandit.store = store
        assert recommender.reload() == ()
        assert store.client.info("commandstats")["cmdstat_getrange"]["calls"] == 2
        assert recommender.recommend("IN").degraded == ()
        assert recommender.polling.unconfirmed == 0


def test_a_label_stays_while_the_store_has_something_older_or_nothing(
    store: Store, tmp_path: Path, away: Store
) -> None:
    held = recent("IN")
    back_up(store, tmp_path, held)
    bandit = Home(away, ["IN"])
    with Recommender(bandit, backup=tmp_path, poll_s=None, max_age=float("inf")) as recommender:
        recommender.warm_up()
        bandit.store = store
        store.client.flushall()
        assert recommender.reload() == ()
        assert recommender.recommend("IN").degraded == ("stale",)
        put(store, recent("IN", age=50.0, seed=2))
        assert recommender.reload() == ()
        answer = recommender.recommend("IN")
        assert (answer.version, answer.degraded) == (held.version, ("stale",))
        newer = recent("IN", age=1.0, seed=3)
        put(store, newer)
        assert recommender.reload() == ("IN",)
        answer = recommender.recommend("IN")
        assert (answer.version, answer.degraded) == (newer.version, ())


def test_a_fresh_ancestor_of_the_store_comes_before_the_backup(
    store: Store, tmp_path: Path, away: Store
) -> None:
    back_up(store, tmp_path, recent("IN"))
    bandit = Home(away, ["IN"])
    with Recommender(bandit, backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
        bandit.store = store
        store.client.flushall()
        put(store, recent(""))
        recommender.reload()
        assert recommender.recommend("IN").source == ""
        assert recommender.recommend("IN").degraded == ()
        assert recommender.polling.unconfirmed == 0  # nobody publishes IN: it was let go
        assert not file_of(tmp_path, "IN").exists()


def test_what_the_store_has_withdrawn_does_not_come_back(store: Store, tmp_path: Path) -> None:
    back_up(store, tmp_path, recent("IN"), recent("US"))
    store.client.delete(keys.of_segment("home", "IN").blob)
    bandit = Home(store, ["IN", "US"])
    with Recommender(bandit, backup=tmp_path, poll_s=None, default=["d"]) as recommender:
        recommender.warm_up()
        assert recommender.recommend("IN").source == "default"
        assert recommender.recommend("US").degraded == ()


def test_a_damaged_blob_in_the_store_is_replaced_by_the_backup(
    store: Store, tmp_path: Path
) -> None:
    held = recent("IN")
    back_up(store, tmp_path, held, recent("US"))
    store.client.set(keys.of_segment("home", "IN").blob, b"what is this" * 9)
    bandit = Home(store, ["IN", "US"])
    with Recommender(bandit, backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
        answer = recommender.recommend("IN", 12)
        assert answer.arms in rows(held)
        assert answer.degraded == ("stale",)
        assert "magic" in recommender.rejected["IN"]
        assert recommender.recommend("US").degraded == ()


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.abort, ()


def hostile(how: str, path: Path, other: bytes) -> None:
    blob = path.read_bytes()
    path.unlink()
    if how == "a pipe":
        os.mkfifo(path)
    elif how == "a directory":
        path.mkdir()
    elif how == "a link":
        aside = path.with_name("aside")
        aside.write_bytes(blob)
        path.symlink_to(aside)
    else:
        path.write_bytes(
            {
                "flipped": blob[:-20] + bytes([blob[-20] ^ 4]) + blob[-19:],
                "truncated": blob[:-8],
                "empty header": blob[:20],
                "longer than allowed": blob + bytes(70_000),
                "a pickle": pickle.dumps(Bomb()),
                "another segment's": other,
                "another bandit's": encode(renamed(decode(blob))),
                "of the future": encode(snapshot("IN", at=time.time() + 7200)),
            }[how]
        )


def renamed(held: Snapshot) -> Snapshot:
    return Snapshot(
        "other", held.segment, held.version, held.arms, held.alpha, held.beta, held.bank
    )


HOSTILE = {
    "flipped": "checksum",
    "truncated": "length",
    "empty header": "length",
    "longer than allowed": "length",
    "a pickle": "length|magic",
    "another segment's": "owner|another segment's",
    "another bandit's": "owner",
    "of the future": "hour ahead",
    "a pipe": "no ordinary file",
    "a directory": "no ordinary file|directory",
    "a link": "symbolic links",
}


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("how", HOSTILE)
def test_a_bad_file_is_refused_by_name_and_the_others_are_used(
    store: Store, away: Store, tmp_path: Path, how: str, watched: bool
) -> None:
    back_up(store, tmp_path, recent("IN"), recent("US"))
    path = file_of(tmp_path, "IN")
    hostile(how, path, file_of(tmp_path, "US").read_bytes())
    bandit = Bandit("home", away)
    given = ["IN", "US"] if watched else None
    with Recommender(
        bandit, given, backup=tmp_path, poll_s=None, max_blob_bytes=60_000
    ) as recommender:
        recommender.warm_up()
        assert recommender.recommend("US").source == "US"
        assert recommender.recommend("IN").source == "default"
        [(name, why)] = recommender.rejected.items()
    # Without a list of segments nobody can tell whose file it was.
    assert name == ("IN" if watched else f"backup/{path.name}")
    assert path.name in why
    assert re.search(HOSTILE[how], why)


def test_no_beginning_of_a_file_is_used(store: Store, away: Store, tmp_path: Path) -> None:
    back_up(store, tmp_path, recent("IN"))
    path = file_of(tmp_path, "IN")
    whole = path.read_bytes()
    for cut in [*range(1, 64, 7), *range(64, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with Recommender(Home(away), ["IN"], backup=tmp_path, poll_s=None) as recommender:
            with pytest.raises(StoreUnavailableError):
                recommender.warm_up()
            assert not recommender.ready
            assert list(recommender.rejected) == ["IN"]


def test_names_reach_no_other_file(store: Store, tmp_path: Path) -> None:
    odd = ["..", "../../x", "a/../../../b", "\n", "C:\\x", "é" * 100]
    below = tmp_path / "below"
    back_up(store, below, *(recent(path) for path in odd))
    found = files(tmp_path)
    assert len(found) == len(odd)
    assert all(re.fullmatch(r"[0-9a-f]{32}\.slates", path.name) for path in found)
    assert {path.parent.parent for path in found} == {below}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
    assert found[0].parent.stat().st_mode & 0o777 == 0o700


def test_a_file_is_written_again_when_it_is_old_enough(tmp_path: Path) -> None:
    first, soon, later = (encode(snapshot("IN", at=at)) for at in (1000.0, 1009.0, 1010.0))
    for kept in (
        Backup(tmp_path, "home", renew_after_s=10.0),
        Backup(tmp_path, "home", renew_after_s=10.0),  # another process: it looks at the file
    ):
        kept.save("IN", first, 1_000_000_000)
        kept.save("IN", soon, 1_009_000_000)
        assert kept.read(kept.file_of("IN"), max_bytes=10**6) == first
    kept.save("IN", later, 1_010_000_000)
    assert kept.read(kept.file_of("IN"), max_bytes=10**6) == later
    # What claims to be newer than what was just checked is not to be believed.
    kept.save("IN", first, 1_000_000_000)
    assert kept.read(kept.file_of("IN"), max_bytes=10**6) == first


def test_number_and_size_are_bounded_and_what_does_not_fit_is_said_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backup, "_MOST_FILES", 2)
    put(store, *(recent(path) for path in ("", "IN", "US", "DE")))
    with Recommender(Home(store, ["IN", "US", "DE"]), backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
        assert len(files(tmp_path)) == 2
        put(store, *(recent(path, seed=2) for path in ("", "IN", "US", "DE")))
        assert len(recommender.reload()) == 4
        assert "more than 2 files" in (recommender.polling.backup_error or "")
        [record] = caplog.records
        assert "is not written" in record.getMessage()
    monkeypatch.setattr(backup, "_MOST_FILES", 100)
    monkeypatch.setattr(backup, "_MOST_BYTES", 10)
    kept = Backup(tmp_path / "small", "home", renew_after_s=0.0)
    kept.save("IN", bytes(11), 1)
    kept.end()
    assert "10 bytes" in (kept.error or "")
    assert files(tmp_path / "small") == []


def test_a_directory_that_cannot_be_written_stops_nothing(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "banditcore.serving")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    put(store, recent("IN"))
    with Recommender(Home(store, ["IN"]), backup=blocked, poll_s=None) as recommender:
        recommender.warm_up()
        assert recommender.recommend("IN").degraded == ()
        assert "blocked" in (recommender.polling.backup_error or "")
        put(store, recent("IN", seed=2))
        assert recommender.reload() == ("IN",)
        blocked.unlink()
        put(store, recent("IN", seed=3))
        assert recommender.reload() == ("IN",)
        assert recommender.polling.backup_error is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(files(blocked)) == 1


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from banditcore.serving.backup import Backup
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
kept = Backup(Path(sys.argv[1]), "home", renew_after_s=0.0)
kept.begin()
kept.save("IN", bytes(5000), 2)
kept.end()
print(kept.error)
"""


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_a_write_that_fails_halfway_leaves_the_file_before(tmp_path: Path) -> None:
    kept = Backup(tmp_path, "home", renew_after_s=0.0)
    kept.save("IN", b"before", 1)
    assert "File too large" in run(FULL_DISK, str(tmp_path)).stdout
    [path] = files(tmp_path)
    assert path.read_bytes() == b"before"


WRITER = """
import sys
from pathlib import Path
from banditcore.serving.backup import Backup
from published import snapshot
from banditcore.slate_format import encode
kept = Backup(Path(sys.argv[1]), "home", renew_after_s=0.0)
blobs = [encode(snapshot("IN", at=1000.0 + i, arms=3000, seed=i)) for i in range(4)]
for version in range(1, 10**9):
    kept.save("IN", blobs[version % 4], version)
    if kept._failed: sys.exit(kept._failed)
    if version == 8: print("writing", flush=True)
"""


def test_processes_that_write_together_and_are_killed_leave_whole_files(tmp_path: Path) -> None:
    kept = Backup(tmp_path, "home", renew_after_s=0.0)
    name = kept.file_of("IN")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
        for _ in range(300):
            assert decode(kept.read(name, max_bytes=10**7)).segment == "IN"
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
    decode(kept.read(name, max_bytes=10**7))
    # What one leaves half written goes away when it is old.
    half = kept.directory / f"{name}.{'0' * 16}.part"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    fresh = Backup(tmp_path, "home", renew_after_s=0.0)
    fresh.save("US", encode(snapshot("US")), 1)
    assert not half.exists()


def test_files_of_nobody_go_after_a_week_and_those_of_others_stay(
    store: Store, tmp_path: Path
) -> None:
    back_up(store, tmp_path, recent("IN"), recent("US"), recent("DE"))
    other = Backup(tmp_path, "other", renew_after_s=0.0)
    other.save("X", b"x", 1)
    for path in (file_of(tmp_path, "US"), other.directory / other.file_of("X")):
        os.utime(path, (0, 0))
    store.client.delete(keys.of_segment("home", "US").blob)
    with Recommender(Home(store, ["IN"]), backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
    assert set(files(tmp_path)) == {
        file_of(tmp_path, "IN"),
        file_of(tmp_path, "DE"),
        other.directory / other.file_of("X"),
    }


def test_a_backup_is_a_path(store: Store) -> None:
    with pytest.raises(InvalidTypeError, match="backup"):
        Recommender(Home(store), backup=3)  # type: ignore[arg-type]
