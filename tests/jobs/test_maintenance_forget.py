"""What is forgotten is gone everywhere, whole, and beside writers."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import ConfigurationConflictError, CorruptDataError, InvalidValueError
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog
from banditcore.maintenance.forget import forget_arm, forget_bandit, forget_segment
from banditcore.maintenance.slates_without import without_arm
from banditcore.maintenance.verify import verify_store
from banditcore.recording import Applied
from banditcore.serving import Recommender
from banditcore.slate_format import decode
from banditcore.slates import SlateBank, Snapshot
from banditcore.store import Store, keys, publish
from banditcore.store.counts import index
from banditcore.store.publish import fetch_one
from bandits import everything, table
from published import rows, snapshot

NOW = 1_790_000_000
PATHS = ("IN", "IN/m", "IN/m/new", "US/m")


def filled(store: Store, name: str = "home") -> Bandit:
    """Arms a and b at four segments, recorded with event ids; slates of them and ancestors."""
    bandit = Bandit(name, store)
    for i, path in enumerate(PATHS):
        bandit.record(path, "a", reward=1, event_id=f"a{i}")
        bandit.record(path, "b", event_id=f"b{i}")
    bandit.record("US/m", "c")
    bandit.refresh(depth=3, slates=8, segments=None)
    return bandit


def published(store: Store, path: str) -> Snapshot | None:
    blob = fetch_one(store, "home", path)
    return decode(blob) if blob else None


def log_at(directory: Path) -> EventLog:
    path = directory / "log.csv"
    path.write_text("segment,arm,reward,time\n" + f"IN,a,1,{NOW}\n" * 3 + f"US,b,0,{NOW}\n")
    return EventLog(path)


# --- a bandit ------------------------------------------------------------------------------------


def test_a_bandit_leaves_nothing_behind_and_nobody_elses_keys_change(any_store: Store) -> None:
    other = filled(any_store, "other")
    before = everything(any_store)
    filled(any_store)
    full = everything(any_store)
    planned = forget_bandit(any_store, "home", dry_run=True)
    assert everything(any_store) == full
    assert planned.segments == {"IN": 2, "IN/m": 2, "IN/m/new": 2, "US/m": 3}
    assert planned.slates == ("", "IN", "US", "IN/m", "US/m", "IN/m/new")
    assert forget_bandit(any_store, "home") == planned
    assert everything(any_store) == before
    assert other.segments() == sorted(PATHS)
    with pytest.raises(InvalidValueError, match="no such bandit"):
        forget_bandit(any_store, "home")
    forget_bandit(any_store, "other")
    assert everything(any_store) == {}


def test_a_bandit_begins_anew_with_a_writer_that_knew_it(any_store: Store, tmp_path) -> None:
    log = log_at(tmp_path)
    bandit = Bandit("home", any_store, half_life=dt.timedelta(days=3))
    ingest_log(bandit, log)
    before = bandit.counts("IN", as_of=NOW)
    forget_bandit(any_store, "home")
    assert ingest_log(bandit, log).applied == 4  # its checkpoints went too
    assert bandit.counts("IN", as_of=NOW).trials == pytest.approx(before.trials)
    assert bandit.half_life == dt.timedelta(days=3)
    assert verify_store(any_store).is_clean


def test_a_bandit_that_is_written_to_meanwhile_stays_whole(any_store: Store, monkeypatch) -> None:
    bandit = filled(any_store)
    remove = index.remove

    def and_then_a_writer(*given: object) -> None:
        remove(*given)
        bandit.record("NEW", "a")

    monkeypatch.setattr(index, "remove", and_then_a_writer)
    with pytest.raises(ConfigurationConflictError, match="stop its writers"):
        forget_bandit(any_store, "home")
    assert bandit.segments() == ["NEW"]
    assert table(bandit.counts("", descendants=True)) == {"a": (1, 0)}
    assert verify_store(any_store).is_clean
    monkeypatch.undo()
    forget_bandit(any_store, "home")
    assert everything(any_store) == {}


def test_a_writer_that_begins_anew_keeps_the_bandit_in_sight(any_store: Store, monkeypatch) -> None:
    """It writes after all is removed, and before the name leaves the index."""
    bandit = filled(any_store)
    withdraw = index.withdraw

    def after_a_writer(*given: object) -> None:
        bandit.record("NEW", "a")
        withdraw(*given)

    monkeypatch.setattr(index, "withdraw", after_a_writer)
    forget_bandit(any_store, "home")
    assert index.bandits(any_store) == ["home"]
    assert bandit.segments() == ["NEW"]
    assert verify_store(any_store).is_clean


# --- segments ------------------------------------------------------------------------------------


def test_a_segment_alone_or_with_those_below(any_store: Store) -> None:
    bandit = filled(any_store)
    assert forget_segment(bandit, "IN").segments == {"IN": 2}
    assert bandit.segments() == ["IN/m", "IN/m/new", "US/m"]
    assert len(bandit.counts("IN")) == 0
    assert published(any_store, "IN") is None
    assert verify_store(any_store).is_clean
    gone = forget_segment(bandit, "IN", descendants=True)
    assert (gone.segments, gone.slates) == ({"IN/m": 2, "IN/m/new": 2}, ("IN/m", "IN/m/new"))
    assert bandit.segments() == ["US/m"]
    assert published(any_store, "IN/m") is None
    assert verify_store(any_store).is_clean
    # The last one takes the slates of ancestors with it that exist only through it.
    gone = forget_segment(bandit, "US/m")
    assert gone.slates == ("US/m", "", "US")
    assert verify_store(any_store).findings == ()
    left = everything(any_store)
    assert set(left) == {b"bc:bandits", keys.of_bandit("home").settings.encode()}


def test_only_what_is_stored_can_be_forgotten(any_store: Store) -> None:
    bandit = filled(any_store)
    before = everything(any_store)
    for path in ("", "U", "IN/m/ne"):
        if path:
            with pytest.raises(InvalidValueError, match="nothing is stored there"):
                forget_segment(bandit, path)
    with pytest.raises(InvalidValueError, match="no empty part"):
        forget_segment(bandit, "IN/")
    assert forget_segment(bandit, "IN", descendants=True, dry_run=True).segments
    assert everything(any_store) == before


def test_a_writer_goes_on_with_a_new_segment(any_store: Store) -> None:
    bandit, state = filled(any_store), keys.of_segment("home", "IN/m").state
    token = any_store.client.hget(state, "t")
    forget_segment(Bandit("home", any_store), "IN/m")
    assert bandit.record("IN/m", "b", reward=1, event_id="b1") == Applied(1, 0, 0)  # forgotten too
    assert table(bandit.counts("IN/m")) == {"b": (1, 1)}
    assert any_store.client.hget(state, "t") != token
    assert verify_store(any_store).is_clean


def test_what_a_rescan_counts_again(any_store: Store, tmp_path) -> None:
    log, bandit = log_at(tmp_path), Bandit("home", any_store)
    ingest_log(bandit, log)
    forget_segment(bandit, "IN")
    report = ingest_log(bandit, log)
    assert (report.applied, report.duplicate) == (0, 0)  # the checkpoint stays
    assert bandit.segments() == ["US"]
    report = ingest_log(bandit, log, rescan=True)
    assert (report.applied, report.duplicate) == (3, 1)  # the mark went with the segment
    assert table(bandit.counts("IN")) == {"a": (3, 3)}


def test_with_its_marks_kept_a_segment_counts_nothing_again(any_store: Store, tmp_path) -> None:
    log, bandit = log_at(tmp_path), Bandit("home", any_store)
    ingest_log(bandit, log)
    for arms in (1, 0):
        bandit.record("IN", "a", event_id="7")
        [before] = bandit.reader.look(["IN"])
        gone = forget_segment(bandit, "IN", keep_marks=True)
        assert gone.segments == {"IN": arms}
        [after] = bandit.reader.look(["IN"])
        assert after.version == before.version.next_epoch()  # slots mean other arms
        assert bandit.segments() == ["IN", "US"]
        assert len(bandit.counts("IN")) == 0
        assert verify_store(any_store).is_clean
        report = ingest_log(bandit, log, rescan=True)
        assert (report.applied, report.duplicate) == (0, 4)
        assert bandit.record("IN", "a", event_id="7") == Applied(0, 1, 0)
    assert bandit.record("IN", "b", event_id="8") == Applied(1, 0, 0)
    assert table(bandit.counts("IN")) == {"b": (1, 0)}


def test_marks_of_a_damaged_segment_cannot_be_kept(any_store: Store) -> None:
    bandit = filled(any_store)
    any_store.client.hset(keys.of_segment("home", "IN").state, "v", "x")
    before = everything(any_store)
    with pytest.raises(CorruptDataError, match="forget them too"):
        forget_segment(bandit, "IN", keep_marks=True)
    assert everything(any_store) == before
    forget_segment(bandit, "IN")
    assert verify_store(any_store).is_clean


def test_the_first_counts_of_an_ancestor_are_not_taken_along(any_store: Store, monkeypatch) -> None:
    """A writer gives it some after the index was read."""
    bandit = Bandit("home", any_store)
    bandit.record("IN/m", "a")
    bandit.refresh(depth=1, slates=1)
    withdraw = publish.withdraw

    def after_a_writer(*given: object) -> None:
        bandit.record("IN", "new")
        withdraw(*given)

    monkeypatch.setattr(publish, "withdraw", after_a_writer)
    forget_segment(Bandit("home", any_store), "IN/m")
    assert bandit.segments() == ["IN"]
    assert table(bandit.counts("IN")) == {"new": (1, 0)}
    assert published(any_store, "IN") is published(any_store, "") is None
    assert verify_store(any_store).is_clean


def test_a_writer_between_the_steps_keeps_its_segment_in_sight(
    any_store: Store, monkeypatch
) -> None:
    """It makes the segment anew after it was removed, and before it leaves the index."""
    bandit = filled(any_store)
    remove = index.remove

    def after_a_writer(*given: object) -> None:
        bandit.record("IN/m", "new")
        remove(*given)

    monkeypatch.setattr(index, "remove", after_a_writer)
    forget_segment(Bandit("home", any_store), "IN/m")
    assert "IN/m" in bandit.segments()
    assert table(bandit.counts("IN/m")) == {"new": (1, 0)}
    assert verify_store(any_store).is_clean


def test_a_writer_whose_entry_is_taken_out_enters_it_again(any_store: Store, monkeypatch) -> None:
    """Its segment is forgotten after it entered it, and before it makes it."""
    filled(any_store)
    bandit, add, calls = Bandit("home", any_store), index.add, []

    def and_then_forget(*given: object) -> None:
        add(*given)
        calls.append(given)
        if len(calls) == 1:
            forget_segment(Bandit("home", any_store), "IN/m")

    monkeypatch.setattr(index, "add", and_then_forget)
    bandit.record("IN/m", "new")
    assert "IN/m" in bandit.segments()
    assert table(bandit.counts("IN/m")) == {"new": (1, 0)}
    assert verify_store(any_store).is_clean


def test_beside_writers_an_update_is_gone_or_counted_whole(any_store: Store) -> None:
    """Each batch adds one trial to every one of 200 arms, in two chunks: all have the same."""
    stop, failed = threading.Event(), []
    arms = [f"arm {i}" for i in range(200)]
    batch = {"segment": ["IN"] * 200, "arm": arms, "reward": [1] * 200}

    def write() -> None:
        bandit = Bandit("home", any_store)
        try:
            while not stop.is_set():
                assert bandit.record_batch(batch) == Applied(200, 0, 0)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        bandit = Bandit("home", any_store)
        for i in range(40):
            while not len(bandit.counts("IN")):
                pass
            forget_segment(bandit, "IN", keep_marks=i % 2 == 0)
            counts = bandit.counts("IN")
            assert len(set(counts.trials.tolist())) <= 1
            assert len(counts) in (0, 200)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert verify_store(any_store).is_clean


# --- arms ----------------------------------------------------------------------------------------


def test_an_arm_goes_everywhere_and_from_the_slates(any_store: Store) -> None:
    bandit = filled(any_store)
    recommender = Recommender(bandit, poll_s=None)
    recommender.warm_up()
    before = {path: published(any_store, path) for path in ("", "IN", "IN/m", "US", "US/m")}
    full = everything(any_store)
    planned = forget_arm(bandit, "a", dry_run=True)
    assert everything(any_store) == full
    assert planned.segments == dict.fromkeys(sorted(PATHS), 1)
    assert planned.slates == ("", "IN", "US", "IN/m", "US/m", "IN/m/new")
    seen: list[tuple[int, int, str]] = []
    assert forget_arm(bandit, "a", progress=lambda *where: seen.append(where)) == planned
    assert [where[:2] for where in seen] == [(i, 4) for i in range(1, 5)]
    assert table(bandit.counts("", descendants=True)).keys() == {"b", "c"}
    for path, old in before.items():
        new = published(any_store, path)
        assert new.version == old.version
        assert rows(new) == [tuple(arm for arm in row if arm != "a") for row in rows(old)]
    assert verify_store(any_store).findings == ()
    recommender.reload()
    for path in before:
        assert "a" not in recommender.recommend(path, 5).arms
    recommender.close()
    with pytest.raises(InvalidValueError, match="has none of that name"):
        forget_arm(bandit, "a")


def test_an_arm_of_one_segment_stays_in_slates_that_tell_of_others(any_store: Store) -> None:
    bandit = filled(any_store)
    gone = forget_arm(bandit, "a", segment="IN/m", descendants=False)
    # IN/m/new has it still, so the slates of IN/m do; nobody's slates lose it.
    assert (gone.segments, gone.slates) == ({"IN/m": 1}, ())
    assert table(bandit.counts("IN/m")).keys() == {"b"}
    gone = forget_arm(bandit, "a", segment="IN/m", descendants=True)
    assert (gone.segments, gone.slates) == ({"IN/m/new": 1}, ("IN/m", "IN/m/new"))
    assert "a" in published(any_store, "IN").arms
    assert "a" not in published(any_store, "IN/m").arms
    gone = forget_arm(bandit, "c")
    assert (gone.segments, gone.slates) == ({"US/m": 1}, ("", "US", "US/m"))
    assert verify_store(any_store).findings == ()


def test_an_arm_that_is_only_in_slates(any_store: Store) -> None:
    bandit = filled(any_store)
    bandit.retire("US/m", ["c"])
    assert forget_arm(bandit, "c").slates == ("", "US", "US/m")
    assert verify_store(any_store).findings == ()


def test_a_snapshot_without_an_arm_is_the_ranking_of_the_others() -> None:
    held = snapshot("IN", arms=30, slates=16, depth=12)
    for arm in held.arms:
        changed = without_arm(held, arm)
        assert changed.arms == tuple(other for other in held.arms if other != arm)
        assert rows(changed) == [tuple(o for o in row if o != arm) for row in rows(held)]
        wanted = dict(zip(held.arms, zip(held.alpha, held.beta, strict=True), strict=True))
        assert all(
            wanted[other] == (alpha, beta)
            for other, alpha, beta in zip(changed.arms, changed.alpha, changed.beta, strict=True)
        )


def test_a_snapshot_down_to_its_last_arms() -> None:
    bank = SlateBank([[0, 1], [1, 0]])
    two = Snapshot("home", "", 7, ["a", "b"], np.array([1.0, 2.0]), np.array([3.0, 4.0]), bank)
    one = without_arm(two, "a")
    assert (one.arms, one.bank.slates.tolist()) == (("b",), [[0], [0]])
    none = without_arm(one, "b")
    assert (none.arms, none.bank.slates.shape) == ((), (0, 0))
    shallow = Snapshot("home", "", 7, ["a", "b"], [1, 2], [3, 4], SlateBank([[0], [1]]))
    assert without_arm(shallow, "a").bank.slates.tolist() == [[-1], [0]]
    assert without_arm(without_arm(two, "b"), "a").arms == ()
