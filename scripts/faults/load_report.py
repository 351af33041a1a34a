"""The table of a load, and the verdict: what broke a promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from load_hiccups import Hiccups
from load_requests import KINDS
from load_tally import Phase, Tally, percentiles

ROWS = {"memory": ("bank", "live"), "with caps": ("caps",), "marks": ("mark",)}
_LABELS = ("stale", "ancestor", "default", "seen", "kept")
_WIDTHS = (24, 10, 8, *(8,) * 4, *(8,) * 4, 8, 8, *(9,) * len(_LABELS), 7)
_MOST_SAID = 5


@dataclass(frozen=True)
class Measured:
    """A fault and what was seen meanwhile, until all was well again.

    Attributes
    ----------
    idle_s : float
        The longest that a process overslept that did nothing else.
    recovery_s : float
        From the fault's end until every answer was as promised.
    """

    fault: str
    phase: Phase
    idle_s: float
    recovery_s: float


class Report:
    """Prints a row as soon as it is known. `sound` tells whether no promise was broken.

    Parameters
    ----------
    budget : float
        Seconds that a request may take.
    strict : bool
        Whether one that took longer is wrong; else only told.
    """

    def __init__(self, hiccups: Hiccups, budget: float, *, strict: bool) -> None:
        self._hiccups = hiccups
        self._budget = budget
        self._strict = strict
        self._total = Phase()
        self._longest_idle_s = 0.0
        self.sound = True

    def head(self) -> None:
        """Print what the columns are."""
        print("times in ms; service: from the call on; intended: from when the request was due;")
        print("idle: how long a thread of the service, and a process, overslept that only sleep")
        service = ("p50", "p99", "p99.9", "max")
        _print(
            "fault", "requests", "samples", *service, *service, "ours", "idle", *_LABELS, "errors"
        )
        _print("", "", "", "service", "", "", "", "intended", "", "", "", "idle", "idle")

    def add(self, measured: Measured) -> None:
        """Print the rows of a fault, and what was wrong."""
        self._rows(measured.fault, measured.phase, measured.idle_s)
        self._total.add(measured.phase)
        self._longest_idle_s = max(self._longest_idle_s, measured.idle_s)
        for kind, tally in measured.phase.tallies.items():
            for what, times in _most_common((tally.exceptions, tally.wrong)):
                self.accuse(f"{measured.fault}, {kind}: {times} times {what}")
        self._judge_slow(measured)
        print(f"{'':24}all as promised again after {measured.recovery_s:.1f} s", flush=True)

    def end(self) -> None:
        """Print the rows of all together, kind by kind."""
        print()
        self._rows("all", self._total, self._longest_idle_s, {kind: (kind,) for kind in KINDS})

    def accuse(self, what: str) -> None:
        """Say that a promise was broken."""
        self.sound = False
        print(f"WRONG: {what}", flush=True)

    def _rows(
        self,
        name: str,
        phase: Phase,
        idle_s: float,
        rows: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        for row, kinds in (rows or ROWS).items():
            tally = phase.of(kinds)
            _print(
                name,
                row,
                f"{tally.samples:,}",
                *percentiles(tally.service),
                *percentiles(tally.intended),
                f"{1e3 * phase.longest_stall_s:.1f}",
                f"{1e3 * idle_s:.1f}",
                *(str(tally.labels[label] or "") for label in _LABELS),
                str(tally.exceptions.total()),
            )
            name = ""

    def _judge_slow(self, measured: Measured) -> None:
        """Hold every request to the budget, less what the machine let this process wait."""
        over = [slow for slow in measured.phase.slow if slow.end - slow.begin > self._budget]
        for slow in over:
            took = slow.end - slow.begin
            idle = self._hiccups.within(slow.begin, slow.end)
            ours = sum(each.waited(slow.begin, slow.end) for each in measured.phase.stalls)
            machine = max(idle, ours)
            words = (
                f"{measured.fault}, {slow.kind}: {1e3 * took:.0f} ms, {1e3 * slow.processor_s:.1f} "
                f"of them on a processor; meanwhile idle processes waited {1e3 * idle:.0f} ms, and "
                f"this one {1e3 * ours:.0f} ms without a processor"
            )
            if took - machine > self._budget and self._strict:
                self.accuse(words)
            else:
                print(f"(over the budget: {words})")


def _most_common(counters: Iterable[dict[str, int]]) -> Iterable[tuple[str, int]]:
    for counter in counters:
        yield from sorted(counter.items(), key=lambda item: -item[1])[:_MOST_SAID]


def _print(*cells: str) -> None:
    padded = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=False))
    ]
    print(" ".join(padded).rstrip(), flush=True)


def answered(phase: Phase) -> Tally:
    """Return the answers of all kinds together."""
    return phase.of(kind for kind in KINDS if kind != "mark")
