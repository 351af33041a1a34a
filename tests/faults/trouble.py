"""Faults, made on a real server while a client is about to change something there."""

from __future__ import annotations

import random
from collections.abc import Callable

from faults.world import World

Action = Callable[[], None]


class Trouble:
    """One fault, ready to strike; `error` holds what went wrong in striking."""

    def __init__(self, world: World, word: bytes, dice: random.Random) -> None:
        self._world = world
        self._word = word
        self._dice = dice
        self.error: BaseException | None = None

    def arrange(self, fault: str, other: Action) -> str:
        """Set a fault up; return which client is to meet it. A racing client does `other`."""
        client: str = getattr(self, f"_{fault}")(other)
        return client

    def _soon(self, action: Action) -> None:
        """Do something when the request that changes things has left the client."""

        def guarded() -> None:
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - it belongs to the main thread
                self.error = error

        self._world.proxy.before_next_request(self._word, guarded)

    def _proxied(self) -> str:
        return self._dice.choice(["proxied", "patient"])

    def _none(self, _: Action) -> str:
        return self._dice.choice(["direct", "proxied", "patient"])

    def _lost_reply(self, _: Action) -> str:
        for _again in range(self._dice.randint(1, 2)):
            self._world.proxy.lose_next_reply(self._word)
        return self._proxied()

    def _cut(self, _: Action) -> str:
        self._world.proxy.cut_next_request(self._word, self._dice.randint(0, 1500))
        return self._proxied()

    def _swallowed(self, _: Action) -> str:
        self._world.proxy.swallow_next_request(self._word)
        return "hasty"

    def _hang(self, _: Action) -> str:
        """The request waits in the socket and is done after its client gave up."""
        if self._dice.random() < 0.3:
            self._world.server.stop()
        else:
            self._soon(self._world.server.stop)
        return "hasty"

    def _killed_before(self, _: Action) -> str:
        self._soon(self._world.server.kill)
        return "proxied"

    def _killed_meanwhile(self, _: Action) -> str:
        """Killed, and started again, while a patient client keeps trying."""

        def restart() -> None:
            self._world.server.kill()
            self._world.server.start()

        self._soon(restart)
        self._world.proxy.cut_next_request(self._word, self._dice.randint(0, 1500))
        return "patient"

    def _killed_after(self, _: Action) -> str:
        """What was executed must have survived."""
        self._world.proxy.lose_next_reply(self._word)
        return "proxied"

    def _restarted(self, _: Action) -> str:
        self._world.server.kill()
        self._world.server.start()
        return self._none(_)

    def _loading(self, _: Action) -> str:
        self._world.server.kill()
        self._world.server.start(key_load_delay="300")
        return self._dice.choice(["direct", "patient"])

    def _flushed(self, _: Action) -> str:
        def flush() -> None:
            self._world.server.admin.function_flush()
            self._world.server.admin.script_flush()

        if self._dice.random() < 0.5:
            flush()
        else:
            self._soon(flush)
        return self._proxied()

    def _full(self, _: Action) -> str:
        if self._dice.random() < 0.5:
            self._world.server.fill_up()
        else:
            self._soon(self._world.server.fill_up)
        return "proxied"

    def _no_disk(self, _: Action) -> str:
        self._world.server.lose_directory()
        return "proxied"

    def _raced(self, other: Action) -> str:
        self._soon(other)
        return self._proxied()


FAULTS = (
    "lost_reply",
    "cut",
    "swallowed",
    "hang",
    "killed_before",
    "killed_meanwhile",
    "killed_after",
    "restarted",
    "loading",
    "flushed",
    "full",
    "no_disk",
    "raced",
    "raced",
    "raced",
)
"""What `Trouble.arrange` knows; some are likelier than others."""
