"""The worker that applies a source of events to the counts for as long as it runs."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from banditcore.errors import (
    FencedError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
    describe,
)
from banditcore.ingest.delivery import DeliveryRun
from banditcore.ingest.ordered import CountingBandit
from banditcore.ingest.owned import OwnedPartition
from banditcore.ingest.partition import PartitionRun
from banditcore.ingest.report import PartitionMeter, PartitionReport, WorkerReport
from banditcore.ingest.sources import (
    OrderedSource,
    Ownership,
    PartitionUnavailableError,
    UnorderedSource,
)
from banditcore.meanwhile import meanwhile
from banditcore.notices import Notices
from banditcore.store.event_streams import presence

__all__ = ["IngestWorker"]

T = TypeVar("T")

_IDLE_WAIT_S = 0.5
"""For events of any partition, before a worker looks after its ownership, and at `stop`, again."""

_CLAIM_EVERY_S = 2.0
_PRESENT_FOR_S = 10.0
_RENEWAL_LOOK_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_RETRY_FAILED_S = 30.0
_RETRY_AWAY_S = 5.0


class IngestWorker:
    """Applies the partitions of a source that it owns, each event once, whatever dies when.

    Any number of workers may run: each partition has one owner at a time, and the marks beside the
    counts refuse whoever still believes to be it. When a worker ends, others take over: at once
    after a clean stop, else as soon as its ownership runs out. Partitions of an unordered source
    have no owner: its workers compete, and the ids of events tell what was counted.

    For one thread, but for `report`.

    Parameters
    ----------
    bandit : Bandit
        Whose counts. A small `retry_for` lets it stop soon during an outage.
    source : OrderedSource or UnorderedSource
        Where the events come from.
    partitions : collection of int, optional
        Those that this worker may own; default all. A worker with a choice takes all of them.
    most : int, optional
        How many it may own at a time; default an equal share, by how many workers there are.
    batch_size : int, >= 1
        About how many events are applied together.
    report_every_s : float
        Seconds between calls of `on_report`.
    on_report : callable, optional
        Called with a `WorkerReport`, from the thread that runs the worker.
    on_notice : callable, optional
        Called with a sentence for people: outages, lost writes that are brought back, partitions
        that stand still. What lasts is said again once a minute.
    """

    def __init__(
        self,
        bandit: CountingBandit,
        source: OrderedSource | UnorderedSource,
        *,
        partitions: Collection[int] | None = None,
        most: int | None = None,
        batch_size: int = 50_000,
        report_every_s: float = 5.0,
        on_report: Callable[[WorkerReport], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        for name, number in {"batch_size": batch_size, "most": most}.items():
            if number is not None and number < 1:
                raise InvalidValueError(describe(name, number, "at least 1"))
        if not report_every_s > 0:
            raise InvalidValueError(describe("report_every_s", report_every_s, "above 0 seconds"))
        self._bandit = bandit
        self._source = source
        self._wanted = None if partitions is None else frozenset(partitions)
        self._most = most
        self._batch_size = batch_size
        self._report_every_s = report_every_s
        self._on_report = on_report
        self._notices = Notices(on_notice)
        self._owned: dict[int, OwnedPartition] = {}
        self._ownerships: dict[int, Ownership | None] = {}
        self._failed: dict[int, tuple[float, PartitionReport]] = {}  # until when, and why
        self._candidates: list[int] = []  # when they were looked up last
        self._quiet = False  # nothing came until the last wait ended
        # What `report` shows, replaced as a whole.
        self._shown: tuple[tuple[PartitionMeter, ...], tuple[PartitionReport, ...], tuple[int, ...]]
        self._shown = (), (), ()
        self._next_claim = 0.0
        self._token = os.urandom(16)  # by which it counts among the workers
        self._began = time.monotonic()
        self._outage = ""
        self._said_nothing_there = False

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then finish the batch at hand and give everything up.

        Outages of the store or the source are waited out, however long they last.
        """
        next_report = time.monotonic() + self._report_every_s
        pause_s = _FIRST_PAUSE_S
        # A batch may take longer than ownership lasts.
        with meanwhile(self._renew, _RENEWAL_LOOK_S, "banditcore-renewals"):
            try:
                while not stop.is_set():
                    try:
                        self.step(_IDLE_WAIT_S)
                    except (StoreUnavailableError, StoreUnfitError) as error:
                        self._outage = str(error)
                        self._notices.say("outage", f"waiting: {error}")
                        stop.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # not secret
                        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    else:
                        self._recovered()
                        pause_s = _FIRST_PAUSE_S
                        if not self._owned:
                            stop.wait(_IDLE_WAIT_S)
                    if time.monotonic() >= next_report:
                        self._publish_report()
                        next_report = time.monotonic() + self._report_every_s
                self._publish_report()  # while there is something to report on
            finally:
                self.release()

    def step(self, wait_s: float = 0.0) -> bool:
        """Look after the ownership, then apply one batch of each partition owned.

        Parameters
        ----------
        wait_s : float
            How long to wait for events when there are none, in seconds.

        Returns
        -------
        bool
            Whether any partition had events.

        Raises
        ------
        StoreUnavailableError, StoreUnfitError
            Nothing is lost; the next step goes on.
        """
        try:
            self._look_after()
            settled = all(owned.run.is_settled for owned in self._owned.values())
            # Whoever waited in vain need not look before it waits on.
            busy = not (wait_s > 0 and self._quiet and settled) and self._apply()
            self._quiet = not busy
            if self._quiet and wait_s > 0 and self._owned:
                after = {partition: owned.run.offset for partition, owned in self._owned.items()}
                self._quiet = not self._source.wait(after, wait_s)
                busy = not self._quiet and self._apply()
            return busy
        finally:
            self._show()

    def release(self) -> None:
        """Give up all partitions, so that others need not wait. Nothing of them is half done."""
        owned = list(self._owned.values())
        self._owned.clear()
        self._next_claim = 0.0
        try:
            for each in owned:
                each.release()
            if self._shares:
                presence.leave(
                    self._bandit.store, self._bandit.name, self._source.name, self._token
                )
        except StoreError as error:  # it runs out by itself
            self._notices.say("release", f"others have to wait for what this one owned: {error}")
        finally:
            self._show()

    def report(self) -> WorkerReport:
        """Return what was done until the last step, and what waits. For any thread; asks nobody."""
        meters, failed, elsewhere = self._shown
        reports = [*(meter.report() for meter in meters), *failed]
        return WorkerReport(
            partitions=tuple(sorted(reports, key=lambda report: report.partition)),
            elsewhere=elsewhere,
            outage=self._outage,
            seconds=time.monotonic() - self._began,
        )

    def _show(self) -> None:
        meters = tuple(owned.meter for owned in self._owned.values())
        failed = tuple(report for _, report in self._failed.values())
        here = self._owned.keys() | self._failed.keys()
        elsewhere = tuple(sorted(set(self._candidates) - here))
        self._shown = meters, failed, elsewhere

    def _apply(self) -> bool:
        """Apply a batch of each partition owned; return whether any had events."""
        busy = False
        for owned in list(self._owned.values()):
            if owned.lost:  # the renewing thread noticed
                del self._owned[owned.run.partition]
            else:
                busy |= bool(self._attempt(owned, lambda owned=owned: self._step(owned)))  # type: ignore[misc]  # mypy cannot infer it
        return busy

    def _step(self, owned: OwnedPartition) -> bool:
        came = owned.run.step()
        owned.meter.note(self._source, idle=not came)
        return came

    def _look_after(self) -> None:
        """Keep, lose and take ownership, and notice when servers changed."""
        for owned in list(self._owned.values()):
            if owned.is_due():
                owned.renew()
            if owned.lost:
                del self._owned[owned.run.partition]
            elif time.monotonic() >= self._next_claim:
                self._attempt(owned, owned.run.check)
        if time.monotonic() >= self._next_claim:
            self._claim()
            self._next_claim = time.monotonic() + _CLAIM_EVERY_S * random.uniform(0.5, 1.0)  # noqa: S311  # not secret

    def _look_up(self) -> list[int]:
        there = self._source.partitions()
        if self._wanted is None:
            return list(there)
        return [partition for partition in there if partition in self._wanted]

    def _claim(self) -> None:
        now = time.monotonic()
        self._failed = {p: failed for p, failed in self._failed.items() if failed[0] > now}
        candidates = self._candidates = self._look_up()
        for partition in set(self._owned) - set(candidates):  # assigned to another by the source
            del self._owned[partition]
        if not candidates:
            self._say_what_is_missing()
        most = self._share(len(candidates))
        surplus = list(self._owned.values())[most:]  # others are waiting for them
        for owned in surplus:
            owned.release()
            del self._owned[owned.run.partition]
        free = [p for p in candidates if p not in self._owned and p not in self._failed]
        random.shuffle(free)  # so that workers which start together do not go for the same ones
        for partition in free:
            if len(self._owned) >= most:
                return
            if partition not in self._ownerships:
                source = self._source
                self._ownerships[partition] = source.owner(partition) if source.ordered else None
            # The same one again: it knows its own lease when the reply to acquiring it got lost.
            ownership = self._ownerships[partition]
            asked = time.monotonic()
            try:
                epoch = 0 if ownership is None else ownership.acquire()
            except (StoreUnavailableError, StoreUnfitError):
                raise
            except StoreError as error:
                self._set_aside(PartitionReport(partition), error)
                continue
            if epoch is not None:
                self._owned[partition] = self._taken(partition, epoch, ownership, asked)

    def _say_what_is_missing(self) -> None:
        there = list(self._source.partitions())
        if there and self._wanted is not None:
            self._notices.say(
                "partitions",
                f"none of the partitions {sorted(self._wanted)} is there: "
                f"{self._source.name!r} has {there}",
            )
        elif not self._said_nothing_there:
            self._said_nothing_there = True
            self._notices.tell(
                f"bandit {self._bandit.name!r} has no events to apply yet, {self._source.name!r} "
                "has no partitions: waiting for the first producer"
            )

    @property
    def _shares(self) -> bool:
        return self._wanted is None and self._most is None

    def _share(self, partitions: int) -> int:
        """Return how many partitions this worker may own; the shares of all are enough for all."""
        if not self._shares:
            return partitions if self._most is None else self._most
        workers = presence.beat(
            self._bandit.store, self._bandit.name, self._source.name, self._token, _PRESENT_FOR_S
        )
        return -(-partitions // workers)

    def _taken(
        self, partition: int, epoch: int, ownership: Ownership | None, asked: float
    ) -> OwnedPartition:
        source = self._source
        run: PartitionRun | DeliveryRun
        if source.ordered:
            run = PartitionRun(
                self._bandit,
                source,
                partition,
                epoch=epoch,
                batch_size=self._batch_size,
                notice=self._notices.tell,
            )
        else:
            run = DeliveryRun(self._bandit, source, partition, batch_size=self._batch_size)
        return OwnedPartition(run, PartitionMeter(run, epoch), ownership, asked)

    def _attempt(self, owned: OwnedPartition, action: Callable[[], T]) -> T | None:
        """Return what the action on a partition returns; None when it is not owned any more."""
        partition = owned.run.partition
        try:
            return action()
        except FencedError as error:
            del self._owned[partition]
            owned.release()  # if nobody else has it, it comes back with a later epoch
            self._notices.say(f"fenced {partition}", str(error))
        except PartitionUnavailableError as error:
            del self._owned[partition]
            self._set_aside(owned.meter.report(), error, _RETRY_AWAY_S)
            owned.release()
        except (StoreUnavailableError, StoreUnfitError):
            raise
        except StoreError as error:
            del self._owned[partition]
            self._set_aside(owned.meter.report(), error)
            owned.release()
        return None

    def _set_aside(
        self, report: PartitionReport, error: StoreError, for_s: float = _RETRY_FAILED_S
    ) -> None:
        """Let the other partitions go on. Nothing of this one is lost; a person has to look."""
        partition = report.partition
        until = time.monotonic() + for_s
        self._failed[partition] = (until, replace(report, error=str(error)))
        self._notices.say(f"failed {partition}", f"partition {partition} stands still: {error}")

    def _renew(self) -> None:
        for owned in list(self._owned.values()):
            if owned.is_due():
                try:
                    owned.renew()
                except StoreError as error:  # the worker meets the same error, and waits
                    self._notices.say("renewal", f"an ownership was not renewed: {error}")

    def _recovered(self) -> None:
        if self._outage:
            self._outage = ""
            self._notices.tell("the outage is over")
            self._notices.forget("outage")

    def _publish_report(self) -> None:
        if self._on_report is not None:
            self._on_report(self.report())
