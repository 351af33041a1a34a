"""A log file that grows, and what each of its lines says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from banditcore.logs import EventLog
from faults.model import ModelEvent

BAD = b'{"segment": "IN", "arm": "a", "successes": "much"}\n'


class LogFile:
    """A JSON lines log; a line of None cannot be used.

    Attributes
    ----------
    lines : list
        All complete lines.
    ends : list of int
        Bytes before the first line and after each line.
    """

    def __init__(self, path: Path, first: ModelEvent, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self.lines: list[ModelEvent | None] = []
        self.ends = [0]
        path.write_bytes(b"")
        self.append([first])
        self.source = f"log:{self.open().fingerprint}"

    def open(self) -> EventLog:
        return EventLog(self.path, now=self._clock)

    def append(self, events: Sequence[ModelEvent | None]) -> None:
        """Add lines. Before the last one is complete, nothing of it may be read."""
        for event in events:
            line = BAD if event is None else _line(event)
            with self.path.open("ab") as file:
                file.write(line)
            self.lines.append(event)
            self.ends.append(self.ends[-1] + len(line))

    def begin_line(self) -> None:
        """Write the beginning of a line, which a later `finish_line` makes one that is refused."""
        with self.path.open("ab") as file:
            file.write(BAD[:20])

    def finish_line(self) -> None:
        with self.path.open("ab") as file:
            file.write(BAD[20:])
        self.lines.append(None)
        self.ends.append(self.ends[-1] + len(BAD))

    def line_at(self, offset: int) -> int:
        """Return how many lines end at or before an offset, which must be the end of one."""
        return self.ends.index(offset)


def _line(event: ModelEvent) -> bytes:
    record = event._asdict()
    return json.dumps({"request": record.pop("id"), **record}).encode() + b"\n"
