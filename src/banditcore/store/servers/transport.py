"""Sends commands to a store, many in one round trip, wherever their keys live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import redis
from redis import exceptions

from banditcore.store.servers.url import StoreAddress

__all__ = ["Answer", "Command", "Conversation", "Failure", "OneServer", "Transport", "Word"]

Word = bytes | str | int | float


class Command(NamedTuple):
    """A command, not yet sent.

    Attributes
    ----------
    key : str or bytes
        A key that it touches; all others must have the same hash tag.
    words : tuple
        The command itself.
    """

    key: str | bytes
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Stands in the place of a reply.

    Attributes
    ----------
    error : Exception
        A `redis.exceptions.ResponseError` is the server's word; any other: there was none.
    node : str
        Which of the store's servers was asked, "host:port"; "" if it has but one.
    may_have_run : bool
        Whether the command may have had its effect.
    """

    error: Exception
    node: str = ""
    may_have_run: bool = False


Answer = Any  # what the server said, as bytes, int, None or a list of these; or a Failure


class Transport(Protocol):
    """How a store is spoken to."""

    @property
    def address(self) -> StoreAddress:
        """Where the store is."""

    @property
    def client(self) -> redis.Redis | redis.RedisCluster:
        """The client below; it sends nothing twice after a connection broke."""

    def send(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands, at once to each server, and return their answers in order.

        A command is sent again only if the server refused it unread, to go to another. No command
        may rely on one before it, which may come to run later.
        """

    def servers(self) -> dict[str, redis.Redis]:
        """Return a client of each primary there is now, by `Failure.node`."""

    def server(self, node: str) -> redis.Redis:
        """Return a client of the server that a `Failure` names."""

    def close(self) -> None:
        """Close all connections."""


class OneServer:
    """Speaks to one server, or to the one that sentinels name.

    Parameters
    ----------
    client : redis.Redis
        Of the server; must retry nothing.
    address : StoreAddress
        Where it is.
    also_close : callable, optional
        Closes what else was opened to find it.
    """

    def __init__(
        self,
        client: redis.Redis,
        address: StoreAddress,
        also_close: Callable[[], None] | None = None,
    ) -> None:
        self.client = client
        self.address = address
        self._also_close = also_close

    def send(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands in one round trip and return their answers in order."""
        if not commands:
            return []
        written = False
        try:
            with Conversation(self.client) as conversation:
                written = True
                conversation.write(command.words for command in commands)
                return conversation.read()
        except exceptions.RedisError as error:
            return [Failure(error, may_have_run=written)] * len(commands)

    def servers(self) -> dict[str, redis.Redis]:
        """Return the one client under the name ""."""
        return {"": self.client}

    def server(self, node: str) -> redis.Redis:  # noqa: ARG002  # there is but one
        """Return the one client."""
        return self.client

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
        if self._also_close is not None:
            self._also_close()


class Conversation:
    """Commands to one server over one connection. Ending it in between gives up the connection.

    Parameters
    ----------
    client : redis.Redis
        Of the server. Its response callbacks do not apply: replies are what the server sent.
    node : str
        The `Failure.node` of what fails.

    Raises
    ------
    redis.exceptions.RedisError
        When no connection can be made; nothing was sent then. `write` raises it too.
    """

    def __init__(self, client: redis.Redis, node: str = "") -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._node = node
        self._unread = 0

    def write(self, commands: Iterable[tuple[Word, ...]]) -> None:
        """Send commands."""
        # Counted first: a part that was sent is as good as a reply that was not read.
        sent = list(commands)
        self._unread += len(sent)
        self._connection.send_packed_command(self._connection.pack_commands(sent))

    def read(self) -> list[Answer]:
        """Return the answers to everything that was written, as far as they come."""
        answers: list[Answer] = []
        while self._unread:
            try:
                answers.append(self._connection.read_response())
            except exceptions.ResponseError as error:
                answers.append(Failure(error, self._node))
            except exceptions.RedisError as error:
                lost = Failure(error, self._node, may_have_run=True)
                return answers + [lost] * self._unread
            self._unread -= 1
        return answers

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The next user of the connection must not read the replies to these commands.
        if self._unread:
            self._connection.disconnect()
        self._pool.release(self._connection)
