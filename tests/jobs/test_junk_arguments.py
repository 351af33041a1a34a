"""What is no argument is refused in words, whatever it is, and nothing is left behind."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

import banditcore as bc
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.store.connect import Store


class Hostile:
    """Raises at all that may be asked of it."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __repr__ = __str__ = __bool__ = __iter__ = __len__ = __getitem__ = _raise
    __index__ = __int__ = __float__ = __array__ = __fspath__ = __eq__ = __lt__ = _raise
    __hash__ = object.__hash__


JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "5": lambda: "5",
    "''": lambda: "",
    "b'x'": lambda: b"x",
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "1e400": lambda: 10**400,
    "1e5000": lambda: 10**5000,  # Python refuses to write it down
    "1e308": lambda: 1e308,
    "5e-324": lambda: 5e-324,
    "1j": lambda: 1j,
    "object": object,
    "hostile": Hostile,
    "[object]": lambda: [object()],
    "[hostile]": lambda: [Hostile()],
    "generator": lambda: (i for i in [1]),
    "broken": lambda: (1 / i for i in [0]),
    "float64": lambda: np.float64(2.5),
    "float32": lambda: np.float32(2.5),
    "longdouble": lambda: np.longdouble("1e4000"),
    "int64": lambda: np.int64(2),
    "bool": lambda: np.True_,
    "str_": lambda: np.str_("x"),
    "0-d": lambda: np.array(5.0),
    "1-d": lambda: np.array([1.0, 2.0]),
    "NaT": lambda: np.timedelta64("NaT"),
    "timedelta": lambda: dt.timedelta.max,
    "-timedelta": lambda: dt.timedelta.min,
    "surrogate": lambda: "\ud800",
    "nul": lambda: "a\0b",
    "Decimal": lambda: Decimal("NaN"),
    "Fraction": lambda: Fraction(1, 3),
}


def refused(call: Callable[[Any], object], names: str) -> set[str]:
    """Return which junk a call takes; what it does not take, it must refuse in words."""
    said: dict[str, str] = {}
    for label, junk in JUNK.items():
        try:
            call(junk())
        except (InvalidTypeError, InvalidValueError) as error:
            said[label] = str(error)
    for label, text in said.items():
        thing, _, remedy = text.partition(": ")
        assert remedy, (label, text)
        assert any(name in thing for name in names.split("|")), (label, text)
    return JUNK.keys() - said.keys()


def give(call: Callable[..., Any], name: str, given: Mapping[str, object], junk: object) -> None:
    made = call(**{**given, name: junk})
    with made if hasattr(made, "close") else nullcontext():
        return


def check(
    call: Callable[..., Any], given: Mapping[str, object], takes: Mapping[str, set[str]]
) -> None:
    """Check for each name which junk is taken."""
    for names, expected in takes.items():
        name = names.partition("|")[0]
        assert refused(partial(give, call, name, given), names) == expected, names


@pytest.fixture
def bandit(store: Store) -> bc.Bandit:
    bandit = bc.Bandit("home", store)
    bandit.record("IN", "a", reward=1.0)
    return bandit


def test_recommenders(bandit: bc.Bandit) -> None:
    check(
        bc.Recommender,
        {"bandit": bandit},
        {
            "bandit": set(),
            "segments|segment": {"None"},
            "budget": {"float64"},
            "max_age": {"inf", "float64"},
            "default|arm": set(),
            "sticky_s": {"float64"},
            "max_blob_bytes": {"int64"},
            "mode": set(),
            "poll_s": {"None", "float64"},
            "backup": {"None", "5", "str_"},
            "caps": set(),
            "metrics": {"None"},
        },
    )


def test_what_recommenders_are_asked(bandit: bc.Bandit) -> None:
    with bc.Recommender(bandit, default=["d"], poll_s=None, caps=[bc.FrequencyCap()]) as r:
        moments = {"None", "-1", "0", "5e-324", "float64"}
        check(
            r.recommend,
            {"segment": "IN"},
            {
                "segment": {"5", "''", "str_", "nul"},
                "k": {"1e400", "1e5000", "int64"},
                "user": {"None", "5", "str_", "surrogate", "nul"},
                "exclude": set(),
                "now": moments,
            },
        )
        check(
            r.recommend_many,
            {"segments": "IN", "users": ["u"]},
            {
                "segments|segment": {"5", "''", "str_", "nul"},
                "users|user": set(),
                "k": {"1e400", "1e5000", "int64"},
                "exclude": {"None"},
                "now": moments,
            },
        )
        check(
            r.mark_seen,
            {"user": "u", "arms": ["a"]},
            {"user": {"5", "str_", "surrogate", "nul"}, "arms|arm": set(), "now": moments},
        )
        check(r.warm_up, {}, {"timeout_s": {"float64"}})
        check(r.reload, {}, {"timeout_s": {"None", "float64"}})


def test_memory_that_runs_out_is_nobodys_argument(bandit: bc.Bandit) -> None:
    def exhausting() -> Iterator[Any]:
        raise MemoryError
        yield

    with bc.Recommender(bandit, default=["d"], poll_s=None) as r:
        for name in ("users", "exclude"):
            with pytest.raises(MemoryError):
                r.recommend_many("IN", **{"users": ["u"], name: exhausting()})
        with pytest.raises(MemoryError):
            r.recommend("IN", exclude=exhausting())


def test_frequency_caps() -> None:
    check(bc.FrequencyCap, {}, {"times": set(), "within": set()})


def test_refreshers(bandit: bc.Bandit) -> None:
    check(
        bc.Refresher,
        {"bandit": bandit},
        {
            "bandit": set(),
            "every": {"timedelta"},
            "segments|segment": {"None"},
            "depth": {"1e400", "1e5000", "int64"},
            "slates": {"1e400", "1e5000", "int64"},
            "executor": {"None"},
            "lease_s": {"float64"},
            "on_report": {"None"},
            "on_notice": {"None"},
        },
    )
    with pytest.raises(InvalidTypeError, match="must return a context manager"):
        bc.Refresher(bandit, executor=lambda: 5).step()  # type: ignore[arg-type,return-value]  # the point


def test_a_refresher_can_wait_for_ever(bandit: bc.Bandit) -> None:
    waited: list[float | None] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            self.set()
            return True

    bc.Refresher(bandit, every=dt.timedelta.max).run(Stop())
    assert waited == [threading.TIMEOUT_MAX]


def test_refreshes(bandit: bc.Bandit) -> None:
    check(
        bandit.refresh,
        {"depth": 1, "slates": 1},
        {
            "segments|segment": {"None"},
            "depth": {"1e400", "1e5000", "int64"},
            "slates": {"1e400", "1e5000", "int64"},
            "executor": {"None"},
            "progress": {"None"},
        },
    )
    report = bandit.refresh(slates=10**400)  # more than memory holds: a segment's failure
    assert all(why.startswith("InvalidValueError") for why in report.failed.values())
    assert set(report.failed) == {"", "IN"}


def test_connecting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANDITCORE_URL", store.url)
    opened = partial(bc.connect, at_once=False)
    check(opened, {}, {"url": {"None"}, "timeout_s": {"5e-324", "float64"}})
    check(bc.connect, {}, {"at_once": {"True"}})


def test_emitters(bandit: bc.Bandit) -> None:
    seconds = {"0", "5e-324", "float64"}
    check(
        bc.Emitter,
        {"bandit": bandit},
        {
            "bandit": set(),
            "partitions": {"None"},
            "when_full": set(),
            "block_for_s": seconds,
            "flush_every_s": {"float64"},
            "retry_for_s": seconds,
            "max_events": {"int64"},
            "max_bytes": set(),
            "most_unapplied": {"int64"},
            "on_drop": {"None"},
        },
    )
    with bc.Emitter(bandit, max_events=2**53, max_bytes=2**53, most_unapplied=2**53) as emitter:
        assert emitter.emit([bc.Event("IN", "a")]) == 1
        check(emitter.flush, {}, {"timeout_s": {"None", *seconds}})

    def close(timeout_s: float | None) -> None:
        with bc.Emitter(bandit) as emitter:
            emitter.close(timeout_s)

    check(close, {}, {"timeout_s": {"None", *seconds}})
