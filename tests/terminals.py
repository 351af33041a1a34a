"""The commands as processes of their own, into a pipe or on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
from typing import Any


def spawn(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command."""
    command = [sys.executable, "-m", "banditcore", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, **options)


def on_a_terminal(columns: int, *arguments: str, typed: str = "", code: int = 0) -> str:
    """Return what a command writes on a terminal so wide, where somebody typed something."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    with spawn(*arguments, stdout=theirs, stdin=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # EIO: the other side is closed (Linux)
                break
            if not part:
                break
            written += part
        process.communicate()
    os.close(ours)
    assert process.returncode == code
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")
