"""Runs one embedded server for as long as anybody uses its directory.

Call: ``python -I -S supervisor.py PLAN``, where PLAN is JSON with

``command``
    The server's command line.
``users``, ``server``, ``supervisor``
    Paths of the lock files.
``scratch``
    A directory to remove at the end, or null.

Standard library only: it starts in the time of a bare interpreter. The process that was called
takes the locks, leaves a child in a session of its own and exits with 0, or with 1 and a line
on standard error. The child

* starts the server, which inherits the server lock: while that is held, a server or its
  supervisor lives, and nobody may start another on the same files;
* waits until it can have the users lock for itself: then nobody uses the directory any more;
* stops the server with SIGTERM, waits for its last write to disk, and leaves.

A terminal's Ctrl-C does not reach this session.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

POLL_S = 0.15
LOCK_WAIT_S = 1.0
_PR_SET_PDEATHSIG = 1


def main(plan_text: str) -> int:
    """Take the locks, leave the supervisor running in the background."""
    plan: dict[str, Any] = json.loads(plan_text)
    os.umask(0o077)
    # The host program may block or ignore signals, and both are inherited: a server that does not
    # see SIGTERM never stops, one that ignores SIGCHLD cannot see how its children end.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    held = [_exclusive(plan["server"]), _exclusive(plan["supervisor"])]
    if None in held:
        _say("another server still holds this directory")
        return 1
    if os.fork():
        return 0  # the locks stay with the child: it shares these open files
    os.setsid()
    os.chdir("/")
    os._exit(_supervise(plan, held[0]))


def _supervise(plan: dict[str, Any], server_lock: int | None) -> int:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    users = os.open(plan["users"], os.O_RDWR | os.O_CLOEXEC)
    supervisor = os.getpid()
    try:
        server = subprocess.Popen(  # noqa: S603  # the launcher's command, no shell
            plan["command"],
            stdin=subprocess.DEVNULL,
            pass_fds=(server_lock,) if server_lock is not None else (),
            # A broken LANG must not keep the server from starting.
            env={**os.environ, "LC_ALL": "C"},
            preexec_fn=lambda: _follow(supervisor),  # noqa: PLW1509  # one thread here: safe
        )
    except OSError as error:
        _say(f"cannot start {plan['command'][0]}: {error}")
        return 1
    while server.poll() is None:
        if stopping or _try_exclusive(users):
            server.send_signal(signal.SIGTERM)
            server.wait()  # as long as it takes: it is writing the last changes to disk
            break
        time.sleep(POLL_S)
    if plan["scratch"]:
        shutil.rmtree(plan["scratch"], ignore_errors=True)
    return 0


def _follow(parent: int) -> None:
    """Let the kernel stop this server when its supervisor dies (Linux)."""
    # The supervisor ignores these; a server must not inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


def _exclusive(path: str) -> int | None:
    """Open `path` and lock it; None if somebody else keeps it locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A client that asks "is it locked?" holds it for microseconds.
    for _ in range(int(LOCK_WAIT_S / 0.01)):
        if _try_exclusive(descriptor):
            return descriptor
        time.sleep(0.01)
    os.close(descriptor)
    return None


def _try_exclusive(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"banditcore supervisor: {text}\n")
    sys.stderr.flush()


def _run() -> NoReturn:
    raise SystemExit(main(sys.argv[1]))


if __name__ == "__main__":
    _run()
