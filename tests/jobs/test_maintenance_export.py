"""An export comes back to the bit, or not at all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.cli.app import main
from banditcore.errors import (
    ConfigurationConflictError,
    CorruptDataError,
    InvalidValueError,
    PartlyAppliedError,
    StoreError,
)
from banditcore.events import EventColumns
from banditcore.grouping import by_segment
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog
from banditcore.maintenance.export_format import HEAD, SEGMENT, RecordReader
from banditcore.maintenance.exporting import export_bandit
from banditcore.maintenance.forget import forget_bandit
from banditcore.maintenance.importing import exported_name, import_bandit
from banditcore.maintenance.verify import verify_store
from banditcore.recording import Applied
from banditcore.store import Store, connect, keys
from banditcore.store.counts import index
from banditcore.store.counts.dump import dump, restore
from banditcore.store.counts.updates import OrderedUpdate
from banditcore.store.functions import calling, maintenance_library
from banditcore.store.seals import seal, unseal
from bandits import everything, table
from proxy import proxy_before
from servers import running_server

NOW = 1_790_000_000
ODD = "a\0{}:\n/é" + "x" * 200


def filled(store: Store, directory: Path) -> Bandit:
    log = directory / "log.csv"
    log.write_text("segment,arm,reward,time\n" + f"IN/m,a,1,{NOW}\n" * 3 + f"US,b,0,{NOW}\n")
    bandit = Bandit("home", store, half_life=dt.timedelta(days=7), window=dt.timedelta(hours=2))
    ingest_log(bandit, EventLog(log))
    arms = [f"arm {i}" for i in range(300)]
    rewards = np.random.default_rng(5).random(300)
    bandit.record_batch({"segment": [ODD] * 300, "arm": arms, "reward": rewards})
    bandit.record(ODD, ODD, reward=1, event_id="7")
    bandit.record("", "everywhere")
    bandit.retire("US", ["b"])
    return bandit


def contents(store: Store) -> dict[bytes, object]:
    """All there is, with the moments at which sets expire."""
    times = {key + b"!": store.client.pexpiretime(key) for key in store.client.scan_iter()}
    return {**everything(store), **times}


def emptied(store: Store) -> None:
    store.client.flushall()
    assert store.client.dbsize() == 0


def test_the_round_trip_is_exact(any_store: Store, tmp_path) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    before = contents(any_store)
    seen: list[tuple[int, int, str]] = []
    report = export_bandit(bandit, file, progress=lambda *where: seen.append(where))
    assert (report.bandit, report.segments, report.bytes) == ("home", 4, file.stat().st_size)
    assert [where[:2] for where in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert contents(any_store) == before
    assert exported_name(file) == "home"
    emptied(any_store)
    seen.clear()
    read = import_bandit(any_store, file, progress=lambda *where: seen.append(where))
    assert (read.bandit, read.exported_as, read.segments) == ("home", "home", 4)
    assert abs(read.exported_at - any_store.server_time()) < 60
    assert [where[:2] for where in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert contents(any_store) == before
    assert verify_store(any_store).findings == ()


def test_slates_are_made_again_not_exported(any_store: Store, tmp_path) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    bandit.refresh(depth=3, slates=3)
    export_bandit(bandit, file)
    emptied(any_store)
    import_bandit(any_store, file)
    assert not any_store.client.exists(keys.of_segment("home", "").blob)
    assert len(Bandit("home", any_store).refresh(depth=3, slates=3).published) == 6


def test_under_another_name_in_another_store(store: Store, tmp_path) -> None:
    bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    before = everything(store)
    import_bandit(store, file, name="copy")
    copy = Bandit("copy", store)
    assert copy.segments() == bandit.segments()
    for segment in bandit.segments():
        assert table(copy.counts(segment, as_of=NOW)) == table(bandit.counts(segment, as_of=NOW))
    assert (copy.half_life, copy.window) == (dt.timedelta(days=7), dt.timedelta(hours=2))
    copy.record("IN/m", "new")
    assert verify_store(store).is_clean
    after = everything(store)
    assert {key: after[key] for key in before if key != b"bc:bandits"} == {
        key: value for key, value in before.items() if key != b"bc:bandits"
    }
    with running_server("valkey") as server, connect(server.url) as other:
        import_bandit(other, file)
        assert everything(other) == before


def test_what_was_counted_before_the_export_is_not_counted_again(
    any_store: Store, tmp_path
) -> None:
    log, file = tmp_path / "log.csv", tmp_path / "home.bce"
    log.write_text("segment,arm,reward,time\n" + f"IN,a,1,{NOW}\nUS,b,0,{NOW}\n" * 10)
    bandit = Bandit("home", any_store)
    ingest_log(bandit, EventLog(log))
    assert bandit.record("IN", "a", event_id="7") == Applied(1, 0, 0)
    export_bandit(bandit, file)
    with log.open("a") as lines:
        lines.write(f"IN,a,1,{NOW}\nNEW,c,1,{NOW}\n")
    ingest_log(bandit, EventLog(log))  # after the export: lost with the any_store
    emptied(any_store)
    import_bandit(any_store, file)
    bandit = Bandit("home", any_store)
    report = ingest_log(bandit, EventLog(log))
    assert (report.applied, report.duplicate) == (2, 0)  # the checkpoint came along
    report = ingest_log(bandit, EventLog(log), rescan=True)
    assert (report.applied, report.duplicate) == (0, 22)  # and the marks
    assert bandit.record("IN", "a", event_id="7") == Applied(0, 1, 0)  # and the window
    assert table(bandit.counts("IN")) == {"a": (12, 11)}
    assert table(bandit.counts("NEW")) == {"c": (1, 1)}


def test_a_writer_that_goes_on_is_not_torn(any_store: Store, tmp_path) -> None:
    """Each update adds one trial and moves the mark by one: in a file both are of one moment."""
    bandit, mark, file = Bandit("home", any_store), keys.mark_field("s", "0"), tmp_path / "home.bce"
    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        offset = 0
        while not stop.is_set():
            columns = EventColumns.of({"segment": ["IN"], "arm": ["a"], "reward": [1]}, now=NOW)
            [group] = by_segment(columns)
            expected = str(offset) if offset else ""
            update = OrderedUpdate(group, mark, 1, expected, str(offset + 1))
            assert bandit.statistics.apply([update])[0].word == "OK"
            offset += 1
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert started.wait(60)
        moments = []
        for number in range(10):
            export_bandit(bandit, file)
            name = f"copy {number}"
            import_bandit(any_store, file, name=name)
            [dumped] = dump(any_store, name, ["IN"])
            offset = int(unseal(dumped.fields[mark.encode()], "mark", "").split()[1])
            assert table(Bandit(name, any_store).counts("IN")) == {"a": (offset, offset)}
            moments.append(offset)
    finally:
        stop.set()
        writer.join()
    assert moments[-1] > moments[0]  # it did go on


def test_a_bandit_that_exists_is_kept_unless_it_is_to_be_replaced(
    any_store: Store, tmp_path
) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    wanted = contents(any_store)
    bandit.record("IN/m", "later")
    bandit.record("LATER", "a")
    before = contents(any_store)
    with pytest.raises(ConfigurationConflictError, match="replace it, or import under another"):
        import_bandit(any_store, file)
    assert contents(any_store) == before
    import_bandit(any_store, file, replace=True)
    assert contents(any_store) == wanted
    forget_bandit(any_store, "home")
    Bandit("home", any_store)._settings()  # settings without segments: empty
    import_bandit(any_store, file)
    assert contents(any_store) == wanted


def test_an_import_that_fails_half_way_is_out_of_sight_and_goes_on(
    any_store: Store, tmp_path
) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    wanted = contents(any_store)
    emptied(any_store)

    def fail(done: int, total: int, where: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_bandit(any_store, file, progress=fail)
    writer = Bandit("home", any_store)
    assert writer.segments() == []
    # Nobody can add to what is half there, or take it for the whole.
    with pytest.raises(ConfigurationConflictError, match="being imported"):
        writer.record("US", "x")
    with pytest.raises((PartlyAppliedError, ConfigurationConflictError), match="being imported"):
        bandit.record("US", "x")  # agreed on its settings before
    assert not verify_store(any_store).is_clean
    import_bandit(any_store, file)
    assert {key: value for key, value in contents(any_store).items() if key in wanted} == wanted
    assert verify_store(any_store).findings == ()
    assert writer.record("US", "x") == Applied(1, 0, 0)


def test_the_later_of_two_imports_wins(any_store: Store, tmp_path) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    wanted = contents(any_store)
    emptied(any_store)

    def overtake(done: int, total: int, where: str) -> None:
        if done == total:
            import_bandit(any_store, file)

    with pytest.raises(ConfigurationConflictError, match="another import"):
        import_bandit(any_store, file, progress=overtake)
    assert contents(any_store) == wanted


def test_one_import_does_not_end_another(any_store: Store, tmp_path) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    emptied(any_store)

    def begin_again(done: int, total: int, where: str) -> None:
        if done == total:
            of = keys.of_bandit("home")
            other = maintenance_library.begin_import(of, token=b"other", paths=b"", bandit=b"home")
            calling.run(any_store, [other])

    with pytest.raises(ConfigurationConflictError, match="another import"):
        import_bandit(any_store, file, progress=begin_again)
    assert Bandit("home", any_store).segments() == []


def test_a_window_whose_time_is_over_stays_away(any_store: Store, tmp_path) -> None:
    bandit = filled(any_store, tmp_path)
    [dumped] = dump(any_store, "home", [ODD])
    late = dataclasses.replace(dumped, expiries=(1, 1), digests=(b"e" * 16, b"o" * 16))
    restore(any_store, "home", ODD, late)
    assert not any_store.client.exists(keys.of_segment("home", ODD).even)
    assert not any_store.client.exists(keys.of_segment("home", ODD).odd)
    assert verify_store(any_store).is_clean
    assert bandit.record(ODD, ODD, event_id="7") == Applied(1, 0, 0)


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def small(store: Store, tmp_path) -> bytes:
    """A file of some hundred bytes with every kind of record."""
    bandit, path = Bandit("h", store), tmp_path / "small.bce"
    bandit.record("I", "a", reward=0.5, event_id="7")
    store.client.hset(keys.of_bandit("h").checkpoints, "log:1", '[1, 1, "x", "", 0]')
    export_bandit(bandit, path)
    emptied(store)
    return path.read_bytes()


def read(path: Path, raw: bytes) -> list[tuple[int, list[bytes]]]:
    path.write_bytes(raw)
    return list(RecordReader(path).records())


def test_every_truncation_is_refused(small: bytes, tmp_path) -> None:
    path = tmp_path / "x"
    assert [kind for kind, _ in read(path, small)] == [1, 2, 3]
    for length in range(len(small)):
        with pytest.raises(InvalidValueError, match="cannot be imported"):
            read(path, small[:length])
    with pytest.raises(InvalidValueError, match="does not fit"):
        read(path, small + b"\0")


def test_every_flipped_bit_is_refused(small: bytes, tmp_path) -> None:
    path = tmp_path / "x"
    assert len(small) < 1000
    for at in range(8 * len(small)):
        flipped = bytearray(small)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(InvalidValueError, match="cannot be imported"):
            read(path, bytes(flipped))


def test_records_that_are_left_out_doubled_or_swapped_are_refused(
    any_store: Store, tmp_path
) -> None:
    """Each record's own checksum is right; that of the whole, or the order, is not."""
    path = tmp_path / "x"
    bandit = Bandit("h", any_store)
    bandit.record_batch({"segment": ["I", "U"], "arm": ["a", "a"], "reward": [1, 0]})
    export_bandit(bandit, path)
    whole = path.read_bytes()
    at, cuts = 8, [8]
    while at < len(whole):
        at += 16 + int.from_bytes(whole[at + 4 : at + 12], "little")
        cuts.append(at)
    start, parts = whole[:8], [whole[a:b] for a, b in itertools.pairwise(cuts)]
    assert len(parts) == 5  # head, checkpoints, two segments, end
    orders = {order for n in range(7) for order in itertools.product(range(5), repeat=n)}
    orders.remove((0, 1, 2, 3, 4))
    rng = np.random.default_rng(7)
    # Those that come closest, and some thousand of all the others.
    close = {(0, 1, 3, 2, 4), (0, 1, 2, 2, 4), (0, 1, 3, 3, 4), (0, 1, 4), (0, 1, 2, 4), (4,)}
    others = sorted(orders)
    for order in [*close, *(others[i] for i in rng.integers(0, len(others), 3000))]:
        with pytest.raises(InvalidValueError, match="cannot be imported"):
            read(path, b"".join([start, *(parts[i] for i in order)]))
    assert len(read(path, whole)) == 4


@pytest.mark.parametrize("cut", [40, -1])
def test_a_damaged_file_changes_nothing(any_store: Store, small: bytes, tmp_path, cut: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(small[:cut])
    Bandit("h", any_store).record("I", "b")
    before = contents(any_store)
    with pytest.raises(InvalidValueError, match="cut"):
        import_bandit(any_store, path, replace=True)
    assert contents(any_store) == before
    with pytest.raises(FileNotFoundError):
        import_bandit(any_store, tmp_path / "none")


def test_another_schema_and_another_file_are_named(small: bytes, tmp_path) -> None:
    path = tmp_path / "x"
    with pytest.raises(InvalidValueError, match=r"schema is 3: this release reads 2"):
        read(path, small[:4] + b"\3" + small[5:])
    with pytest.raises(InvalidValueError, match=r"schema is 1: .* ingest its logs anew"):
        read(path, small[:4] + b"\1" + small[5:])  # its values have no checksums
    with pytest.raises(InvalidValueError, match="no export of banditcore"):
        read(path, b"segment,arm,reward\n")


def test_a_failed_export_leaves_the_old_file(any_store: Store, tmp_path) -> None:
    bandit = filled(any_store, tmp_path)
    directory = tmp_path / "files"
    directory.mkdir()
    file = directory / "home.bce"
    export_bandit(bandit, file)
    before = file.read_bytes()

    def fail(done: int, total: int, where: str) -> None:
        raise KeyboardInterrupt

    bandit.record("", "more")
    with pytest.raises(KeyboardInterrupt):
        export_bandit(bandit, file, progress=fail)
    any_store.client.delete(keys.of_segment("home", ODD).arms)
    any_store.client.rpush(keys.of_segment("home", ODD).arms, "x")
    with pytest.raises(CorruptDataError, match="run verify"):
        export_bandit(bandit, file)
    any_store.client.function_flush()
    with pytest.raises(InvalidValueError, match="no such bandit"):
        export_bandit(Bandit("hone", any_store), file)
    assert file.read_bytes() == before
    assert list(directory.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        export_bandit(bandit, tmp_path / "none" / "home.bce")


def test_what_is_no_digest_stops_an_export(any_store: Store, tmp_path) -> None:
    bandit = filled(any_store, tmp_path)
    of = keys.of_segment("home", ODD)
    for key in (of.even, of.odd):
        any_store.client.sadd(key, b"x")
    with pytest.raises(CorruptDataError, match="no digests"):
        export_bandit(bandit, tmp_path / "home.bce")


def test_large_windows_and_many_chunks_come_back(any_store: Store, tmp_path) -> None:
    """More digests and fields than a script can pass on at once."""
    bandit, file, n = Bandit("home", any_store), tmp_path / "home.bce", 2500
    columns = {
        "segment": ["IN"] * n,
        "arm": [f"arm {i}" for i in range(n)],
        "reward": [1] * n,
        "event_id": [str(i) for i in range(n)],
    }
    bandit.record_batch(columns)
    state = keys.of_segment("home", "IN").state
    any_store.client.hset(
        state, mapping={keys.mark_field("s", str(i)): seal(b"1 %d" % i) for i in range(1, 1200)}
    )
    export_bandit(bandit, file)
    before = contents(any_store)
    emptied(any_store)
    import_bandit(any_store, file)
    assert contents(any_store) == before
    assert Bandit("home", any_store).record_batch(columns) == Applied(0, n, 0)


def test_a_store_that_goes_away_stops_an_import(tmp_path) -> None:
    with running_server("valkey") as server, connect(server.url, timeout_s=60) as store:
        bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
        export_bandit(bandit, file)
        assert [kind for kind, _ in RecordReader(file).records()].count(SEGMENT) == 4
        emptied(store)

        def kill(done: int, total: int, where: str) -> None:
            server.process.kill()
            server.process.wait()

        with pytest.raises(StoreError):
            import_bandit(store, file, progress=kill)


def cut_short(store: Store, file: Path, after: int) -> None:
    """Import until `after` segments are written, as a process that is killed."""

    class KilledError(Exception):
        pass

    def stop(done: int, total: int, where: str) -> None:
        if done == after:
            raise KilledError

    with pytest.raises(KilledError):
        import_bandit(store, file, progress=stop)


def test_what_an_import_left_that_is_never_repeated_can_be_forgotten(
    any_store: Store, tmp_path
) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    emptied(any_store)
    cut_short(any_store, file, 3)
    assert sum(len(list(c.scan_iter())) for c in any_store.servers().values()) > 3
    assert len(forget_bandit(any_store, "home", dry_run=True).segments) >= 3
    forget_bandit(any_store, "home")
    assert [key for c in any_store.servers().values() for key in c.scan_iter()] == []


@pytest.mark.parametrize("remedy", ["import", "forget"])
def test_verify_says_what_a_first_import_left_and_how_to_go_on(
    any_store: Store, tmp_path, remedy: str
) -> None:
    bandit, file = filled(any_store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    emptied(any_store)
    cut_short(any_store, file, 3)
    [found] = verify_store(any_store).findings
    assert (found.bandit, found.where) == ("home", keys.of_bandit("home").settings)
    assert found.what.startswith("its first import has not ended: ")
    assert "import again, or forget" in found.remedy
    assert not found.is_note
    arguments = ["--url", any_store.url]
    if remedy == "import":
        assert main(["import", str(file), *arguments]) == 0
    else:
        assert main(["forget", "home", "--yes", *arguments]) == 0
        assert [key for c in any_store.servers().values() for key in c.scan_iter()] == []
    assert verify_store(any_store).findings == ()


@pytest.mark.parametrize("remedy", ["import", "forget"])
@pytest.mark.parametrize("request_of_it", [b"SADD", b"end_import"])
def test_an_import_that_is_cut_at_its_end_can_go_on(
    tmp_path, capsys, request_of_it: bytes, remedy: str
) -> None:
    with running_server() as server, proxy_before(server.socket_path) as proxy:
        arguments = ["--url", server.url]
        with connect(server.url) as store, connect(proxy.url) as cut:
            bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
            export_bandit(bandit, file)
            wanted = contents(store)
            del wanted[keys.BANDITS.encode()]
            emptied(store)
            Bandit("other", store).record("IN", "a")
            proxy.cut_next_request(request_of_it, 0)
            with pytest.raises(StoreError):
                import_bandit(cut, file)
            assert {each.bandit for each in verify_store(store).findings} == {"home"}
            assert main(["inspect", *arguments]) == 0  # the others are there
            assert "other" in capsys.readouterr().out
            if remedy == "import":
                assert main(["import", str(file), *arguments]) == 0
            else:
                assert main(["forget", "home", "--yes", *arguments]) == 0
                assert index.bandits(store) == ["other"]
                import_bandit(store, file)
            assert index.bandits(store) == ["home", "other"]
            assert verify_store(store).findings == ()
            assert wanted.items() <= contents(store).items()


@pytest.mark.parametrize("name", [b"SADD", b"end_import"])
def test_an_import_whose_last_replies_are_lost_is_complete_or_goes_on(
    tmp_path, name: bytes
) -> None:
    with (
        running_server() as server,
        proxy_before(server.socket_path) as proxy,
        connect(server.url) as store,
        connect(proxy.url) as cut,
    ):
        bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
        export_bandit(bandit, file)
        wanted = contents(store)
        emptied(store)
        proxy.lose_next_reply(name)
        with pytest.raises(StoreError):
            import_bandit(cut, file)
        if name == b"SADD":
            assert {each.bandit for each in verify_store(store).findings} == {"home"}
            import_bandit(store, file)
        assert index.bandits(store) == ["home"]
        assert verify_store(store).findings == ()
        assert wanted.items() <= contents(store).items()


def test_a_first_import_whose_list_is_damaged_is_told(store: Store, tmp_path) -> None:
    bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    emptied(store)
    cut_short(store, file, 1)
    key = keys.of_bandit("home").settings
    store.client.hset(key, "s", store.client.hget(key, "s")[:-1])
    first, *others = verify_store(store).findings
    assert (first.bandit, first.where) == ("home", key)
    assert "HDEL s" in first.what
    # Nobody can tell whose these are.
    assert {other.what for other in others} == {"belongs to no bandit or segment of the index"}
    for name in ("other", b"\xff", ""):
        store.client.hset(key, "b", name)
        assert all(each.bandit is None for each in verify_store(store).findings)


def test_the_import_of_another_file_removes_what_the_first_left(any_store: Store, tmp_path) -> None:
    file, other = tmp_path / "home.bce", tmp_path / "other.bce"
    bandit = filled(any_store, tmp_path)
    export_bandit(bandit, file)
    emptied(any_store)
    Bandit("home", any_store).record("ELSE", "a")
    export_bandit(Bandit("home", any_store), other)
    wanted = contents(any_store)
    emptied(any_store)
    cut_short(any_store, file, 2)
    cut_short(any_store, file, 3)
    import_bandit(any_store, other)
    assert contents(any_store) == wanted
    assert verify_store(any_store).findings == ()


def test_a_list_of_segments_that_is_damaged_says_what_to_remove(store: Store, tmp_path) -> None:
    bandit, file = filled(store, tmp_path), tmp_path / "home.bce"
    export_bandit(bandit, file)
    emptied(store)
    cut_short(store, file, 2)
    key = keys.of_bandit("home").settings
    store.client.hset(key, "s", store.client.hget(key, "s")[:-1])
    for action in (forget_bandit, lambda store, _: import_bandit(store, file)):
        with pytest.raises(CorruptDataError):
            action(store, "home")
    store.client.hdel(key, "s")
    forget_bandit(store, "home")


def test_the_head_names_the_bandit(small: bytes, tmp_path) -> None:
    kind, parts = read(tmp_path / "x", small)[0]
    assert (kind, parts[0]) == (HEAD, b"h")
