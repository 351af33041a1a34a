"""The batch job that turns counts into posteriors, draws slate banks and publishes them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Literal, Protocol

from numpy.typing import NDArray

from banditcore.arrays import positive_int
from banditcore.counts import ArmCounts, merge
from banditcore.errors import CorruptDataError, InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import check_segment
from banditcore.posterior import Prior, posteriors
from banditcore.segments import is_within, lineage, parent, with_ancestors
from banditcore.slate_format import encode
from banditcore.slates import DEFAULT_DEPTH, DEFAULT_SLATES, Snapshot, draw_bank
from banditcore.store.connect import connect
from banditcore.store.publish import publish
from banditcore.store.reading import SegmentReader
from banditcore.threads import usable_cpus

if TYPE_CHECKING:
    import numpy as np

    from banditcore.store.connect import Store

__all__ = ["RefreshReport", "RefreshableBandit", "refresh"]

_UNREADABLE = (CorruptDataError, InvalidValueError)  # the latter: counts of another time
_READ_AT_ONCE = 64  # segments a round trip; a reply stays in the low megabytes

Progress = Callable[[int, int, str], None]


class RefreshableBandit(Protocol):
    """What refreshing needs of a bandit."""

    @property
    def name(self) -> str:
        """The bandit's name."""

    @property
    def store(self) -> Store:
        """Where its counts are and its snapshots go."""

    @property
    def prior(self) -> Prior | Literal["empirical"]:
        """What is believed of an arm without counts."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since 1970."""

    @property
    def reader(self) -> SegmentReader:
        """Reads its segments' counts."""

    def segments(self) -> list[str]:
        """Return every segment ever written to."""


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh did; every segment it was to do stands in exactly one of the three.

    Attributes
    ----------
    published : tuple of str
        Segments whose new snapshot is in place.
    failed : dict of str to str
        Segment -> reason. Their last snapshot, if any, stays in place.
    superseded : tuple of str
        Segments for which another refresh had published newer counts.
    seconds : float
        How long it took.
    """

    published: tuple[str, ...]
    failed: dict[str, str]
    superseded: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """All that a worker needs for one segment. `url` may hold a password: not in the repr."""

    token: str  # of the caller's store, for threads of its process
    url: str = field(repr=False)
    bandit: str
    segment: str
    version: int
    arms: tuple[str, ...]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    slates: int
    depth: int


def refresh(
    bandit: RefreshableBandit,
    segments: Sequence[str] | None = None,
    *,
    depth: int = DEFAULT_DEPTH,
    slates: int = DEFAULT_SLATES,
    executor: Executor | None = None,
    progress: Progress | None = None,
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
        Where slates are drawn and published. Workers of other processes open the store by its
        url. Default: a thread for each core, which is as good while drawing dominates, because
        the compiled core does not hold the interpreter lock.
    progress : callable, optional
        Called with (done, total, segment) after each segment.

    Returns
    -------
    RefreshReport

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For depth, slates, or a segment that has no counts.
    StoreUnavailableError
        When counts cannot be read at all.
    """
    started = time.monotonic()
    depth, slates = positive_int("depth", depth), positive_int("slates", slates)
    existing = bandit.segments()
    targets = _targets(existing, segments)
    counts, version, failed = _summed_counts(bandit, existing, targets)
    known = posteriors(counts, bandit.prior)
    results: dict[str, bool | str] = {}
    with _lent(bandit.store) as token, _executor(executor) as pool:
        jobs = [
            _Job(
                token,
                bandit.store.url,
                bandit.name,
                segment,
                version,
                posterior.arms,
                posterior.alpha,
                posterior.beta,
                slates,
                depth,
            )
            for segment, posterior in known.items()
            if segment not in failed
        ]
        with closing(_run(pool, jobs)) as drawn:
            for segment, outcome in chain(failed.items(), drawn):
                results[segment] = outcome
                if progress is not None:
                    progress(len(results), len(targets), segment)
    return RefreshReport(
        tuple(segment for segment in targets if results[segment] is True),
        {segment: why for segment in targets if isinstance(why := results[segment], str)},
        tuple(segment for segment in targets if results[segment] is False),
        time.monotonic() - started,
    )


def _targets(existing: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return with_ancestors(existing)
    if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Iterable):
        raise InvalidTypeError(describe("segments", wanted, "a list of segments"))
    wanted = [check_segment(segment) for segment in wanted]
    for segment in wanted:
        if not any(is_within(path, segment) for path in existing):
            raise InvalidValueError(
                describe("segment", segment, "nothing was ever recorded there or below")
            )
    return with_ancestors(wanted)


def _summed_counts(
    bandit: RefreshableBandit, existing: Sequence[str], targets: Sequence[str]
) -> tuple[dict[str, ArmCounts], int, dict[str, str]]:
    """Return counts summed over descendants, their version, and why some are incomplete."""
    moment = bandit.clock()
    wanted = set(targets)
    parts: dict[str, list[ArmCounts]] = {segment: [] for segment in targets}
    failed: dict[str, str] = {}
    versions: list[int] = []
    below = [path for path in existing if not wanted.isdisjoint(lineage(path))]
    for path, read in _read_each(bandit, below, moment):
        if isinstance(read, str):
            for step in lineage(path):
                where = "" if step == path else f"counts of {path!r} below it are missing: "
                failed.setdefault(step, where + read)
        else:
            if read[1] is not None:
                versions.append(read[1])
            _nearest(parts, path).append(read[0])
    sums: dict[str, ArmCounts] = {}
    for segment in reversed(targets):  # children before parents
        sums[segment] = merge(parts[segment], moment)
        above = parent(segment)
        if above is not None:
            parts[above].append(sums[segment])
    # Not before the earliest read: what was recorded since is in the next version.
    version = min(versions) if versions else int(bandit.store.server_time() * 1e6)
    return sums, version, {k: v for k, v in failed.items() if k in wanted}


def _nearest(parts: dict[str, list[ArmCounts]], path: str) -> list[ArmCounts]:
    """Return the list of the nearest target at or above a path."""
    return next(parts[step] for step in lineage(path) if step in parts)


def _read_each(
    bandit: RefreshableBandit, paths: Sequence[str], moment: float
) -> Iterator[tuple[str, tuple[ArmCounts, int | None] | str]]:
    """Yield the counts and version of each path, or why they cannot be read."""
    for first in range(0, len(paths), _READ_AT_ONCE):
        some = paths[first : first + _READ_AT_ONCE]
        try:
            reads = bandit.reader.counts(some, moment)
        except _UNREADABLE:
            for path in some:  # one by one, to find the culprit
                try:
                    [read] = bandit.reader.counts([path], moment)
                except _UNREADABLE as error:
                    yield path, str(error)
                else:
                    yield path, (read.counts, read.version)
        else:
            for path, read in zip(some, reads, strict=True):
                yield path, (read.counts, read.version)


# Workers.

_lent_stores: dict[str, Store] = {}  # to threads of this process, by token, during one refresh
_own_stores: dict[str, Store] = {}  # of a worker process, by url, as long as it lives


@contextmanager
def _lent(store: Store) -> Iterator[str]:
    """Let workers of this very process use the caller's store; yield what finds it."""
    token = uuid.uuid4().hex
    _lent_stores[token] = store
    try:
        yield token
    finally:
        del _lent_stores[token]


@contextmanager
def _executor(given: Executor | None) -> Iterator[Executor]:
    if given is not None:
        yield given
        return
    with ThreadPoolExecutor(usable_cpus()) as threads:
        yield threads


def _run(pool: Executor, jobs: Sequence[_Job]) -> Generator[tuple[str, bool | str]]:
    """Yield each job's segment, with whether it was published or why it failed."""
    futures: dict[Future[bool], str] = {}
    for job in jobs:
        try:
            futures[pool.submit(_draw_and_publish, job)] = job.segment
        except RuntimeError as error:  # a pool that broke or was shut down takes no more jobs
            yield job.segment, f"{type(error).__name__}: {error}"
    try:
        for future in as_completed(futures):
            outcome: bool | str
            try:
                outcome = future.result()
            except Exception as failure:  # noqa: BLE001 - what a worker raises is its segment's
                outcome = f"{type(failure).__name__}: {failure}"
            yield futures[future], outcome
    finally:
        for future in futures:  # an interrupt must not wait for what has not begun
            future.cancel()


def _draw_and_publish(job: _Job) -> bool:
    store = _lent_stores.get(job.token) or _own_stores.get(job.url)
    if store is None:
        store = _own_stores[job.url] = connect(job.url)
    bank = draw_bank(job.alpha, job.beta, slates=job.slates, depth=job.depth, threads=1)
    snapshot = Snapshot(job.bandit, job.segment, job.version, job.arms, job.alpha, job.beta, bank)
    return publish(store, job.bandit, job.segment, encode(snapshot), job.version)
