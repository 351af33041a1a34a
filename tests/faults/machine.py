"""The state machine: what clients do, and what befalls them, in any order.

No rule has a precondition: timing may decide what a fault does, and hypothesis must be able to
draw the same steps again.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from banditcore.errors import InvalidValueError, PartlyAppliedError
from banditcore.store import publish
from faults.damage import DAMAGES
from faults.logfile import LogFile
from faults.model import GRID, ModelEvent, Sending
from faults.operations import AddArms, ChangeHalfLife, Ingest, Operation, Record, Retire
from faults.trouble import FAULTS, Trouble
from faults.world import EPOCH, NAME, World

SEGMENTS = ("", "IN", "IN/mobile", "US")
ARMS = (*(f"arm {i}" for i in range(8)), "{brace}:\n", "é" * 40)
HALF_LIVES = (None, GRID, GRID // 2)
ERA = 20  # grid steps; within them all sums fit float64
NOON = 9  # grid steps; there life in an era begins, a step before the edge of two buckets
JUMP = 700  # grid steps; after them what was before is next to nothing

shapes = st.integers(0, 2**32 - 1)
"""All that a rule decides, by way of a generator: a step then costs few bytes of an example."""


class CountingOnce(RuleBasedStateMachine):
    """Every event counts once; see `tests/faults/model.py` for what that means exactly."""

    kind = "valkey"
    steps = 0
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._world: World | None = None
        self._serial = 0
        self._era = EPOCH
        self._latest = EPOCH
        self._sent: list[Sending] = []  # to be sent again
        self._with_ids: list[ModelEvent] = []
        self._is_sound = True  # False from the beginning of a step to its end

    @property
    def world(self) -> World:
        self._is_sound = False
        if self._world is None:
            half_life = random.Random(self._serial).choice(HALF_LIVES)
            self._world = self._stack.enter_context(
                World(self.kind, self._directory, half_life, type(self).tally)
            )
            self._world.clock.now = self._era + NOON * GRID
            self._latest = self._world.now
        return self._world

    def teardown(self) -> None:
        try:
            if self._world is not None and self._is_sound:
                self._settle_all()
        finally:
            self._stack.close()

    # What a rule draws.

    def _event(self, dice: random.Random, times: tuple[int, int] = (-4, 3)) -> ModelEvent:
        self._serial += 1
        trials = dice.choice((1, 1, 1, 2, 3))
        step = dice.randint(*times)
        time = max(self._era, self.world.now + step * GRID)
        return ModelEvent(
            f"event {self._serial}",
            dice.choice(SEGMENTS),
            dice.choice(ARMS),
            trials,
            dice.randint(0, 2 * trials) / 2,
            time,
        )

    def _recording(self, dice: random.Random) -> Record:
        n = dice.choice((1, 2, 3, 8, 40))
        form = dice.choice(("plain", "plain", "named", "ids", "ids"))
        if form != "ids":
            events = tuple(self._event(dice) for _ in range(n))
            self._serial += 1
            name = f"mine {self._serial}" if form == "named" else None
            return Record(Sending(events, batch_id=name))
        new = [self._event(dice) for _ in range(n)]
        self._with_ids += new
        repeated = dice.choices(self._with_ids, k=dice.choice((0, 1, n)))
        mixed = new + repeated
        dice.shuffle(mixed)
        return Record(Sending(tuple(mixed), with_ids=True))

    def _operation(self, dice: random.Random) -> Operation:
        kind = dice.choice(("record",) * 6 + ("again",) * 3 + ("ingest",) * 6 + ("arms",) * 4)
        if kind == "again" and self._sent:
            return Record(dice.choice(self._sent))
        if kind == "ingest":
            return self._ingestion(dice)
        if kind == "arms":
            return self._administration(dice)
        return self._recording(dice)

    def _ingestion(self, dice: random.Random) -> Ingest:
        if not self.world.logs or dice.random() < 0.1:
            self._new_log(dice)
        elif dice.random() < 0.7:
            self._grow(dice)
        log = dice.choice(self.world.logs)
        return Ingest(log, dice.choice((1, 3, 10, 1000)), rescan=dice.random() < 0.2)

    def _administration(self, dice: random.Random) -> Operation:
        kind = dice.choice(("retire", "retire", "add", "half-life"))
        arms = tuple(dice.sample(ARMS, dice.randint(1, 4)))
        if kind == "retire":
            return Retire(dice.choice(SEGMENTS), arms)
        if kind == "add":
            return AddArms(dice.choice(SEGMENTS), arms)
        return ChangeHalfLife(dice.choice(HALF_LIVES))

    def _new_log(self, dice: random.Random) -> None:
        path = self._directory / f"log-{len(self.world.logs)}.jsonl"
        self.world.logs.append(LogFile(path, self._event(dice, (-4, 0)), self.world.clock))

    def _grow(self, dice: random.Random) -> None:
        log = dice.choice(self.world.logs)
        n = dice.choice((1, 2, 5, 20))
        log.append([None if dice.random() < 0.1 else self._event(dice, (-4, 0)) for _ in range(n)])

    # Doing it.

    def _do(self, operation: Operation, fault: str, dice: random.Random) -> None:
        world = self.world
        if self._is_too_early(operation):
            try:
                operation.perform(world.clients["direct"])
            except InvalidValueError:
                world.tally["refused as too early"] += 1
                return
            raise AssertionError("an event that is too early was taken")
        trouble = Trouble(world, operation.word, dice)

        def race() -> None:
            other = self._administration(dice) if dice.random() < 0.7 else self._recording(dice)
            if self._is_too_early(other):
                other = self._administration(dice)
            while isinstance(operation, ChangeHalfLife) and not isinstance(other, Retire):
                other = self._administration(dice)  # whatever else meets it, may come before it
            if isinstance(operation, Ingest) and dice.random() < 0.5:
                operation.is_overtaken = True
                other = Ingest(operation.log, dice.choice((1, 3, 1000)), rescan=dice.random() < 0.5)
            answer = other.perform(world.clients["direct"])
            expected = other.expected(world.model, world.now)
            assert answer == expected.answer
            world.tally[f"raced by {type(other).__name__}"] += 1
            for path, states in expected.segments.items():
                after = states[-1]
                assert after is not None
                world.model.segments[path] = after
            if expected.half_life is not None:
                [world.model.half_life] = expected.half_life
            if expected.checkpoints:
                world.model.checkpoints[expected.source] = expected.checkpoints[-1]

        client = trouble.arrange(fault, race)
        error = world.attempt(operation, client, fault)
        note(f"{type(operation).__name__} by {client} under {fault}: {error or 'done'}")
        if trouble.error is not None:
            raise trouble.error
        if isinstance(operation, Record):
            self._remember(operation.sending, error)
        if isinstance(operation, ChangeHalfLife) and error is not None:
            # Whoever opens a segment that it left behind would go on with it, at another time.
            world.attempt(operation, "direct", "none")
        if fault == "killed_after":
            world.server.kill()
            world.recover()

    def _is_too_early(self, operation: Operation) -> bool:
        """Whether the clock went back since these events were sent first."""
        if not isinstance(operation, Record):
            return False
        return max(event.time for event in operation.sending.events) > self.world.now + 3 * GRID

    def _remember(self, sending: Sending, error: Exception | None) -> None:
        if isinstance(error, PartlyAppliedError) and error.batch_id != sending.batch_id:
            sending = replace(sending, batch_id=error.batch_id, first_sent=self.world.now)
        if sending.with_ids or sending.batch_id is not None:
            self._sent = [*self._sent[-30:], sending]

    def _move_clock(self, steps: int) -> None:
        """Move it within its era, and never by more than an hour behind what it showed."""
        world = self.world
        now = max(world.now + steps * GRID, self._latest - 3 * GRID, self._era + 4 * GRID)
        world.clock.now = min(now, self._era + (ERA - 3) * GRID)
        self._latest = max(self._latest, world.now)

    def _finish(self, name: str) -> None:
        type(self).steps += 1
        self.world.tally[f"rule: {name}"] += 1
        self.world.check()
        which = ("direct", "proxied", "patient")[type(self).steps % 3]
        self.world.check_reader(which)
        self._is_sound = True

    def _settle_all(self) -> None:
        """Once healed, everything that is still outstanding gets through, and counts once."""
        world = self.world
        for log in world.logs:
            for rescan in (True, False):
                world.attempt(Ingest(log, 1000, rescan), "direct", "none")
        world.check()
        world.renew("direct")
        world.check_reader("direct")

    # Rules.

    # Several names for one thing make it as likely as several others together.

    @rule(shape=shapes)
    def does(self, shape: int) -> None:
        dice = random.Random(shape)
        self._do(self._operation(dice), "none", dice)
        self._finish("does")

    @rule(shape=shapes, fault=st.sampled_from(FAULTS))
    def does_under_a_fault(self, shape: int, fault: str) -> None:
        dice = random.Random(shape)
        self._do(self._operation(dice), fault, dice)
        self._finish("does under a fault")

    @rule(shape=shapes, fault=st.sampled_from(FAULTS))
    def does_more_under_a_fault(self, shape: int, fault: str) -> None:
        self.does_under_a_fault(shape, fault)

    @rule(shape=shapes, fault=st.sampled_from(FAULTS), steps=st.integers(-3, 3))
    def fails_and_sends_again(self, shape: int, fault: str, steps: int) -> None:
        dice = random.Random(shape)
        self._do(self._recording(dice), fault, dice)
        if self._sent:
            self._move_clock(steps)
            self._do(Record(self._sent[-1]), "none", dice)
        self._finish("fails and sends again")

    @rule(shape=shapes, fault=st.sampled_from(FAULTS), steps=st.integers(-3, 3))
    def fails_more_and_sends_again(self, shape: int, fault: str, steps: int) -> None:
        self.fails_and_sends_again(shape, fault, steps)

    @rule(steps=st.integers(-3, 3))
    def the_clock_moves(self, steps: int) -> None:
        self._move_clock(steps)
        self._finish("clock")

    @rule()
    def the_clock_leaps(self) -> None:
        """So far that the landmark has to move, or that windows are long gone."""
        self._era += JUMP * GRID
        self.world.clock.now = self._latest = self._era + NOON * GRID
        self._finish("leap")

    @rule()
    def a_state_is_kept(self) -> None:
        self.world.keep()
        self._finish("keep")

    @rule(shape=shapes)
    def the_server_goes_back(self, shape: int) -> None:
        dice = random.Random(shape)
        world = self.world
        if not world.pasts:
            world.keep()
        world.travel(dice.choice(world.pasts))
        world.tally["went back"] += 1
        self._finish("travel")
        for log in world.logs:
            # It is another server process, so an ordinary run reads from the beginning too.
            again = Ingest(log, dice.choice((2, 1000)), rescan=dice.random() < 0.5)
            world.attempt(again, "direct", "none")
            for path, segment in world.model.segments.items():
                last = max(
                    (n for n, e in enumerate(log.lines, 1) if e is not None and e.segment == path),
                    default=0,
                )
                assert segment.marks.get(log.source, 0) >= last
        self._finish("rescan")

    @rule(shape=shapes)
    def a_log_is_cut(self, shape: int) -> None:
        """Below what was read of it: refused, and nothing changes. Then it is as it was."""
        dice = random.Random(shape)
        world = self.world
        if not world.logs:
            self._new_log(dice)
        log = dice.choice(world.logs)
        lines, _ = world.model.checkpoints.get(log.source, (0, 0))
        if lines > 1:
            whole = log.path.read_bytes()
            log.path.write_bytes(whole[: dice.randint(log.ends[1], log.ends[lines] - 1)])
            try:
                Ingest(log, 1000, rescan=dice.random() < 0.5).perform(world.clients["direct"])
            except InvalidValueError:
                world.tally["cut log refused"] += 1
            else:
                raise AssertionError("a log that was cut was ingested")
            log.path.write_bytes(whole)
        log.begin_line()
        world.attempt(
            Ingest(log, 1000), "direct", "none"
        )  # a line that is not complete is not read
        log.finish_line()
        self._finish("cut")

    @rule(shape=shapes, fault=st.sampled_from(("none", "none", "full", "lost_reply", "flushed")))
    def publishes(self, shape: int, fault: str) -> None:
        dice = random.Random(shape)
        world = self.world
        before = {
            path: publish.fetch(world.auditor.store, NAME, [path])[0]
            for path in world.model.published
        }
        client = Trouble(world, b"_publish", dice).arrange(fault, lambda: None)
        report = world.clients[client].refresh(depth=3, slates=4)
        world.recover()
        assert fault != "none" or not report.failed, report.failed
        world.check_published(fresh=not report.failed)
        for path, blob in before.items():
            version = int.from_bytes(blob[8:16], "little")
            if version < world.model.published[path]:
                assert not publish.publish(world.auditor.store, NAME, path, blob, version)
        world.check_published(fresh=False)
        world.tally["published" if not report.failed else f"publishing failed by {fault}"] += 1
        self._finish("publish")

    @rule(shape=shapes, kind=st.sampled_from(sorted(DAMAGES)))
    def a_stored_value_is_damaged(self, shape: int, kind: str) -> None:
        dice = random.Random(shape)
        self._serial += 1
        if DAMAGES[kind](self.world, dice, f"damage {self._serial}"):
            self.world.tally[f"damaged {kind}"] += 1
        self._finish("damage")

    @rule(which=st.sampled_from(("direct", "proxied", "patient", "hasty")))
    def a_client_is_replaced(self, which: str) -> None:
        self.world.renew(which)
        self._finish("replaced")
