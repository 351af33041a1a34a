from __future__ import annotations

import logging

import pytest

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.guarded_metrics import GuardedMetrics, guarded
from banditcore.metrics import (
    BaseMetrics,
    Metrics,
    MetricsLimits,
    PartitionState,
    SnapshotState,
)
from metered import Told


class Raising:
    """Raises at whatever it is told."""

    limits = MetricsLimits(named_segments=7)

    def __getattr__(self, name):
        def method(*_, **__):
            raise RuntimeError(name)

        return method


def tell_all(metrics: Metrics) -> None:
    metrics.answered("home", "segment", 1e-6, ("stale",))
    metrics.answered_many("home", {"segment": 2}, 1e-3, {"stale": 1})
    metrics.raised("home", "NotReadyError")
    metrics.seen_looked_up("home", 1e-3, ok=False)
    metrics.reloaded("home", 0.1, changed=1, rejected=2, error="")
    metrics.snapshots("home", {"": SnapshotState(1, 5, 1.0, 0.5, 2.0, 0)})
    metrics.refreshed("home", 1.0, {"published": 3}, error="")
    part = PartitionState(0, 1, 2, 3, None, None, 0.0, failed=False)
    metrics.ingested("home", "stream", [part], outage=False)


@pytest.mark.parametrize("metrics", [BaseMetrics(), Told(), GuardedMetrics(Told())])
def test_what_fits_the_protocol(metrics):
    assert isinstance(metrics, Metrics)
    assert tell_all(metrics) is None


def test_a_guard_passes_everything_on_unchanged():
    told, direct = Told(MetricsLimits(named_segments=3)), Told(MetricsLimits(named_segments=3))
    tell_all(guarded(told))
    tell_all(direct)
    assert vars(told) == vars(direct)
    assert guarded(told).limits == MetricsLimits(named_segments=3)
    once = guarded(told)
    assert guarded(once) is once


def test_what_raises_is_said_once_and_goes_no_further(caplog):
    with caplog.at_level(logging.DEBUG, "banditcore"):
        metrics = GuardedMetrics(Raising())
        tell_all(metrics)
        tell_all(metrics)
    [record] = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "banditcore")
    assert "the metrics Raising raised" in record.message
    assert record.exc_info[0] is RuntimeError
    assert metrics.limits.named_segments == 7


@pytest.mark.parametrize("method", [name for name in vars(BaseMetrics) if name[0] != "_"])
def test_every_method_is_guarded(caplog, method):
    class One(BaseMetrics):
        pass

    def fail(*_, **__):
        raise RuntimeError(method)

    setattr(One, method, property(fail) if method == "limits" else fail)
    with caplog.at_level(logging.DEBUG, "banditcore"):
        tell_all(GuardedMetrics(One()))
    assert len(caplog.records) == 1


def test_limits_of_a_wrong_type_are_those_of_nobody(caplog):
    told = Told()
    told.limits = 5
    with caplog.at_level(logging.DEBUG, "banditcore"):
        assert guarded(told).limits == MetricsLimits()
    assert len(caplog.records) == 1


def test_the_end_of_a_process_is_not_held_back():
    class Ending(BaseMetrics):
        def answered(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Ending()).answered("home", "segment", 0.0, ())


@pytest.mark.parametrize("metrics", [None, 5, object(), BaseMetrics, Told])
def test_what_does_not_fit_is_refused(metrics):
    with pytest.raises(InvalidTypeError, match="metrics is"):
        guarded(metrics)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"named_segments": -1}, InvalidValueError),
        ({"named_segments": 1.0}, InvalidTypeError),
        ({"named_segments": True}, InvalidTypeError),
        ({"entropy_below": -0.1}, InvalidValueError),
        ({"entropy_below": 1.1}, InvalidValueError),
        ({"entropy_below": float("nan")}, InvalidValueError),
        ({"entropy_below": "0"}, InvalidTypeError),
        ({"entropy_drop": 0}, InvalidValueError),
        ({"entropy_drop": 1.1}, InvalidValueError),
        ({"entropy_drop": True}, InvalidTypeError),
    ],
)
def test_limits_that_make_no_sense_are_refused(given, error):
    with pytest.raises(error, match=next(iter(given))):
        MetricsLimits(**given)


def test_limits_at_the_edge_are_accepted():
    assert MetricsLimits(named_segments=0, entropy_below=0, entropy_drop=1).named_segments == 0
    assert MetricsLimits(entropy_below=1).entropy_below == 1
