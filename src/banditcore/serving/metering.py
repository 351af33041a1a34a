"""Tells metrics of what a recommender does."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from banditcore.exploration import ExplorationWatch, exploration
from banditcore.metrics import OTHERS, Metrics, SnapshotState, guarded
from banditcore.serving.loader import SnapshotLoader
from banditcore.serving.recommendation import DEFAULT_SOURCE, Recommendation
from banditcore.serving.rung import Rung
from banditcore.slates import Snapshot

__all__ = ["ServingMeter"]

_LOG = logging.getLogger("banditcore")
_NAMED_IN_A_LOG = 10
_OWN: tuple[str, ...] = ()


class ServingMeter:
    """Measures one recommender. Threads may share it; looks for snapshots come one at a time.

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
        self._rungs: Mapping[str, Rung] | None = None
        self._states: dict[str, SnapshotState] = {}

    def answered(
        self,
        rungs: Mapping[str, Rung],
        segment: str,
        now: float | None,
        answer: Recommendation,
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
        answers: Sequence[Recommendation],
        seconds: float,
    ) -> None:
        """Tell of a batch: for each answer the segment that was asked for, in the same order."""
        by_rung: Counter[str] = Counter()
        by_reason: Counter[str] = Counter()
        for segment, answer in zip(segments, answers, strict=True):
            if answer.source == segment and answer.version is not None:
                by_rung["segment"] += 1
            else:
                rung, why = self._fallback(rungs, segment, now, answer)
                by_rung[rung] += 1
                by_reason.update(why)
            if answer.degraded:
                by_reason.update(answer.degraded)
        self._metrics.answered_many(self._bandit, by_rung, seconds, by_reason)

    def raised(self, error: Exception) -> None:
        """Tell of a request without an answer."""
        self._metrics.raised(self._bandit, type(error).__name__)

    def seen_looked_up(self, seconds: float, *, ok: bool) -> None:
        """Tell of a look-up of what a user has seen."""
        self._metrics.seen_looked_up(self._bandit, seconds, ok=ok)

    def loaded(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot that is about to be served. From any thread."""
        self._watch.see(snapshot.segment, exploration(snapshot))

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
            self.holds(loader.rungs)
        return changed

    def holds(self, rungs: Mapping[str, Rung]) -> None:
        """Tell of all snapshots that are held, and log whose exploration collapsed."""
        if rungs is not self._rungs:  # most looks find nothing new, and there may be thousands
            self._rungs = rungs
            self._states = self._summary(rungs)
        now = time.time()
        held = {
            segment: replace(state, age_s=max(0.0, now - state.version / 1e6))
            for segment, state in self._states.items()
        }
        self._metrics.snapshots(self._bandit, held)
        self._log()

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
        self, rungs: Mapping[str, Rung], segment: str, now: float | None, answer: Recommendation
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
        return rung, ("old" if moment - own.as_of > self._max_age else "empty",)

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
