"""Tells metrics of what a recommender does."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from banditcore.exploration import ExplorationWatch
from banditcore.guarded_metrics import guarded
from banditcore.metrics import OTHERS, Metrics, SnapshotState
from banditcore.serving.loader import SnapshotLoader
from banditcore.serving.recommendation import DEFAULT_SOURCE
from banditcore.serving.rung import Rung

__all__ = ["ServingMeter"]

_LOG = logging.getLogger("banditcore")
_NAMED_IN_A_LOG = 10
_OWN: tuple[str, ...] = ()


_ALL: weakref.WeakSet[ServingMeter] = weakref.WeakSet()


def _after_fork() -> None:
    for meter in _ALL:
        meter._holding = threading.Lock()  # whoever had it is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Origin(Protocol):
    """Where an answer came from: a `Recommendation`, or what many of them share."""

    @property
    def source(self) -> str:
        """See `Recommendation`."""

    @property
    def version(self) -> int | None:
        """See `Recommendation`."""

    @property
    def degraded(self) -> tuple[str, ...]:
        """See `Recommendation`."""


class ServingMeter:
    """Measures one recommender. Threads may share it.

    Parameters
    ----------
    metrics : Metrics
        Whom to tell; what it raises is logged once, and goes no further.
    bandit : str
        The bandit's name.
    max_age : float
        Seconds until a snapshot no longer counts as fresh.

    Raises
    ------
    InvalidTypeError
        `metrics` does not fit the protocol.
    """

    def __init__(self, metrics: Metrics, bandit: str, max_age: float) -> None:
        self._metrics = guarded(metrics)
        self._bandit = bandit
        self._max_age = max_age
        self._watch = ExplorationWatch(self._metrics.limits)
        self._named: dict[str, None] = {}  # in the order in which they came
        self._drawn: dict[str, tuple[int, int]] = {}
        self._held = 0
        self._states: dict[str, SnapshotState] = {}
        self._holding = threading.Lock()
        _ALL.add(self)

    def answered(
        self,
        rungs: Mapping[str, Rung],
        segment: str,
        now: float | None,
        answer: Origin,
        seconds: float,
    ) -> None:
        """Tell of an answer to a request for `segment`; `now` as the request had it."""
        source = answer.source
        if source == segment and answer.version is not None:
            self._metrics.answered(self._bandit, "segment", seconds, answer.degraded)
            return
        rung, why = self._fallback(rungs, segment, now, answer)
        self._metrics.answered(self._bandit, rung, seconds, (*why, *answer.degraded))

    def answered_many(
        self,
        rungs: Mapping[str, Rung],
        segments: Iterable[str],
        now: float | None,
        origins: Iterable[Origin],
        seconds: float,
    ) -> None:
        """Tell of a batch: for each answer the segment that was asked for, in the same order."""
        by_rung: Counter[str] = Counter()
        by_reason: Counter[str] = Counter()
        # Answers from one place are often one object: a batch costs little more than one of them.
        held = list(origins)
        by_id = {id(origin): origin for origin in held}
        for (segment, key), count in Counter(zip(segments, map(id, held), strict=True)).items():
            rung, why = self._fallback(rungs, segment, now, by_id[key])
            by_rung[rung] += count
            for reason in (*why, *by_id[key].degraded):
                by_reason[reason] += count
        self._metrics.answered_many(self._bandit, by_rung, seconds, by_reason)

    def raised(self, error: Exception) -> None:
        """Tell of a request without an answer."""
        self._metrics.raised(self._bandit, type(error).__name__)

    @contextmanager
    def told_of_errors(self) -> Iterator[None]:
        """Tell of a request that ends without an answer."""
        try:
            yield
        except Exception as error:
            self.raised(error)
            raise

    def seen_looked_up(self, seconds: float, *, ok: bool) -> None:
        """Tell of a look-up of what a user has seen."""
        self._metrics.seen_looked_up(self._bandit, seconds, ok=ok)

    def reload(
        self, loader: SnapshotLoader, reloading: Callable[[], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Return what `reloading` returns, timed, and tell of all snapshots held afterwards."""
        started = time.perf_counter()
        changed: tuple[str, ...] = ()
        failure = ""
        try:
            changed = reloading()
        except Exception as error:
            failure = type(error).__name__
            raise
        finally:
            self._metrics.reloaded(
                self._bandit,
                time.perf_counter() - started,
                changed=len(changed),
                rejected=len(loader.rejected),
                error=failure,
            )
            # Some may have been loaded before it failed.
            self.holds(loader.rungs, changed=bool(changed or failure))
        return changed

    def holds(self, rungs: Mapping[str, Rung], *, changed: bool = True) -> None:
        """Tell of all snapshots that are held, and log whose exploration collapsed.

        Parameters
        ----------
        changed : bool
            False when none is new since the last call: there may be thousands.
        """
        with self._holding:
            if changed or len(rungs) != self._held:
                self._measure(rungs)
                self._states = self._summary(rungs)
                self._held = len(rungs)
            now = time.time()
            held = {
                segment: replace(state, age_s=max(0.0, now - state.version / 1e6))
                for segment, state in self._states.items()
            }
            self._metrics.snapshots(self._bandit, held)
            self._log()

    def _measure(self, rungs: Mapping[str, Rung]) -> None:
        """Measure the banks that are new."""
        before, self._drawn = self._drawn, {path: rung.drawn for path, rung in rungs.items()}
        for segment, drawn in self._drawn.items():
            if before.get(segment) != drawn:
                self._watch.see(segment, rungs[segment].exploration())

    def _summary(self, rungs: Mapping[str, Rung]) -> dict[str, SnapshotState]:
        """Return what is told of each named segment, and of the others, but for the age."""
        self._watch.forget_all_but(rungs.keys())
        limits = self._metrics.limits
        if not limits.keeps_names:
            self._named = {segment: None for segment in self._named if segment in rungs}
        room = limits.named_segments - len(self._named)
        if room > 0:
            new = sorted(segment for segment in rungs if segment not in self._named)
            self._named |= dict.fromkeys(new[:room])
        states = {
            segment: self._state(rungs, [segment]) for segment in self._named if segment in rungs
        }
        others = [segment for segment in rungs if segment not in self._named]
        if others:
            states[OTHERS] = self._state(rungs, others)
        return states

    def _fallback(
        self, rungs: Mapping[str, Rung], segment: str, now: float | None, answer: Origin
    ) -> tuple[str, tuple[str, ...]]:
        """Return which rung answered, and why it was not the segment's own."""
        if answer.version is None and answer.source == DEFAULT_SOURCE:
            rung = "default"
        elif answer.source == segment:
            return "segment", _OWN
        else:
            rung = "parent" if answer.source else "global"
        own = rungs.get(segment)
        if own is None:
            return rung, ("missing",)
        moment = time.time() if now is None else now
        return rung, ("empty" if own.is_fresh(moment, self._max_age) else "old",)

    def _state(self, rungs: Mapping[str, Rung], segments: Sequence[str]) -> SnapshotState:
        lowest = self._watch.lowest(segments)
        return SnapshotState(
            segments=len(segments),
            version=min(rungs[segment].version for segment in segments),
            age_s=0.0,
            entropy=None if lowest is None else lowest.entropy,
            effective_arms=None if lowest is None else lowest.effective_arms,
            alarms=self._watch.alarming(segments),
        )

    def _log(self) -> None:
        collapsed, recovered = self._watch.news()
        if collapsed:
            some = list(collapsed.items())[:_NAMED_IN_A_LOG]
            shown = "; ".join(f"{segment!r}: {why}" for segment, why in some)
            more = f"; and {len(collapsed) - len(some)} more" if len(collapsed) > len(some) else ""
            _LOG.warning("bandit %r: exploration has collapsed: %s%s", self._bandit, shown, more)
        if recovered:
            shown = ", ".join(map(repr, recovered[:_NAMED_IN_A_LOG]))
            more = f" and {len(recovered) - _NAMED_IN_A_LOG} more"
            _LOG.warning(
                "bandit %r: exploration is back in %s%s",
                self._bandit,
                shown,
                more if len(recovered) > _NAMED_IN_A_LOG else "",
            )
