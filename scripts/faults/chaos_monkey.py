"""The harm that `chaos.py` does to its processes, its server and its connections."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from chaos_roles import TIMEOUT_S

from faults.server import MortalServer
from proxy import Proxy, proxy_before

WORDS = (b"_apply_batch", b"_apply_unique", b"_apply", b"_compact", b"_rescale", b"_append")


class Role:
    """One process that can be killed and started again."""

    def __init__(self, name: str, number: int, url: str, options: Namespace, *more: str) -> None:
        self.name = name
        self._command = [sys.executable, str(Path(__file__).with_name("chaos.py"))]
        self._command += ["--role", name, "--number", str(number), "--url", url]
        self._command += ["--directory", str(options.directory), "--seed", str(options.seed)]
        self._command += ["--start", str(options.start), *["--cluster"] * options.cluster]
        self._command += more
        self._said = options.directory / "errors"
        self.start()

    def start(self) -> None:
        """Start it; what it says on stderr is kept."""
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(  # noqa: S603 - our own script
                self._command, stdin=subprocess.DEVNULL, stderr=said
            )

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


class Monkey:
    """Does harm at random, and notes how often."""

    def __init__(
        self, server: MortalServer, proxy: Proxy, roles: list[Role], dice: random.Random
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._roles = roles
        self._dice = dice
        self.done: Counter[str] = Counter()

    def strike(self) -> None:
        """Do one harm and undo what would last."""
        deeds = (self._kill_role,) * 6 + (
            self._kill_server,
            self._kill_server,
            self._hang,
            self._hang,
            self._flush,
            self._fill,
            self._lose_disk,
            self._disturb,
            self._disturb,
            self._disturb,
            self._disturb,
        )
        self._dice.choice(deeds)()

    def heal(self) -> None:
        """Bring everything back."""
        self._proxy.heal()
        self._server.heal()

    def _pause(self, most: float) -> None:
        time.sleep(self._dice.random() * most)

    def _kill_role(self) -> None:
        role = self._dice.choice(self._roles)
        role.kill()
        self.done[f"{role.name}: killed"] += 1
        role.start()

    def _kill_server(self) -> None:
        self._server.kill()
        self._pause(0.5)
        self._server.start()
        self._server.heal()
        self.done["server: killed"] += 1

    def _hang(self) -> None:
        self._server.stop()
        self._pause(1.5 * TIMEOUT_S)
        self._server.heal()
        self.done["server: hung"] += 1

    def _flush(self) -> None:
        self._server.admin.function_flush()
        self._server.admin.script_flush()
        self.done["server: functions flushed"] += 1

    def _fill(self) -> None:
        self._server.fill_up()
        self._pause(0.5)
        self._server.heal()
        self.done["server: memory full"] += 1

    def _lose_disk(self) -> None:
        self._server.lose_directory()
        self._pause(0.5)
        self._server.heal()
        self.done["server: cannot save"] += 1

    def _disturb(self) -> None:
        word = self._dice.choice(WORDS)
        kind = self._dice.choice(("reply lost", "request cut", "request swallowed"))
        if kind == "reply lost":
            self._proxy.lose_next_reply(word)
        elif kind == "request cut":
            self._proxy.cut_next_request(word, self._dice.randint(0, 20_000))
        else:
            self._proxy.swallow_next_request(word)
        self.done[f"connection: {kind}"] += 1


class ServerWorld:
    """One server to harm, and a proxy before it.

    Attributes
    ----------
    url : str
        Of the server itself.
    urls : tuple
        One for each half of the processes.
    """

    def __init__(self, server: MortalServer, proxy: Proxy) -> None:
        self._server = server
        self._proxy = proxy
        self.url = server.url
        self.urls = proxy.url, server.url

    def monkey(self, roles: list[Role], dice: random.Random) -> Monkey:
        """Return who does the harm."""
        return Monkey(self._server, self._proxy, roles, dice)


@contextmanager
def server_world(options: Namespace) -> Iterator[ServerWorld]:
    """Start a server."""
    with closing(MortalServer(options.kind)) as server, proxy_before(server.path) as proxy:
        yield ServerWorld(server, proxy)
