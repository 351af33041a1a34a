"""The job that applies an ordered log to the counts, each record once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from banditcore.errors import (
    CorruptDataError,
    InvalidValueError,
    LostWritesError,
    StoreError,
    describe,
)
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.identifiers import check_id
from banditcore.ingest.ordered import CountingBandit, OrderedWriter, offset_of
from banditcore.logs import EventLog, LogBatch, Position, Reject
from banditcore.store.counts import checkpoints
from banditcore.store.counts.checkpoints import Checkpoint
from banditcore.store.keys import mark_field
from banditcore.store.servers.retrying import retrying

__all__ = ["IngestReport", "ingest_log"]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run read and did: applied + duplicate + refused records after `start`.

    Attributes
    ----------
    applied : int
        Records that changed the counts in this run.
    duplicate : int
        Records that had changed them before.
    refused : int
        Records that cannot be used.
    segments : int
        Segments the good records belong to.
    start, end : Position
        Where in the log this run began and ended.
    seconds : float
        How long it took.
    refused_before : int
        Records before `start` that earlier runs refused.
    """

    applied: int
    duplicate: int
    refused: int
    segments: int
    start: Position
    end: Position
    seconds: float
    refused_before: int = 0


def ingest_log(
    bandit: CountingBandit,
    log: EventLog,
    *,
    source: str | None = None,
    batch_size: int = 50_000,
    rescan: bool = False,
    on_reject: Callable[[Reject], None] | None = None,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Apply the records of a log that were not applied before.

    The counts of a segment and the mark that says how far this log is applied there change
    together, so each record counts once, however often this is stopped and run again, and by
    however many processes at once. It goes on where the last run ended; a log that has grown is
    read from there. Where a server was restarted, replaced or added since, it reads from the
    beginning once: that server may lack what was written last, and only the log still has it.

    Parameters
    ----------
    bandit : Bandit
        Whose counts.
    log : EventLog
        The log. It may have no ``event_id`` column: its order tells its records apart.
    source : str, optional
        The log's name in the marks; not "stream" nor anything that begins with "stream:" or
        "kafka:", whose marks are those of workers. Default: derived from its header and first
        record, so that a renamed log is the same log.
    batch_size : int, >= 1
        Records that are aggregated and applied together.
    rescan : bool
        Read from the beginning in any case. Restores, without counting anything twice, what a
        server lost that went back in time.
    on_reject : callable, optional
        Called with each record that cannot be used, before the batch it stands in is applied.
    progress : callable, optional
        Called with the report so far after each batch.

    Raises
    ------
    InvalidValueError
        When the log does not begin with what was read of it before.
    ConfigurationConflictError
        When it was read with other columns, or in another format or encoding, before.
    CorruptDataError
        When what the store says of earlier runs is damaged; a rescan does without it.
    LostWritesError
        When a server has less than this run wrote. Running again reads from the beginning.
    StoreError
        When the store fails for longer than the retries last, or has other servers than when this
        run began. Running again goes on.
    """
    started = time.monotonic()
    name = f"log:{log.fingerprint}" if source is None else _check_source(source)
    for_s = bandit.retry_for_s
    try:
        stored = retrying(lambda: checkpoints.load(bandit.store, bandit.name, name), for_s)
    except CorruptDataError:
        if not rescan:
            raise
        stored = Checkpoint()  # the marks beside the counts tell what is applied
    stored.check(log)
    log.verify(stored.position)
    servers = _servers(bandit)
    before = Checkpoint() if rescan or stored.identities != servers else stored
    start = before.position
    run = _Run(bandit, log, name, servers if start.offset else None)
    applied = duplicate = refused = 0
    end = start

    def report() -> IngestReport:
        seconds = time.monotonic() - started
        segments = run.segments
        return IngestReport(
            applied, duplicate, refused, segments, start, end, seconds, before.refused
        )

    def save(checkpoint: Checkpoint) -> None:
        retrying(lambda: checkpoints.save(bandit.store, bandit.name, name, checkpoint), for_s)

    for batch in log.batches(start, batch_size):
        if batch.events.event_ids is not None:
            raise InvalidValueError(
                describe("event_id", "mapped", "a log's order tells its records apart: drop it")
            )
        for reject in batch.rejects:
            if on_reject is not None:
                on_reject(reject)
        if not stored.reading and len(batch.events):
            # Before the first record counts: whoever goes on must read the log in the same way.
            stored = replace(stored, reading=log.reading)
            save(stored)
        try:
            changed = run.apply(batch)
        except LostWritesError:
            stored = replace(stored, identities=())  # whoever runs next must read all of it
            save(stored)
            raise
        applied += changed
        duplicate += len(batch.events) - changed
        refused += len(batch.rejects)
        end = batch.end
        # While nothing could be used the map may be wrong: a corrected one begins anew.
        usable = applied or duplicate or start.offset
        # From the beginning to where others had come, the checkpoint stays theirs.
        ahead = end.offset - stored.position.offset
        if usable and (ahead > 0 or (ahead == 0 and stored.identities != servers)):
            # `servers` are those before the first read of this run. If there are others by now
            # some of what was just applied may be lost: the next run will see that they differ.
            stored = Checkpoint(end, log.reading, before.refused + refused, servers)
            save(stored)
        if progress is not None:
            progress(report())
    return report()


def _check_source(source: str) -> str:
    # Under the name of a worker's source a log would share its marks, and lose what they cover.
    if check_id("source", source).partition(":")[0] in {"stream", "kafka"}:
        raise InvalidValueError(
            describe("source", source, "the marks of workers have that name: take another")
        )
    return source


class _Run:
    """Applies batches of one log.

    A mark is "<offset>-<digest>": how far the log is applied to its segment, and the SHA-256 of
    the bytes before, so that a log that begins alike is never taken for the same.

    A run that does not read from the beginning must not go on from a mark that lost writes have
    set back: it would move the mark past records that it does not read. A mark that is merely old
    looks the same, so marks are believed only from the `servers` that there were at the beginning
    of the run; None when the run reads from the beginning.
    """

    def __init__(
        self, bandit: CountingBandit, log: EventLog, source: str, servers: tuple[str, ...] | None
    ) -> None:
        self._bandit = bandit
        self._servers = servers
        self._log = log
        self._verified = {""}  # marks that this log agrees with
        # A file has no owner: epoch 0. Runs that overlap meet in a CONFLICT.
        self._writer = OrderedWriter(bandit, mark_field(source, "0"), verify=self._verify)

    @property
    def segments(self) -> int:
        """How many segments were met."""
        return len(self._writer.marks)

    def apply(self, batch: LogBatch) -> int:
        """Apply a batch to all its segments; return how many records changed the counts."""
        new = f"{batch.end.offset}-{batch.end.digest}"
        self._verified.add(new)
        groups = list(by_segment(batch.events))
        try:
            return self._writer.apply(groups, batch.offsets, new, early=_refuse_early)
        except LostWritesError as error:
            raise LostWritesError(
                f"{error}: the server lost writes; run again, with --rescan to be sure: it reads "
                "from the beginning and counts nothing twice"
            ) from error

    def _verify(self, marks: Collection[str]) -> None:
        """Raise unless these marks, just read, can be believed and this log has left them."""
        # Asked after the marks were read: then they are from before any loss, and whatever is
        # lost later meets the comparison with them.
        if self._servers is not None and (found := _servers(self._bandit)) != self._servers:
            raise StoreError(
                describe(
                    "servers",
                    ", ".join(found),
                    "others than when this run began may lack what was applied before: run again, "
                    "which reads from the beginning and counts nothing twice",
                )
            )
        unsure = sorted(set(marks) - self._verified, key=offset_of)
        for mark, digest in zip(unsure, self._log.digests(map(offset_of, unsure)), strict=True):
            if mark != f"{offset_of(mark)}-{digest}":
                raise InvalidValueError(
                    describe(
                        "log",
                        str(self._log.path),
                        f"another log that begins alike was ingested under the same name, up to "
                        f"byte {offset_of(mark)}: give this one a source name of its own "
                        "(--source NAME)",
                    )
                )
            self._verified.add(mark)


def _servers(bandit: CountingBandit) -> tuple[str, ...]:
    return tuple(retrying(bandit.store.identities, bandit.retry_for_s))


def _refuse_early(events: SegmentEvents, _: float) -> SegmentEvents:
    raise StoreError(
        describe(
            "time",
            events.newest,
            "over an hour ahead of the store's clock: correct this machine's or the store's; "
            "nothing of this batch is lost, run again afterwards",
        )
    )
