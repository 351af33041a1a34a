"""What a recommender tells its metrics."""

from __future__ import annotations

import logging
import os
import signal

import numpy as np
import pytest

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    StoreUnavailableError,
)
from banditcore.metrics import OTHERS, BaseMetrics, MetricsLimits
from banditcore.serving import Recommender
from banditcore.serving.metering import ServingMeter
from banditcore.slates import SlateBank, Snapshot
from banditcore.store import keys
from banditcore.store.connect import connect
from metered import Told
from published import NOW, Home, put, snapshot, warm
from servers import running_server

US = 1_000_000


def collapsed(segment: str, version_s: float) -> Snapshot:
    """Return a snapshot whose slates all begin with the same arm."""
    ids = [f"{segment}:{arm}" for arm in range(4)]
    bank = SlateBank(np.array([[0, 1, 2, 3], [0, 3, 2, 1]] * 8, dtype=np.int32))
    return Snapshot("home", segment, int(version_s * US), ids, np.ones(4), np.ones(4), bank)


def even(segment: str, version_s: float) -> Snapshot:
    ids = [f"{segment}:{arm}" for arm in range(4)]
    bank = SlateBank(np.array([[0, 1], [1, 2], [2, 3], [3, 0]], dtype=np.int32))
    return Snapshot("home", segment, int(version_s * US), ids, np.ones(4), np.ones(4), bank)


@pytest.mark.parametrize(
    ("asked", "later_s", "expected"),
    [
        ("IN/mobile", 0, ("segment", ())),
        ("IN/mobile", 500, ("parent", ("old",))),
        ("IN/mobile/new", 0, ("parent", ("missing",))),
        ("IN/mobile/new", 500, ("parent", ("missing",))),
        ("IN", 500, ("segment", ())),
        ("US", 0, ("global", ("missing",))),
        ("", 0, ("segment", ())),
        ("none", 0, ("global", ("empty",))),
        ("IN/mobile", 5_000, ("segment", ("stale",))),
        ("", 5_000, ("segment", ("stale",))),
        ("US", 5_000, ("global", ("missing", "stale"))),
    ],
)
def test_each_answer_names_its_rung_and_why(store, asked, later_s, expected):
    told = Told()
    empty = Snapshot(
        "home", "none", int(NOW * US), [], np.empty(0), np.empty(0),
        SlateBank(np.empty((0, 0), dtype=np.int32)),
    )  # fmt: skip
    held = [snapshot(""), snapshot("IN", at=NOW + 400), snapshot("IN/mobile"), empty]
    recommender = warm(store, *held, max_age=450, metrics=told)
    assert told.answers == []  # of no request
    answer = recommender.recommend(asked, 3, now=NOW + later_s)
    assert told.answers == [("home", *expected)]
    assert told.seconds[0] > 0
    assert answer.arms


def test_the_default_is_a_rung_whatever_the_segment_is_called(store):
    told = Told()
    recommender = Recommender(Home(store), default=["a"], metrics=told)
    for segment in ("IN", "default"):
        recommender.recommend(segment)
    assert told.answers == [("home", "default", ("missing", "default"))] * 2


def test_a_segment_called_default_is_a_segment(store):
    told = Told()
    warm(store, snapshot("default"), metrics=told).recommend("default", now=NOW)
    assert told.answers == [("home", "segment", ())]


def test_the_answer_is_the_same_with_metrics(store):
    plain = warm(store, snapshot("IN"))
    told = warm(store, snapshot("IN"), metrics=Told())
    asked = {"k": 5, "user": "u", "exclude": {"IN:3"}, "now": NOW}
    assert plain.recommend("IN", **asked) == told.recommend("IN", **asked)


def test_what_is_raised_is_told_and_raised_all_the_same(store):
    told = Told()
    recommender = Recommender(Home(store), metrics=told)
    with pytest.raises(NotReadyError):
        recommender.recommend("IN")
    with pytest.raises(InvalidValueError):
        recommender.recommend("IN", 0)
    assert (told.errors, told.answers) == (["NotReadyError", "InvalidValueError"], [])


def test_metrics_that_raise_break_nothing(store, caplog):
    class Raising(BaseMetrics):
        def answered(self, *_):
            raise RuntimeError

        def snapshots(self, *_):
            raise RuntimeError

    recommender = warm(store, snapshot("IN"), metrics=Raising())
    assert recommender.ready
    for _ in range(3):
        assert len(recommender.recommend("IN", 5, now=NOW).arms) == 5
    assert len(caplog.records) == 1


def test_what_are_no_metrics_is_refused(store):
    with pytest.raises(InvalidTypeError, match="metrics is"):
        Recommender(Home(store), metrics=object())


def test_reloads_are_told_with_all_that_is_held(store):
    told = Told()
    recommender = warm(store, even("", NOW), even("IN", NOW - 60), metrics=told)
    put(store, collapsed("IN", NOW - 30))
    store.client.set(keys.of_segment("home", "").blob, b"damaged")
    recommender.reload()
    assert told.reloads == [(2, 0, ""), (1, 1, "")]
    assert set(told.held) == {"", "IN"}
    all_, india = told.held[""], told.held["IN"]
    assert (all_.version, all_.entropy, all_.alarms) == (NOW * US, 1.0, 0)
    assert (india.version, india.entropy, india.alarms) == ((NOW - 30) * US, 0.0, 1)
    assert (all_.segments, india.segments, india.effective_arms) == (1, 1, 1.0)
    assert india.age_s - all_.age_s == pytest.approx(30.0, abs=1e-3)


def test_a_failed_reload_is_told_and_what_is_held_stays():
    told = Told()
    with running_server() as server, connect(server.url, timeout_s=60) as store:
        recommender = warm(store, snapshot("IN"), metrics=told)
        server.process.kill()
        server.process.wait()
        with pytest.raises(StoreUnavailableError):
            recommender.reload()
    assert told.reloads == [(1, 0, ""), (0, 0, "StoreUnavailableError")]
    assert set(told.held) == {"IN"}


def test_so_many_segments_go_by_their_names_and_the_rest_by_its_worst(store):
    told = Told(MetricsLimits(named_segments=2))
    paths = [f"s{i}" for i in range(6)]
    held = [even(path, NOW - i) for i, path in enumerate(paths[:5])]
    recommender = warm(store, *held, collapsed("s5", NOW - 1), metrics=told)
    assert list(told.held) == ["s0", "s1", OTHERS]
    others = told.held[OTHERS]
    assert (others.segments, others.version, others.alarms) == (4, (NOW - 4) * US, 1)
    assert (others.entropy, others.effective_arms) == (0.0, 1.0)
    recommender.close()


@pytest.mark.parametrize("keeps", [False, True])
def test_the_name_of_a_segment_that_is_gone_is_free_unless_names_are_kept(store, keeps):
    told = Told(MetricsLimits(named_segments=2, keeps_names=keeps))
    paths = [f"s{i}" for i in range(4)]
    recommender = warm(
        store, even("", NOW), *(even(path, 5.0) for path in paths), metrics=told, max_age=1e9
    )
    assert list(told.held) == ["", "s0", OTHERS]
    put(store, even("s1", NOW))
    store.client.delete(keys.of_segment("home", "s0").blob)
    recommender.reload()  # s0 is too old, and the global one fresh: it goes
    assert list(told.held) == ["", *(["s1"] if not keeps else []), OTHERS]


def test_a_collapse_is_logged_once_and_so_is_its_end(store, caplog):
    recommender = warm(store, even("IN", NOW), metrics=Told())
    with caplog.at_level(logging.DEBUG, "banditcore"):
        for publish_ in (collapsed("IN", NOW + 1), collapsed("IN", NOW + 2), even("IN", NOW + 3)):
            put(store, publish_)
            recommender.reload()
            recommender.reload()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            "bandit 'home': exploration has collapsed: 'IN': 0.000 is below 0.05",
        ),
        ("WARNING", "bandit 'home': exploration is back in 'IN'"),
    ]


def test_many_collapses_are_one_line(store, caplog):
    paths = [f"s{i:02}" for i in range(13)]
    with caplog.at_level(logging.DEBUG, "banditcore"):
        recommender = warm(store, *(collapsed(path, NOW) for path in paths), metrics=Told())
        put(store, *(even(path, NOW + 1) for path in paths))
        recommender.reload()
    down, up = (record.message for record in caplog.records)
    assert down.endswith("; 's09': 0.000 is below 0.05; and 3 more")
    assert up.endswith("'s09' and 3 more")


def test_a_batch_is_told_by_rung_and_by_reason(store):
    told = Told()
    recommender = warm(store, snapshot(""), snapshot("IN"))
    asked = ["IN", "IN", "US", ""]
    answers = [recommender.recommend(segment, 3, now=NOW + 1000) for segment in asked]
    meter = ServingMeter(told, "home", 900)
    meter.answered_many(recommender._loader.rungs, asked, NOW + 1000, answers, 0.01)
    meter.seen_looked_up(0.001, ok=False)
    assert told.batches == [({"segment": 3, "global": 1}, {"stale": 4, "missing": 1})]
    assert told.lookups == [False]


def test_a_recommender_that_is_closed_holds_nothing(store):
    told = Told()
    recommender = warm(store, snapshot("IN"), metrics=told)
    assert set(told.held) == {"IN"}
    recommender.close()
    assert told.held == {}


def test_a_child_goes_on_though_a_thread_of_the_parent_had_the_lock(store):
    told = Told()
    recommender = warm(store, snapshot("IN"), metrics=told)
    meter = recommender._answers._meter
    with meter._holding:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            meter.holds(recommender._loader.rungs)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
