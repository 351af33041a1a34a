"""A server that keeps all it said yes to, and that tests may kill, stop, fill up and set back."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import redis

from servers import binaries, wait_until


class MortalServer:
    """One server process with an append-only file that is synced at each write.

    The socket stands outside the data directory, so that the directory can vanish.
    """

    def __init__(self, kind: str = "valkey") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bcf", dir=tempfile.gettempdir()))
        self.data = self.directory / "d"
        self.data.mkdir()
        self.path = self.directory / "s"
        self._binary = binaries()[kind]
        self._process: subprocess.Popen[bytes] | None = None
        self._kept = 0
        self._stopped = False
        self.admin = redis.Redis.from_pool(
            redis.ConnectionPool(
                connection_class=redis.UnixDomainSocketConnection,
                path=str(self.path),
                socket_timeout=60,
            )
        )
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self, **options: str) -> None:
        """Start on what the data directory holds; return once it answers, loaded or not."""
        settings = {
            "port": "0",
            "unixsocket": str(self.path),
            "dir": str(self.data),
            "save": "86400 1000000",  # never by itself, but a failed BGSAVE stops writes
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-percentage": "0",
            "enable-protected-configs": "yes",  # for `lose_directory`
            "maxmemory-policy": "noeviction",
            "logfile": str(self.directory / "log"),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        command = [str(self._binary)]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        wait_until(self._answers, "the server does not answer")

    def load_at_once(self) -> None:
        """Let it load what is left without the `key_load_delay` that it was started with."""
        self.admin.config_set("key-load-delay", 0)

    def kill(self) -> None:
        """End it with SIGKILL, stopped or not."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._stopped = False
        self.admin.connection_pool.disconnect()

    def stop(self) -> None:
        """Let it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def heal(self) -> None:
        """Make it run, loaded, able to write, with its functions where they are."""
        assert self._process is not None
        if self._stopped:
            self._process.send_signal(signal.SIGCONT)
            self._stopped = False
        if self._process.poll() is not None:
            self.start()
        wait_until(lambda: not self.admin.info("persistence")["loading"], "it loads for too long")
        if self.admin.config_get("maxmemory")["maxmemory"] != "0":
            self.admin.config_set("maxmemory", 0)
        if self.admin.info("persistence")["rdb_last_bgsave_status"] != "ok":
            self.admin.config_set("dir", str(self.data))
            self.background_save("ok")

    def fill_up(self) -> None:
        """Refuse every write that needs memory."""
        self.admin.config_set("maxmemory", 1)

    def lose_directory(self) -> None:
        """Refuse every write, because the last attempt to save failed."""
        gone = self.directory / "gone"
        gone.mkdir()
        self.admin.config_set("dir", str(gone))
        gone.rmdir()
        self.background_save("err")

    def background_save(self, status: str) -> None:
        """Save in the background and wait for an end that is `status`."""
        self.admin.bgsave()

        def ended() -> bool:
            facts = self.admin.info("persistence")
            return not facts["rdb_bgsave_in_progress"] and facts["rdb_last_bgsave_status"] == status

        wait_until(ended, f"a background save does not end with {status}")

    def keep(self) -> Path:
        """Copy the data directory of this moment."""
        self._kept += 1
        kept = self.directory / f"kept-{self._kept}"
        shutil.copytree(self.data, kept)  # every write was synced, and none is going on
        return kept

    def set_back(self, kept: Path) -> None:
        """Go on from an older data directory, as after a failover that lost writes."""
        self.kill()
        shutil.rmtree(self.data)
        shutil.copytree(kept, self.data)
        self.start()

    def settle(self) -> None:
        """Return once every connection but our own is gone, and so all that was sent is done."""
        for _ in range(3):  # whoever had connected before the first of them is accepted now
            self.admin.ping()
        wait_until(lambda: len(self.admin.client_list()) == 1, "a client stays connected")

    def close(self) -> None:
        """End it and remove all its files."""
        self.kill()
        self.admin.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self.directory / "log").read_text(errors="replace")[-2000:])
        with closing(socket.socket(socket.AF_UNIX)) as line:
            try:
                line.connect(str(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith((b"+PONG", b"-LOADING"))
