"""Keeps a recommender's snapshots: from its warm-up to its end, and across forks."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from banditcore.errors import InvalidTypeError, InvalidValueError, StoreError, describe
from banditcore.serving import polling
from banditcore.serving.backup import Backup
from banditcore.serving.loader import SnapshotLoader
from banditcore.serving.metering import ServingMeter
from banditcore.serving.polling import Look, Poller, PollingState

__all__ = ["SnapshotKeeper", "open_backup"]

_LOG = logging.getLogger("banditcore.serving")
_CLOSING_S = 0.8  # for a thread that may hang in a socket
_RENEW_BACKUP_S = 300.0


class Warm(Protocol):
    """Pays what only a first call costs."""

    def __call__(self, *, store_answers: bool) -> bool:
        """Tell whether there is a snapshot to answer from."""


_KEEPERS: weakref.WeakSet[SnapshotKeeper] = weakref.WeakSet()


def _after_fork() -> None:
    polling.after_fork()
    for keeper in list(_KEEPERS):
        keeper._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SnapshotKeeper:
    """Loads snapshots, looks for news, and has its owner warm up what is there first.

    Parameters
    ----------
    bandit : str
        For what is logged.
    loader : SnapshotLoader
        Where snapshots are held.
    backup : Backup or None
        The loader's.
    meter : ServingMeter or None
        Told of looks.
    poll_s : float or None
        Seconds from one look to the next; None: only when asked.
    warm : weakref.WeakMethod
        The owner's method that is called after each look, with whether the store answers, and
        tells whether requests can be answered. Weak: a thread must not keep alive what nobody
        holds any more.
    """

    def __init__(
        self,
        bandit: str,
        loader: SnapshotLoader,
        backup: Backup | None,
        *,
        meter: ServingMeter | None,
        poll_s: float | None,
        warm: weakref.WeakMethod[Warm],
    ) -> None:
        self._bandit = bandit
        self._loader = loader
        self._backup = backup
        self._meter = meter
        self._warm = warm
        self._poller = Poller(bandit, _looking(loader, meter, warm), poll_s=poll_s)
        _KEEPERS.add(self)

    def state(self) -> PollingState:
        """Return how looks go."""
        error = None if self._backup is None else self._backup.error
        unconfirmed = self._loader.held.unconfirmed()
        return replace(self._poller.state(), backup_error=error, unconfirmed=unconfirmed)

    def look(self, timeout_s: float | None) -> tuple[str, ...] | None:
        """Look for news now; see `Poller.look`."""
        return self._poller.look(timeout_s)

    def begin(self, timeout_s: float) -> None:
        """Load what the store has, then what only the backup has; look for news from then on.

        Raises
        ------
        StoreError
            The store does not answer in time, and the backup has nothing either.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._poller.look(timeout_s if self._backup is None else timeout_s / 2)
        except StoreError as error:
            if not self._restore(deadline, store_answers=False):
                raise
            _LOG.warning(
                "bandit %r: %d snapshots come from the backup, because: %s",
                self._bandit,
                self._loader.held.unconfirmed(),
                error,
            )
        else:
            self._restore(deadline, store_answers=True)  # of nodes that do not answer
        finally:
            self._poller.start()

    def end(self) -> None:
        """Let go of all snapshots, and end the thread within about a second."""
        self._loader.held.clear()
        self.stop(_CLOSING_S)
        if self._meter is not None:
            self._meter.holds(self._loader.rungs)

    def stop(self, timeout_s: float) -> None:
        """End the thread; wait for it so long."""
        self._poller.stop(timeout_s)

    def _restore(self, deadline: float, *, store_answers: bool) -> bool:
        self._loader.restore(deadline)
        if self._meter is not None:
            self._meter.holds(self._loader.rungs)
        warm = self._warm()
        return warm is not None and warm(store_answers=store_answers)

    def _after_fork(self) -> None:
        # A thread that was reloading is not in the child. What it was doing does no harm: each
        # segment's snapshot is swapped whole.
        was_polling = self._poller.after_fork()
        self._loader.held.after_fork(self._poller.resume if was_polling else None)


def open_backup(backup: str | os.PathLike[str], bandit: str, max_age: float) -> Backup:
    """Return the backup of a bandit's snapshots in a directory."""
    remedy = "a directory's path, or None"
    try:
        directory = Path(backup).absolute()
        named = os.fsencode(os.fspath(backup))
    except ValueError as error:
        raise InvalidValueError(describe("backup", backup, remedy)) from error
    except Exception as error:  # whatever a foreign type may raise
        raise InvalidTypeError(describe("backup", backup, remedy)) from error
    if not named or b"\0" in named:
        raise InvalidValueError(describe("backup", backup, remedy))
    # What is older than max_age is of less use: it is renewed some times before.
    return Backup(directory, bandit, renew_after_s=min(max_age / 3, _RENEW_BACKUP_S))


def _looking(
    loader: SnapshotLoader,
    meter: ServingMeter | None,
    warm: weakref.WeakMethod[Warm],
) -> Look:
    """Return how to look for news: load it, and warm up what is there for the first time."""

    def look(is_stopped: Callable[[], bool]) -> tuple[str, ...]:
        reload = partial(loader.reload, is_stopped)
        changed = reload() if meter is None else meter.reload(loader, reload)
        method = warm()
        if method is not None and not is_stopped():
            method(store_answers=True)
        return changed

    return look
