"""What commands write: tables, lines, JSON documents and progress."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = ["Change", "ChangeTables", "Output", "Shown", "TableContent", "age", "plain", "span"]

Advance = Callable[[int, int, str], None]
"""Called with what is done, the total, and a word about where it is."""

Change = Callable[[Sequence[Sequence[object]]], None]
"""Called with the rows that a table has from now on."""


class TableContent(NamedTuple):
    """A table's title, the names of its columns, and its rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


ChangeTables = Callable[[Sequence[TableContent], str], None]
"""Called with the tables that are shown from now on, and a line below them, or ""."""

_EVERY_S = 5.0  # between lines of progress in a pipe


class Shown(NamedTuple):
    """A number with a form of its own on a terminal; a pipe gets the number."""

    value: float | None
    text: str


_UNITS = {"d": 86400, "h": 3600, "min": 60}


def span(seconds: float | None) -> Shown:
    """Show a duration as options take it: 604800 s is ``7d``, 5400 s ``90min``."""
    if seconds is None:
        return Shown(None, "-")
    for unit in ("d", "h", "min"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return Shown(seconds, f"{seconds / _UNITS[unit]:.0f}{unit}")
    return Shown(seconds, f"{seconds:g}s")


def age(seconds: float | None) -> Shown:
    """Show how old something is, rounded down to its largest unit: ``3min``, ``2h``, ``5d``."""
    if seconds is None:
        return Shown(None, "-")
    for unit in ("d", "h", "min"):
        if seconds >= _UNITS[unit]:
            return Shown(seconds, f"{seconds // _UNITS[unit]:.0f}{unit}")
    return Shown(seconds, f"{max(seconds, 0.0):.0f}s")


def plain(text: str) -> str:
    """Return `text` with everything unprintable escaped: ids may hold control sequences.

    The empty text (the global segment) becomes ``""``.
    """
    if text == "":
        return '""'
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Output:
    """Where a command writes.

    Results go to stdout: tables on a terminal, lines with tabs in a pipe, or with `as_json` one
    JSON document and nothing else. Warnings and progress go to stderr.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal cannot show every id
                stream.reconfigure(errors="backslashreplace")
        self._out = Console(file=sys.stdout, highlight=False, emoji=False, soft_wrap=True)
        self._below_table = False
        self._err = Console(file=sys.stderr, highlight=False, emoji=False, soft_wrap=True)

    def document(self, content: object) -> None:
        """Write one JSON document, if JSON is wanted."""
        if self.as_json:
            sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")

    def json_line(self, content: object) -> None:
        """Write one of many JSON documents, each on a line of its own, and let it be read now."""
        if self.as_json:
            sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")
            sys.stdout.flush()

    def line(self, text: str) -> None:
        """Write a line of the result; with JSON nothing."""
        if not self.as_json:
            self._part_from_table()
            self._out.print(Text(text))

    def flush(self) -> None:
        """Let what was written be read now."""
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Write a diagnostic."""
        self._err.print(Text(text))

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str = ""
    ) -> None:
        """Write a table; with JSON nothing. Numbers are aligned right.

        A pipe gets values between tabs under one line of names, every number in full; the title,
        and `empty`, which tells why there are no rows, go to stderr there.
        """
        if self.as_json:
            return
        if not self._out.is_terminal:
            self.warn(f"# {title}" if rows or not empty else empty)
            # Not by rich, which would turn the tabs into spaces.
            lines = [columns, *([_full(value) for value in row] for row in rows)]
            sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
            return
        self._part_from_table()
        if not rows and empty:
            self._out.print(Text(empty))
            return
        self._out.print(_table(title, columns, rows))
        self._below_table = True

    @contextmanager
    def changing_table(self, title: str, columns: Sequence[str]) -> Iterator[Change | None]:
        """Show a table whose rows change; None, and no table, unless stdout is a terminal."""
        if self.as_json or not self._out.is_terminal:
            yield None
            return
        shown = _table(title, columns, ())
        with Live(shown, console=self._out, auto_refresh=False, redirect_stderr=False) as live:

            def change(rows: Sequence[Sequence[object]]) -> None:
                live.update(_table(title, columns, rows), refresh=True)

            yield change

    @contextmanager
    def changing_tables(self) -> Iterator[ChangeTables | None]:
        """Show tables that change; None, and no tables, unless stdout is a terminal."""
        if self.as_json or not self._out.is_terminal:
            yield None
            return
        with Live(console=self._out, auto_refresh=False, redirect_stderr=False) as live:

            def change(tables: Sequence[TableContent], below: str) -> None:
                shown = [_table(*table) for table in tables if table.rows]
                live.update(Group(*shown, Text(below)), refresh=True)

            yield change

    def _part_from_table(self) -> None:
        if self._below_table:
            self._out.print()
        self._below_table = False

    @contextmanager
    def progress(self, what: str) -> Iterator[Advance]:
        """Show how far something is: a bar on a terminal, else a line every few seconds."""
        if not self._err.is_terminal:
            yield _Lines(self, what)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(what, total=None)

            def advance(done: int, total: int, where: str = "") -> None:
                shown = f"{what} {plain(where)}" if where else what
                bar.update(task, completed=done, total=total, description=shown)

            yield advance


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, column in enumerate(columns):
        number = bool(rows) and isinstance(rows[0][index], (int, float, Shown))
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_short(value)) for value in row))
    return table


class _Lines:
    def __init__(self, output: Output, what: str) -> None:
        self._output = output
        self._what = what
        self._next = time.monotonic() + _EVERY_S

    def __call__(self, done: int, total: int, where: str = "") -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            share = done / total if total else 1.0
            place = f" ({plain(where)})" if where else ""
            self._output.warn(f"{self._what}: {done:,} of {total:,} ({share:.0%}){place}")


def _short(value: object) -> str:
    """Return what a person reads on a terminal."""
    if isinstance(value, Shown):
        return value.text
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "-" if value is None else plain(str(value))


def _full(value: object) -> str:
    """Return what a program reads from a pipe: numbers with all their digits and no commas."""
    if isinstance(value, Shown):
        value = value.value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _short(value)
