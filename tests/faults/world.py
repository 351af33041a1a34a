"""A real server, clients that remember, a clock, and the model that all of it is compared with."""

from __future__ import annotations

import copy
import datetime as dt
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from banditcore.bandit import Bandit
from banditcore.errors import PartlyAppliedError, StoreError
from banditcore.posterior import Prior
from banditcore.slate_format import decode
from banditcore.store import keys, publish
from banditcore.store.connect import connect
from banditcore.store.counts import checkpoints
from bandits import Clock, table
from faults.logfile import LogFile
from faults.model import WINDOW, BanditModel, SegmentModel, Table
from faults.operations import Ingest, Operation, Record
from faults.server import MortalServer
from proxy import Proxy, proxy_before
from servers import patiently

NAME = "home"
EPOCH = 1_800_000_000  # a multiple of all lengths, so that edges are met exactly


@dataclass(frozen=True)
class Seen:
    """What can be seen of one segment; None where it does not exist."""

    table: Table
    half_life: int | None
    marks: dict[str, int]
    names: tuple[str, ...]


@dataclass
class Past:
    """What the server and the model held at one moment."""

    data: Path
    model: BanditModel


@dataclass
class World:
    """Everything that one run of the state machine works with."""

    kind: str
    directory: Path
    half_life: int | None
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.server = MortalServer(self.kind)
        self._proxy_context = proxy_before(self.server.path)
        self.proxy: Proxy = self._proxy_context.__enter__()
        self.clock = Clock(EPOCH)
        self.model = BanditModel(self.half_life)
        self.logs: list[LogFile] = []
        self.pasts: list[Past] = []
        self.clients = {
            "direct": self._client(self.server.url, 0),
            "proxied": self._client(self.proxy.url, 0),
            "patient": self._client(self.proxy.url, 20),
            "hasty": self._client(self.proxy.url, 0, timeout_s=0.3),
        }
        self.auditor = self._client(self.server.url, 20, half_life=self.half_life)
        self.auditor.statistics  # noqa: B018 - settles the half-life and the window

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for bandit in (*self.clients.values(), self.auditor):
            bandit.store.close()
        self._proxy_context.__exit__(None, None, None)
        self.server.close()

    @property
    def now(self) -> int:
        return int(self.clock())

    def _client(
        self, url: str, retry_s: float, timeout_s: float = 20, half_life: int | None = None
    ) -> Bandit:
        return Bandit(
            NAME,
            patiently(lambda: connect(url, timeout_s=timeout_s)),
            prior=Prior(1, 1),
            half_life=None if half_life is None else dt.timedelta(seconds=half_life),
            window=dt.timedelta(seconds=WINDOW),
            retry_for=dt.timedelta(seconds=retry_s),
            clock=self.clock,
        )

    def renew(self, which: str) -> None:
        """Replace a client by one that knows nothing."""
        old = self.clients[which]
        url, timeout = old.store.url, 0.3 if which == "hasty" else 20
        old.store.close()
        self.clients[which] = self._client(url, old.retry_for_s, timeout)

    # Doing.

    def attempt(self, operation: Operation, client: str, fault: str) -> StoreError | None:
        """Let a client do something, find out what became of it, and enter that into the model."""
        bandit = self.clients[client]
        name = type(operation).__name__
        try:
            answer = operation.perform(bandit)
        except StoreError as error:
            if fault == "none" and client != "hasty":
                raise AssertionError(f"{operation} failed without a fault") from error
            self.tally[f"{name} failed by {fault}"] += 1
            self.recover()
            self.resolve(operation, error)
            return error
        self.tally[f"{name} under {fault}" if fault != "none" else name] += 1
        self.recover()
        expected = operation.expected(self.model, self.now)
        if fault == "none" or operation.answer_is_exact:
            assert answer == expected.answer, f"{operation}: told {answer}, not {expected.answer}"
        elif isinstance(operation, Record):
            # Whether this call or an earlier one applied them cannot always be told.
            assert sum(answer[:2]) == sum(expected.answer[:2])
        elif isinstance(operation, Ingest):
            assert answer[0] == expected.answer[0]  # it had begun where the other one did
        for path, states in expected.segments.items():
            after = states[-1]
            assert after is not None
            self.model.segments[path] = after
        if expected.checkpoints:
            self.model.checkpoints[expected.source] = expected.checkpoints[-1]
        if expected.half_life is not None:
            [self.model.half_life] = expected.half_life
        return None

    def recover(self) -> None:
        """Heal the server and wait until nothing that was sent is still under way."""
        self.proxy.heal()
        for bandit in (*self.clients.values(), self.auditor):
            bandit.store.client.connection_pool.disconnect()
        self.server.heal()
        self.server.settle()

    def resolve(self, operation: Operation, error: StoreError) -> None:
        """Find each segment in one of the states that the failed operation may have left."""
        if isinstance(operation, Record):
            if not isinstance(error, PartlyAppliedError):
                return  # nothing was recorded: the next check sees to that
            if not operation.sending.with_ids:
                operation.sending = replace(operation.sending, known_as=error.batch_id)
        expected = operation.expected(self.model, self.now)
        for path, states in expected.segments.items():
            seen = self.see(path, expected.names)
            for state in states:
                before = self.model.segments.get(path)
                if seen == self.believed(before if state is None else state, expected.names):
                    if state is not None:
                        self.model.segments[path] = state
                    break
            else:
                believed = [
                    self.believed(state or self.model.segments.get(path), expected.names)
                    for state in states
                ]
                raise AssertionError(f"half applied in {path!r}: {seen}, none of {believed}")
        if expected.checkpoints:
            at = self._checkpoint(expected.source)
            assert at in expected.checkpoints, f"{at} not in {expected.checkpoints}"
            self.model.checkpoints[expected.source] = at
        if expected.half_life is not None:
            stored = self._half_life()
            assert stored in (self.model.half_life, *expected.half_life)
            self.model.half_life = stored

    def _check_checkpoint(self, log: LogFile) -> None:
        """Find every line before the checkpoint applied: it is never ahead of the counts."""
        lines, _ = self.model.checkpoints.get(log.source, (0, 0))
        for number, event in enumerate(log.lines[:lines]):
            if event is not None:
                applied = self.model.segments[event.segment].marks.get(log.source, 0)
                assert number < applied, f"line {number} is passed, but not applied"

    # Seeing.

    def see(self, path: str, names: tuple[str, ...] = ()) -> Seen | None:
        """Return what the server holds of a segment."""
        reader = self.auditor.reader
        [view] = reader.look([path])
        if view is None:
            return None
        stored = reader.keys(path)
        digests = {
            name: keys.batch_digest(name[6:])
            if name.startswith("batch ")
            else keys.event_digest(name)
            for name in names
            if not name.startswith("unknown ")
        }
        remembered = [
            name
            for name, digest in digests.items()
            if any(self.server.admin.sismember(key, digest) for key in (stored.even, stored.odd))
        ]
        marks = {}
        for log in self.logs:
            [(_, mark)] = reader.marks([path], keys.mark_field(log.source, "0"))
            if mark:
                marks[log.source] = log.line_at(int(mark.partition("-")[0]))
        counts = table(reader.counts([path], self.now)[0].counts)
        half_life = view.version.half_life_s
        return Seen(counts, None if half_life is None else int(half_life), marks, tuple(remembered))

    def believed(self, state: SegmentModel | None, names: tuple[str, ...] = ()) -> Seen | None:
        """Return what should be seen of a segment in this state."""
        if state is None:
            return None
        ids = state.window.ids
        known = tuple(name for name in dict.fromkeys(names) if name in ids[0] or name in ids[1])
        return Seen(state.table(self.now), state.half_life, state.marks, known)

    def check(self) -> None:
        """Compare everything that can be seen with the model."""
        assert set(self.model.segments) <= set(self.auditor.segments())
        for path in self.auditor.segments():
            seen, believed = self.see(path), self.believed(self.model.segments.get(path))
            assert seen == believed, f"{path!r} holds {seen}, not {believed}"
        for log in self.logs:
            assert self._checkpoint(log.source) == self.model.checkpoints.get(log.source, (0, 0))
            self._check_checkpoint(log)
        assert self._half_life() == self.model.half_life

    def check_reader(self, which: str) -> None:
        """Compare what a client reads, which remembers registries, with the model."""
        bandit = self.clients[which]
        for path in {"", *self.model.segments}:
            assert table(bandit.counts(path)) == self.model.table(path, self.now)
            below = table(bandit.counts(path, descendants=True))
            assert below == self.model.below(path, self.now), path

    def check_published(self, *, fresh: bool) -> None:
        """Read every published blob: whole, never older, and if `fresh` of these counts."""
        for path in {"", *self.model.segments}:
            [blob] = publish.fetch(self.auditor.store, NAME, [path])
            if not blob:
                assert path not in self.model.published
                continue
            snapshot = decode(blob)
            before = self.model.published.get(path, 0)
            assert snapshot.version >= before, "an older version replaced a newer one"
            if fresh:
                assert snapshot.version > before
                counts = self.model.below(path, self.now)
                assert set(snapshot.arms) == set(counts)
                for arm, alpha in zip(snapshot.arms, snapshot.alpha.tolist(), strict=True):
                    assert alpha == 1 + counts[arm][1]
            self.model.published[path] = snapshot.version

    def _checkpoint(self, source: str) -> tuple[int, int]:
        found = checkpoints.load(self.auditor.store, NAME, source)
        return found.position.line, found.refused

    def _half_life(self) -> int | None:
        found = self.auditor.half_life
        return None if found is None else int(found.total_seconds())

    # Travelling.

    def keep(self) -> None:
        """Remember the state of this moment."""
        self.pasts.append(Past(self.server.keep(), copy.deepcopy(self.model)))

    def travel(self, past: Past) -> None:
        """Let the server go on from an older state."""
        self.server.set_back(past.data)
        self.model = copy.deepcopy(past.model)
        self.recover()
