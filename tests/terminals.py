"""The commands as processes of their own, into a pipe or on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class _Spawned(subprocess.Popen[str]):
    """Ends with its block when that fails: else a failed test would wait for ever."""

    def communicate(self, input: str | None = None, timeout: float | None = None) -> Any:  # noqa: A002  # its name
        """Return what is left to be read, and wait for the end.

        Unlike Popen's own this forgets nothing that `readline` has read ahead.
        """
        assert input is None
        with ThreadPoolExecutor(2) as pool:
            left = [pool.submit(pipe.read) if pipe else None for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()  # else the reading goes on
                raise
            return tuple(each and each.result() for each in left)

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def spawn(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command."""
    command = [sys.executable, "-m", "banditcore", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return _Spawned(command, env=env, stderr=subprocess.PIPE, text=True, **options)


def _read_all(terminal: int, written: bytearray) -> None:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: the other side is closed (Linux)
            return
        if not part:
            return
        written += part


@contextmanager
def watched_terminal(columns: int) -> Iterator[tuple[int, bytearray]]:
    """Yield a terminal so wide, to be closed once a process has it, and what is written there."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    written = bytearray()
    reader = threading.Thread(target=_read_all, args=(ours, written), daemon=True)
    reader.start()
    try:
        yield theirs, written
    finally:
        reader.join(60)
        os.close(ours)


def on_a_terminal(columns: int, *arguments: str, typed: str = "", code: int = 0) -> str:
    """Return what a command writes on a terminal so wide, where somebody typed something."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    with spawn(*arguments, stdout=theirs, stdin=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        written = bytearray()
        _read_all(ours, written)
        process.communicate()
    os.close(ours)
    assert process.returncode == code
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")
