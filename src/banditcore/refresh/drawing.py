"""Draws slate banks and publishes them, on the workers of an executor."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple

from numpy.typing import NDArray

from banditcore.errors import InvalidTypeError, describe
from banditcore.slate_format import HEADER_BYTES, encode
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.connect import connect
from banditcore.store.publish import publish
from banditcore.threads import usable_cpus

if TYPE_CHECKING:
    import numpy as np

    from banditcore.store.connect import Store

__all__ = ["STOPPED", "Executors", "Job", "Placed", "Work", "check_executor", "lent", "opened"]

STOPPED = "the refresh was stopped before its turn"
"""Why a segment was not drawn that nothing is wrong with."""

Executors = Executor | Callable[[], AbstractContextManager[Executor]]
"""An executor, or what makes one for each refresh and closes it afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """All that a worker needs for one segment. `url` may hold a password: not in the repr."""

    token: str  # of the caller's store, for threads of its process
    url: str = field(repr=False)
    bandit: str
    segment: str
    version: int
    arms: tuple[str, ...] = field(repr=False)
    alpha: NDArray[np.float64] = field(repr=False)
    beta: NDArray[np.float64] = field(repr=False)
    slates: int
    depth: int


class Placed(NamedTuple):
    """A blob that was published.

    Attributes
    ----------
    header : bytes
        Its first 32.
    body_sha1 : str
        Of the rest, in hex.
    """

    header: bytes
    body_sha1: str


class Work:
    """The jobs of one refresh.

    Parameters
    ----------
    pool : Executor
        Where they run.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._segments: dict[Future[Placed | None], str] = {}
        self._refused: list[tuple[str, str]] = []

    def submit(self, job: Job) -> None:
        """Begin a job as soon as a worker is free."""
        try:
            self._segments[self._pool.submit(draw_and_publish, job)] = job.segment
        except RuntimeError as error:  # a pool that broke or was shut down takes no more jobs
            self._refused.append((job.segment, f"{type(error).__name__}: {error}"))

    def results(
        self, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[str, Placed | str | None]]:
        """Yield each job's segment, with what was published or why it failed.

        None says that newer counts had been published. Once `stopped` returns True, no job begins.
        """
        yield from self._refused
        stopping = False
        for future in as_completed(self._segments):
            outcome: Placed | str | None
            if not stopping and stopped():
                stopping = True
                self.cancel()
            try:
                outcome = future.result()
            except CancelledError:
                outcome = STOPPED if stopping else "CancelledError: its workers went away"
            except Exception as failure:  # noqa: BLE001 - what a worker raises is its segment's
                outcome = f"{type(failure).__name__}: {failure}"
            yield self._segments[future], outcome

    def cancel(self) -> None:
        """Begin no more jobs: an interrupt must not wait for what has not begun."""
        for future in self._segments:
            future.cancel()


def check_executor(given: object) -> None:
    """Raise for what surely cannot draw."""
    if given is not None and not isinstance(given, Executor) and not callable(given):
        remedy = "a concurrent.futures.Executor, a function that makes one, or None"
        raise InvalidTypeError(describe("executor", given, remedy))


@contextmanager
def opened(given: Executors | None) -> Iterator[Executor]:
    """Yield the executor that was given, or one that lasts as long as this."""
    if given is None:
        with ThreadPoolExecutor(usable_cpus(), "banditcore-refresh") as threads:
            yield threads
    elif isinstance(given, Executor):
        yield given
    else:
        with _made(given) as made:
            yield made


def _made(make: Callable[[], AbstractContextManager[Executor]]) -> AbstractContextManager[Executor]:
    made: object = make()
    if not isinstance(made, AbstractContextManager):
        remedy = "the function must return a context manager of an executor"
        raise InvalidTypeError(describe("executor", make, remedy))
    return made


_lent_stores: dict[str, Store] = {}  # to threads of this process, by token, during one refresh
_own_stores: dict[str, Store] = {}  # of a worker process, by url, as long as it lives


@contextmanager
def lent(store: Store) -> Iterator[str]:
    """Let workers of this very process use the caller's store; yield what finds it."""
    token = uuid.uuid4().hex
    _lent_stores[token] = store
    try:
        yield token
    finally:
        del _lent_stores[token]


def draw_and_publish(job: Job) -> Placed | None:
    """Do a job; None when a newer version was there."""
    store = _lent_stores.get(job.token) or _own_stores.get(job.url)
    if store is None:
        store = _own_stores[job.url] = connect(job.url)
    bank = draw_bank(job.alpha, job.beta, slates=job.slates, depth=job.depth, threads=1)
    snapshot = Snapshot(job.bandit, job.segment, job.version, job.arms, job.alpha, job.beta, bank)
    blob = encode(snapshot)
    if not publish(store, job.bandit, job.segment, blob, job.version):
        return None
    body = sha1(memoryview(blob)[HEADER_BYTES:], usedforsecurity=False)
    return Placed(blob[:HEADER_BYTES], body.hexdigest())
