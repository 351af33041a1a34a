"""The batch job that turns counts into posteriors, draws slate banks and publishes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple
from zlib import crc32

from banditcore.arrays import positive_int
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import check_segment
from banditcore.iterables import items
from banditcore.posterior import Posterior
from banditcore.posterior_tree import each_posterior
from banditcore.refresh.counting import RefreshableBandit, Sums, summed_counts
from banditcore.refresh.drawing import STOPPED, Executors, Job, Work, check_executor, lent, opened
from banditcore.refresh.memory import Drawn, Memory
from banditcore.refresh.report import RefreshReport
from banditcore.segments import is_within, with_ancestors
from banditcore.slate_format import decode_header, encode_header, restamped
from banditcore.slates import DEFAULT_DEPTH, DEFAULT_SLATES
from banditcore.store.publish import Restamp, restamp

__all__ = ["Progress", "checked_segments", "refresh"]

_STAMPED_AT_ONCE = 64  # blobs a round trip
_LOOKED_AT_EVERY = 10  # refreshes, in which each unchanged body is looked at for damage once

Progress = Callable[[int, int, str], None]


def refresh(
    bandit: RefreshableBandit,
    segments: Sequence[str] | None = None,
    *,
    depth: int = DEFAULT_DEPTH,
    slates: int = DEFAULT_SLATES,
    executor: Executors | None = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> RefreshReport:
    """Publish a slate bank, drawn from the posterior of this moment, for each segment.

    A segment's counts are the sum over it and everything below it. A segment that cannot be
    read, drawn or published is reported, with its ancestors where its counts are missing from
    theirs; it never stops the others. An empirical prior then leans on what could be read of the
    ancestors.

    Parameters
    ----------
    bandit : Bandit
        Its prior decides how counts become posteriors.
    segments : sequence of str, optional
        Which; their ancestors are refreshed too. Default: all.
    depth, slates : int, >= 1
        Places of a slate, and slates of a bank.
    executor : concurrent.futures.Executor, optional
        Where slates are drawn and published; or a function that returns a context manager of one.
        Workers of other processes open the store by its url. Default: a thread for each core, which
        is as good while drawing dominates, because the compiled core does not hold the interpreter
        lock.
    progress : callable, optional
        Called with (done, total, segment) after each segment.
    memory : Memory, optional
        Of earlier refreshes with the same depth, slates and segments: what has not changed since is
        not drawn again. Updated. Default: everything is drawn.
    stopped : callable, optional
        Asked between segments; once it returns True the others are not begun, and fail.

    Returns
    -------
    RefreshReport

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For an argument that is not what it should be, or a segment that has no counts.
    StoreUnavailableError
        When counts cannot be read at all.
    """
    started = time.monotonic()
    depth, slates = positive_int("depth", depth), positive_int("slates", slates)
    check_executor(executor)
    if progress is not None and not callable(progress):
        raise InvalidTypeError(describe("progress", progress, "a function, or None"))
    existing = bandit.segments()
    targets = _targets(existing, segments)
    sums = summed_counts(bandit, existing, targets, memory)
    run = _Run(bandit, sums, memory, depth, slates)
    results: dict[str, Outcome] = {}
    with ExitStack() as stack:
        token = stack.enter_context(lent(bandit.store))
        work = Work(stack.enter_context(opened(executor)))
        stack.callback(work.cancel)
        for segment, outcome in run.outcomes(work, token, stopped):
            results[segment] = outcome
            if progress is not None:
                progress(len(results), len(targets), segment)
    return _report(targets, results, time.monotonic() - started)


class Outcome(NamedTuple):
    """What became of a segment, and why if it failed."""

    word: Literal["published", "unchanged", "superseded", "failed"]
    why: str = ""


def _report(
    targets: Sequence[str], results: Mapping[str, Outcome], seconds: float
) -> RefreshReport:
    def those(word: str) -> tuple[str, ...]:
        return tuple(segment for segment in targets if results[segment].word == word)

    return RefreshReport(
        published=those("published"),
        failed={segment: results[segment].why for segment in those("failed")},
        superseded=those("superseded"),
        seconds=seconds,
        unchanged=those("unchanged"),
    )


def checked_segments(wanted: Iterable[str]) -> list[str]:
    """Return the segments that are asked for; raise for what is no list of them."""
    return [check_segment(segment) for segment in items("segments", wanted, "segments")]


def _targets(existing: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return with_ancestors(existing)
    wanted = checked_segments(wanted)
    for segment in wanted:
        if not any(is_within(path, segment) for path in existing):
            raise InvalidValueError(
                describe("segment", segment, "nothing was ever recorded there or below")
            )
    return with_ancestors(wanted)


class _Run:
    """One refresh, after the counts were read."""

    def __init__(
        self,
        bandit: RefreshableBandit,
        sums: Sums,
        memory: Memory | None,
        depth: int,
        slates: int,
    ) -> None:
        self._bandit = bandit
        self._sums = sums
        self._memory = Memory() if memory is None else memory
        self._depth = depth
        self._slates = slates
        self._drawn: dict[str, Posterior] = {}  # what was submitted
        self._held: dict[str, bool] = {}

    def outcomes(
        self, work: Work, token: str, stopped: Callable[[], bool]
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield each segment with what became of it."""
        for segment, why in self._sums.failed.items():
            yield segment, Outcome("failed", why)
        yield from self._begun(work, token, stopped)
        for segment, placed in work.results(stopped):
            if isinstance(placed, str):
                yield segment, Outcome("failed", placed)
            elif placed is None:
                yield segment, Outcome("superseded")
            else:
                self._memory.drawn[segment] = Drawn(self._drawn[segment], *placed)
                yield segment, Outcome("published")

    def _begun(
        self, work: Work, token: str, stopped: Callable[[], bool]
    ) -> Iterator[tuple[str, Outcome]]:
        """Submit what has to be drawn; yield the others."""
        unchanged: list[str] = []
        # Slates of the first are drawn while the priors of the others are fitted: by this thread
        # alone, since much of that is under the interpreter lock.
        for segment, posterior in self._posteriors():
            if segment in self._sums.failed:
                continue
            if stopped():
                yield segment, Outcome("failed", STOPPED)
            elif self._holds(segment, posterior):
                self._drawn[segment] = posterior
                unchanged.append(segment)
            else:
                self._submit(work, token, segment, posterior)
        for segment, word in self._restamped(unchanged):
            if word == "OTHER":
                self._submit(work, token, segment, self._drawn[segment])
            else:
                yield segment, Outcome("unchanged" if word == "OK" else "superseded")

    def _posteriors(self) -> Iterator[tuple[str, Posterior]]:
        def keeps(segment: str, posterior: Posterior) -> bool:
            self._held[segment] = self._memory.still_holds(segment, posterior)
            return self._held[segment]

        return each_posterior(
            self._sums.counts,
            self._bandit.prior,
            strengths=self._memory.strengths,
            keeps=keeps,
        )

    def _holds(self, segment: str, posterior: Posterior) -> bool:
        held = self._held.pop(segment, None)
        return self._memory.still_holds(segment, posterior) if held is None else held

    def _submit(self, work: Work, token: str, segment: str, posterior: Posterior) -> None:
        # Until it is known to be published there is no telling what stands there.
        self._memory.drawn.pop(segment, None)
        self._drawn[segment] = posterior
        work.submit(
            Job(
                token,
                self._bandit.store.url,
                self._bandit.name,
                segment,
                self._sums.version,
                posterior.arms,
                posterior.alpha,
                posterior.beta,
                self._slates,
                self._depth,
            )
        )

    def _restamped(self, segments: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Give published blobs the new version; yield what `restamp` says of each."""
        drawn = self._memory.drawn
        self._memory.rounds += 1
        for first in range(0, len(segments), _STAMPED_AT_ONCE):
            some = segments[first : first + _STAMPED_AT_ONCE]
            stamps = [self._stamp(segment, drawn[segment]) for segment in some]
            words = restamp(self._bandit.store, self._bandit.name, stamps)
            for stamp, word in zip(stamps, words, strict=True):
                if word == "OK":
                    drawn[stamp.segment].header = stamp.header
                else:
                    del drawn[stamp.segment]
                yield stamp.segment, word

    def _stamp(self, segment: str, drawn: Drawn) -> Restamp:
        header = encode_header(restamped(decode_header(drawn.header), self._sums.version))
        turn = crc32(segment.encode()) % _LOOKED_AT_EVERY
        looked_at = turn == self._memory.rounds % _LOOKED_AT_EVERY
        return Restamp(segment, drawn.header, header, drawn.body_sha1 if looked_at else "")
