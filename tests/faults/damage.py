"""Stored values are damaged: a clear error, nothing counted wrong, other segments as ever."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from banditcore.bandit import Bandit
from banditcore.errors import CorruptDataError, PartlyAppliedError
from banditcore.slate_format import decode
from banditcore.store import keys
from banditcore.store.seals import DIGITS, seal
from bandits import table
from faults.model import ModelEvent, Sending
from faults.operations import Ingest, Record
from faults.world import NAME, World

Damage = Callable[[World, random.Random, str], bool]
"""Damages, looks, repairs; False if there was nothing to damage. The text names new events."""


@contextmanager
def damaged(world: World, key: str, field: str | None, value: bytes) -> Iterator[None]:
    """Put `value` in the place of a stored one for as long as the block lasts."""
    admin = world.server.admin
    before = admin.get(key) if field is None else admin.hget(key, field)
    assert before is not None
    assert before != value
    put(world, key, field, value)
    try:
        yield
    finally:
        put(world, key, field, before)


def put(world: World, key: str, field: str | None, value: bytes) -> None:
    if field is None:
        world.server.admin.set(key, value)
    else:
        world.server.admin.hset(key, field, value)


def refused(world: World, path: str) -> None:
    """A new reader refuses this segment, and reads every other one as ever."""
    reader = Bandit(NAME, world.auditor.store, clock=world.clock)
    for name in world.model.segments:
        try:
            found = table(reader.counts(name))
        except CorruptDataError:
            assert name == path, f"{name!r} suffers from damage to {path!r}"
        else:
            assert name != path, f"{path!r} is damaged, and read as {found}"
            assert found == world.model.table(name, world.now)


def _segment(world: World, dice: random.Random) -> tuple[str, keys.SegmentKeys] | None:
    paths = sorted(path for path, segment in world.model.segments.items() if segment.arms)
    if not paths:
        return None
    path = dice.choice(paths)
    return path, keys.of_segment(NAME, path)


def _field(world: World, dice: random.Random, field: str, change: Callable[[bytes], bytes]) -> bool:
    found = _segment(world, dice)
    raw = None if found is None else world.server.admin.hget(found[1].state, field)
    if found is None or not raw:
        return False
    with damaged(world, found[1].state, field, change(raw)):
        refused(world, found[0])
    return True


def chunk(world: World, dice: random.Random, name: str) -> bool:
    """Cut: neither read nor added to, and what goes elsewhere arrives."""
    found = _segment(world, dice)
    raw = None if found is None else world.server.admin.hget(found[1].state, "c:0")
    if found is None or not raw:
        return False
    path, stored = found
    segment = world.model.segments[path]
    other = "there" if path == "elsewhere" else "elsewhere"
    # Where the clock went back across the edge of a bucket, even an event of now comes too late.
    time = max(world.now, segment.window.cutoff(world.now))
    events = tuple(
        ModelEvent(f"{name} {to}", to, next(iter(segment.arms)), 1, 1, time) for to in (path, other)
    )
    record = Record(Sending(events, batch_id=name))
    with damaged(world, stored.state, "c:0", raw[: -dice.randint(1, 15)]):
        refused(world, path)
        error: Exception | None = None
        try:
            record.perform(world.clients["direct"])
        except PartlyAppliedError as caught:
            error = caught
        assert isinstance(error, PartlyAppliedError)
        assert isinstance(error.__cause__, CorruptDataError)
    world.resolve(record, error)  # elsewhere it is applied, unless the registry had changed
    world.check()
    world.attempt(record, "direct", "none")  # one is a duplicate
    return True


def number(world: World, dice: random.Random, _: str) -> bool:
    """Negative, or none at all."""
    bad = struct.pack("<d", dice.choice((-1.0, float("nan"), float("inf"), float("-inf"))))
    return _field(world, dice, "c:0", lambda raw: seal(bad + raw[8:-DIGITS]))


def version(world: World, dice: random.Random, _: str) -> bool:
    """Cut, or of a schema that this release does not know."""
    cut = dice.random() < 0.5
    return _field(world, dice, "v", lambda raw: raw[:-1] if cut else b"\xff" + raw[1:])


def slots(world: World, dice: random.Random, _: str) -> bool:
    """As many as the registry does not hold."""
    by = dice.choice((-1, 1))
    return _field(world, dice, "n", lambda raw: seal(b"%d" % (int(raw[:-DIGITS]) + by)))


def registry(world: World, dice: random.Random, _: str) -> bool:
    """Cut, or another byte in an id: one that UTF-8 does not have, or any other."""
    found = _segment(world, dice)
    if found is None:
        return False
    raw = world.server.admin.get(found[1].arms)
    at = 1 + dice.randrange(raw[0] + 1)
    other = dice.choice([0xFF, raw[at] ^ 1 << dice.randrange(8)])
    change = raw[: -dice.randint(1, len(raw))] if dice.random() < 0.5 else None
    with damaged(world, found[1].arms, None, change or raw[:at] + bytes([other]) + raw[at + 1 :]):
        refused(world, found[0])
    return True


def mark(world: World, dice: random.Random, _: str) -> bool:
    """Not taken for another: the log is not applied there."""
    marked = [
        (log, path)
        for log in world.logs
        for path, segment in sorted(world.model.segments.items())
        if log.source in segment.marks
    ]
    if not marked:
        return False
    log, path = dice.choice(marked)
    state, field = keys.of_segment(NAME, path).state, keys.mark_field(log.source, "0")
    raw = world.server.admin.hget(state, field)
    with damaged(world, state, field, dice.choice((b"", b"x" + raw, raw[:-1] + b"z", raw[2:]))):
        try:
            Ingest(log, 1000, rescan=True).perform(world.clients["direct"])
        except CorruptDataError:
            pass
        else:
            raise AssertionError("a damaged mark was believed")
    return True


def checkpoint(world: World, dice: random.Random, _: str) -> bool:
    """Said, and done without by a rescan, which counts nothing twice."""
    logs = [log for log in world.logs if log.source in world.model.checkpoints]
    if not logs:
        return False
    log = dice.choice(logs)
    key = keys.of_bandit(NAME).checkpoints
    raw = world.server.admin.hget(key, log.source)
    if raw is None:  # it was never read
        return False
    put(world, key, log.source, raw[: dice.randrange(len(raw))])
    try:
        Ingest(log, 1000).perform(world.clients["direct"])
    except CorruptDataError:
        pass
    else:
        raise AssertionError("a damaged checkpoint was believed")
    before = world.model.checkpoints.pop(log.source)
    world.attempt(Ingest(log, 1000, rescan=True), "direct", "none")
    assert world.model.checkpoints[log.source] >= before
    return True


def blob(world: World, dice: random.Random, _: str) -> bool:
    """One byte of a published snapshot: refused whole."""
    if not world.model.published:
        return False
    key = keys.of_segment(NAME, dice.choice(sorted(world.model.published))).blob
    raw = world.server.admin.get(key)
    at = dice.randrange(len(raw))
    cut = raw[:at] if dice.random() < 0.3 else None
    wrong = (
        cut
        if cut is not None
        else raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]
    )
    with damaged(world, key, None, wrong):
        try:
            decode(world.server.admin.get(key))
        except CorruptDataError:
            pass
        else:
            raise AssertionError(f"a blob whose byte {at} is wrong was believed")
    return True


DAMAGES: dict[str, Damage] = {
    "chunk": chunk,
    "number": number,
    "version": version,
    "slots": slots,
    "registry": registry,
    "mark": mark,
    "checkpoint": checkpoint,
    "blob": blob,
}
