"""Runs a server of our own on a data directory, for as long as anybody uses it.

Every process that uses a directory holds a shared lock on ``users.lock``. A small supervisor
(`supervisor`) owns the server and stops it when it gets that lock for itself. So a server ends
with the last of its users, however they end; a second process joins the one that runs; and two
that start at once start one. One that was killed is started again by whoever of its users finds
it gone first. The locks are ``flock`` locks: the directory must be on a local
file system.

Fork: a forked child shares the parent's lock on ``users.lock``, because both hold the same open
file. It is therefore released by closing the descriptor, never by unlocking it, and the server
lives until parent and children have all closed theirs or ended. ``launch.lock`` is the
opposite: it is unlocked explicitly, so that a child forked during a launch cannot keep it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from banditcore.errors import StoreError, StoreUnavailableError, StoreUnfitError
from banditcore.store.embedded.binary import server_binary
from banditcore.store.embedded.data_directory import DataDirectory, is_locked

__all__ = ["EmbeddedServer"]

_POLL_S = 0.005
_LOG_LINES = 12  # that are searched for a known cause
_SHOWN_LINES = 3
_SHOWN = 300  # characters
_BAD_FORMAT = re.compile(r"bad file format reading the append only file (?P<file>[^\s:]+)")


class EmbeddedServer:
    """One use, by this process, of the server on a data directory.

    Made by `open`; `close` gives the use up. Any number of processes, and of objects within a
    process, may use one directory.

    Attributes
    ----------
    directory : Path
        Where its data are.
    socket_path : Path
        Where it listened when this use last looked.
    """

    def __init__(self, files: DataDirectory, socket_path: Path, users_lock: int) -> None:
        self.directory = files.directory
        self.socket_path = socket_path
        self._files = files
        # Closing the descriptor is all there is to do, so it may also happen at collection.
        self._release = weakref.finalize(self, os.close, users_lock)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, timeout_s: float = 5.0) -> EmbeddedServer:
        """Join the server on `directory`; start it if none runs.

        Parameters
        ----------
        directory : path
            Made with mode 0700 if it does not exist.
        timeout_s : float
            The longest to wait, in seconds, loading of the data included.

        Raises
        ------
        InvalidValueError
            The directory cannot be used.
        StoreUnfitError
            No server binary is installed, or it cannot start on these data.
        CorruptDataError
            The directory's record of where its server listens is damaged.
        StoreUnavailableError
            The server did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        files = DataDirectory(Path(os.path.abspath(directory)))  # noqa: PTH100  # also drops ".."
        files.prepare()
        with _explaining(files):
            users_lock = _lock(files.users, fcntl.LOCK_SH, deadline, "its server is still stopping")
            try:
                with _launching(files, deadline):
                    socket_path = _ensure_running(files, deadline)
            except BaseException:
                os.close(users_lock)
                raise
        return cls(files, socket_path, users_lock)

    def revive(self, timeout_s: float) -> Path:
        """Return where the server listens; start it again if it died.

        Of many that find it gone, in any processes, one starts it and the others wait. Its data
        are those of its append-only file: all that was answered, unless the machine went down.

        Parameters
        ----------
        timeout_s : float
            The longest to wait, in seconds, loading of the data included.

        Raises
        ------
        StoreError
            As `open` does; also after `close`.
        """
        if not self._release.alive:
            raise StoreError(
                f"the server for {str(self.directory)!r} was given up by this use: open it again"
            )
        deadline = time.monotonic() + timeout_s
        with _explaining(self._files), _launching(self._files, deadline):
            self.socket_path = _ensure_running(self._files, deadline)
        return self.socket_path

    def close(self) -> None:
        """Give up this use; the server stops soon after the last one. May be called again."""
        self._release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"


@contextmanager
def _explaining(files: DataDirectory) -> Iterator[None]:
    """Turn what the system refuses, while a server is looked for or started, into our words."""
    try:
        yield
    except OSError as error:
        raise StoreUnfitError(
            f"no server can be started on {str(files.directory)!r} ({error}): make its files "
            "readable and writable, and see that the disk and the limits of this process "
            "leave room"
        ) from error


def _ensure_running(files: DataDirectory, deadline: float) -> Path:
    """Return the socket of a server that answers; start one if none lives.

    Needs the launch lock.
    """
    started = False
    answer = ""
    while True:
        alive = is_locked(files.server)
        if alive:
            listening = files.socket()
            answer = _ping(listening, deadline)
            if answer == "+PONG" and is_locked(files.supervisor):
                return listening
            if answer == "+PONG":
                # Its supervisor was killed where the kernel does not tell the server (macOS).
                _ask(listening, b"SHUTDOWN\r\n", deadline)
        elif started:
            raise StoreUnfitError(
                f"the server for {str(files.directory)!r} did not start. {_advice(files.log)}"
            )
        else:
            _start(files)
            started = True
            continue
        if time.monotonic() >= deadline:
            state = "is still loading its data" if "LOADING" in answer else "does not answer"
            raise StoreUnavailableError(
                f"the server for {str(files.directory)!r} runs but {state}: allow more time "
                f"(timeout_s), or look into {str(files.log)!r}"
            )
        time.sleep(_POLL_S)


def _start(files: DataDirectory) -> None:
    """Start a supervisor and with it a server. Nobody else may: the launch lock is ours."""
    binary = server_binary()
    if not sys.executable:
        raise StoreUnfitError(
            "sys.executable is empty: an embedded server needs a Python interpreter to watch "
            "it; connect to a server that runs elsewhere (redis://host:6379/0)"
        )
    scratch = files.place_socket()
    plan = {
        "command": [
            str(binary),
            *("--port", "0"),
            *("--unixsocket", str(files.socket())),
            *("--unixsocketperm", "700"),
            *("--dir", str(files.directory)),
            *("--appendonly", "yes"),
            # The write reaches the kernel before the reply, so a killed server loses nothing.
            # A power cut loses up to a second, counts and marks of sources together, which
            # replaying the source restores. "always" would cost a disk flush for every batch.
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            *("--logfile", ""),
        ],
        "users": str(files.users),
        "server": str(files.server),
        "supervisor": str(files.supervisor),
        "scratch": None if scratch is None else str(scratch),
    }
    if files.log.exists():
        files.log.replace(files.log.with_suffix(".log.1"))
    descriptor = os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Its own session: a terminal's Ctrl-C must not reach the server. The process that is
        # started here leaves the supervisor behind and ends, so there is no zombie to reap.
        done = subprocess.run(  # noqa: S603  # our own file and plan, no shell
            [
                sys.executable,
                *("-I", "-S"),
                str(Path(__file__).with_name("supervisor.py")),
                json.dumps(plan),
            ],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(descriptor)
    if done.returncode != 0:
        raise StoreUnfitError(
            f"the supervisor of the server for {str(files.directory)!r} did not start. "
            + _advice(files.log)
        )


def _advice(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    tail = [line.strip() for line in lines[-_LOG_LINES:] if line.strip()]
    told = " | ".join(tail).lower()
    bad = _BAD_FORMAT.search(told)
    if "can't handle rdb format" in told or (bad and bad["file"].endswith(".base.rdb")):
        # The server's own advice, --fix, would throw away what an older one cannot read.
        advice = (
            "The data were most likely written by a newer server: do not repair them, name that "
            "server in BANDITCORE_SERVER, or choose another directory."
        )
    elif bad:
        advice = (
            "The append-only file is damaged: copy the directory, then repair it with "
            "valkey-check-aof --fix or redis-check-aof --fix."
        )
    elif "no space left" in told:
        advice = "The disk is full: make room."
    else:
        advice = "The log says why."
    shown = " | ".join(tail[-_SHOWN_LINES:]) or "(empty)"
    return (
        f"{advice} {str(log)!r} ends: {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
    )


def _lock(path: Path, kind: int, deadline: float, meanwhile: str) -> int:
    """Open `path` and lock it; return the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
        else:
            return descriptor
        os.close(descriptor)
        raise StoreUnavailableError(
            f"the data directory {str(path.parent)!r} is busy: {meanwhile}; allow more time "
            "(timeout_s), or try again"
        )


@contextmanager
def _launching(files: DataDirectory, deadline: float) -> Iterator[None]:
    lock = _lock(files.launch, fcntl.LOCK_EX, deadline, "another process is starting its server")
    try:
        yield
    finally:
        # Unlocked, not only closed: a child forked meanwhile holds the same open file.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _ping(path: Path, deadline: float) -> str:
    return _ask(path, b"PING\r\n", deadline)


def _ask(path: Path, command: bytes, deadline: float) -> str:
    """Return the first line of the server's reply; "" if it does not answer."""
    reply = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line, suppress(OSError):
        line.settimeout(max(deadline - time.monotonic(), 0.05))
        line.connect(os.fspath(path))
        line.sendall(command)
        while not reply.endswith(b"\n"):
            part = line.recv(4096)
            if not part:
                break
            reply += part
    return reply.decode(errors="replace").strip()
