"""Speaks to a cluster: finds the node of each key, and follows keys that move.

redis-py's own pipeline would not do. It asks a server for the keys of every FCALL; and when a
connection breaks it sends what was not answered again by itself, though the first may have run,
so that nobody can tell whose the effect is that the second one finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import redis
from redis import exceptions
from redis.cluster import PRIMARY, ClusterNode, get_node_name
from redis.crc import key_slot

from banditcore.errors import StoreUnavailableError
from banditcore.store.servers.deadline_socket import set_deadlines
from banditcore.store.servers.retrying import Patience
from banditcore.store.servers.translation import translating
from banditcore.store.servers.transport import Answer, Command, Conversation, Failure

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    from banditcore.store.servers.url import StoreAddress

__all__ = ["BoundedCluster", "ClusterTransport"]

_HOPS_AT_ONCE = 3
"""Rounds of redirections without a pause; a cluster in order needs two, MOVED and ASK."""

_WAITING = (exceptions.TryAgainError, exceptions.ClusterDownError)
"""What a server says that does not serve a slot just now. (The second is also "MASTERDOWN".)"""


class BoundedCluster(redis.RedisCluster):
    """A client that gives up slow connections, also those that it asks for the map."""

    def on_connect(self, connection: AbstractConnection) -> None:
        """Log in on a connection that was just made."""
        # Not as the caller's function: that is called when everything has been read already.
        set_deadlines(connection)
        super().on_connect(connection)  # type: ignore[no-untyped-call]


class ClusterTransport:
    """Sends each command to the primary that serves its key.

    A command that was refused unread (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) goes to where it
    belongs, for up to `wait_s`. Nothing is sent again after a connection broke: whether it ran, and
    whether running it twice does harm, its caller must know.

    Parameters
    ----------
    client : redis.RedisCluster
        Knows the nodes; must retry nothing.
    address : StoreAddress
        Where the cluster is.
    check : callable
        ``check(client, node)`` raises StoreUnfitError for a server that may not be used, and a
        `redis.exceptions.RedisError` for one that cannot be asked. Called for each before the
        first command goes there.
    wait_s : float
        How long commands wait for slots that no node serves or that are on the move, seconds.
    """

    def __init__(
        self,
        client: redis.RedisCluster,
        address: StoreAddress,
        check: Callable[[redis.Redis, str], None],
        *,
        wait_s: float,
    ) -> None:
        self.client = client
        self.address = address
        self._check = check
        self._wait_s = wait_s
        self._checked: set[str] = set()
        # A node without slots, that a slot moves to, is on no map.
        self._unmapped: dict[str, ClusterNode] = {}

    def send(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands in one round trip to each node and return their answers in order.

        Raises
        ------
        StoreUnfitError
            A node that joined may not be used. Other commands may have run.
        """
        answers: dict[int, Answer] = {}
        # The node to ask for each command; None stands for the owner of its slot.
        pending: dict[int, ClusterNode | None] = dict.fromkeys(range(len(commands)))
        patience = Patience(self._wait_s)
        hops = 0
        while pending:
            found = self._round(commands, pending)
            answers |= found
            pending = self._redirected(commands, found)
            hops += 1
            failures = [answers[i].error for i in pending]
            is_waiting = any(isinstance(error, _WAITING) for error in failures)
            if pending and (is_waiting or hops >= _HOPS_AT_ONCE) and not patience.wait():
                break
        return [answers[i] for i in range(len(commands))]

    def servers(self) -> dict[str, redis.Redis]:
        """Return a client of each primary, by name, as the cluster has them now; all are fit."""
        found = {}
        with translating(self):
            self._refresh()
            primaries: list[ClusterNode] = self.client.get_primaries()
        for node in primaries:
            with translating(self, node.name):
                found[node.name] = self._fit(node)
        return found

    def check_reachable(self) -> None:
        """Check each primary that can be asked now; the others are checked when they are used.

        Raises
        ------
        StoreUnfitError
            One of them may not be used.
        StoreUnavailableError
            No primary can be asked.
        """
        primaries: list[ClusterNode] = self.client.get_primaries()
        away: list[StoreUnavailableError] = []
        for node in primaries:
            try:
                with translating(self, node.name):
                    self._fit(node)
            except StoreUnavailableError as error:
                away.append(error)
        if len(away) == len(primaries):
            raise away[0]

    def server(self, node: str) -> redis.Redis:
        """Return a client of a node."""
        found = self.client.get_node(node_name=node) or self._unmapped.get(node)
        if found is None:
            raise StoreUnavailableError(
                f"the store {self.address.shown} (node {node}) has left the cluster: try again"
            )
        return self.client.get_redis_connection(found)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
        for node in self._unmapped.values():
            if node.redis_connection is not None:
                node.redis_connection.close()

    def _round(
        self, commands: Sequence[Command], pending: Mapping[int, ClusterNode | None]
    ) -> dict[int, Answer]:
        """Send each pending command once; return the answers."""
        answers: dict[int, Answer] = {}
        groups: dict[str, tuple[ClusterNode, list[int]]] = {}
        for i, asked in pending.items():
            try:
                node = asked or self._owner(commands[i].key)
            except exceptions.SlotNotCoveredError as error:
                answers[i] = Failure(error)
                continue
            groups.setdefault(node.name, (node, []))[1].append(i)
        lost: list[str] = []
        with ExitStack() as stack:
            talks: list[tuple[str, Conversation, list[int]]] = []
            for name, (node, members) in groups.items():
                try:
                    talk = stack.enter_context(Conversation(self._fit(node), name))
                    talks.append((name, talk, members))
                except exceptions.RedisError as error:
                    answers |= dict.fromkeys(members, Failure(error, name))
                    lost.append(name)
            for name, talk, members in talks:
                try:
                    talk.write(_words(commands, pending, members))
                except exceptions.RedisError as error:
                    answers |= dict.fromkeys(members, Failure(error, name, may_have_run=True))
                    lost.append(name)
            for name, talk, members in talks:
                if name in lost:
                    continue
                replies = iter(talk.read())
                for i in members:
                    asking = None if pending[i] is None else next(replies)
                    answers[i] = next(replies)
                    # Why it was not allowed to ask says more than where it is sent back to.
                    if isinstance(asking, Failure) and isinstance(answers[i], Failure):
                        answers[i] = asking
                last = answers[members[-1]]
                if isinstance(last, Failure) and last.may_have_run:
                    lost.append(name)
        if lost:
            self._try_refresh(failed=lost[0])
        return answers

    def _fit(self, node: ClusterNode) -> redis.Redis:
        """Return a client of a node, which is checked if it is new."""
        client = self.client.get_redis_connection(node)
        if node.name not in self._checked:
            self._check(client, node.name)
            self._checked.add(node.name)
        return client

    def _owner(self, key: str | bytes) -> ClusterNode:
        slot = key_slot(key if isinstance(key, bytes) else key.encode())
        return self.client.nodes_manager.get_node_from_slot(slot)

    def _has_other_owner(self, key: str | bytes, node: str) -> bool:
        try:
            return self._owner(key).name != node
        except exceptions.SlotNotCoveredError:
            return False

    def _redirected(
        self, commands: Sequence[Command], found: Mapping[int, Answer]
    ) -> dict[int, ClusterNode | None]:
        """Return the commands to send again, each with the node to ask. Updates the map."""
        again: dict[int, ClusterNode | None] = {}
        moves: dict[int, tuple[exceptions.MovedError, str]] = {}
        is_down = False
        for i, answer in found.items():
            if not isinstance(answer, Failure) or answer.may_have_run:
                continue
            error = answer.error
            if isinstance(error, exceptions.MovedError):
                moves[error.slot_id] = error, answer.node
                again[i] = None
            elif isinstance(error, exceptions.AskError):
                again[i] = self._at(error, answer.node)
            elif isinstance(error, (*_WAITING, exceptions.SlotNotCoveredError)):
                is_down = is_down or not isinstance(error, exceptions.TryAgainError)
                again[i] = None
            elif not isinstance(error, exceptions.ResponseError) and self._has_other_owner(
                commands[i].key, answer.node
            ):
                again[i] = None  # not connected, so not sent; the map is new by now
        if moves or is_down:
            self._try_refresh()
        for error, node in moves.values():
            # The node that was asked for the map may not have heard of it yet.
            error.host = error.host or node.rpartition(":")[0]
            self.client.nodes_manager.move_slot(error)
        return again

    def _at(self, error: exceptions.AskError, asked: str) -> ClusterNode:
        """Return the node that takes over a slot."""
        host = error.host or asked.rpartition(":")[0]  # "" stands for the host that said so
        name = get_node_name(host, error.port)
        node: ClusterNode | None = self.client.get_node(node_name=name)
        if node is None:
            node = self._unmapped.setdefault(name, ClusterNode(host, error.port, PRIMARY))
        return node

    def _refresh(self, failed: str | None = None) -> None:
        """Ask some node who serves what."""
        self.client.nodes_manager.initialize(
            # Should all nodes of the map be gone, those of the address may know.
            additional_startup_nodes_info=list(self.address.nodes),
            disconnect_startup_nodes_pools=False,
            last_failed_node_name=failed,
        )

    def _try_refresh(self, failed: str | None = None) -> None:
        """Refresh the map if any node answers. If none does, those who need one will say so."""
        try:
            self._refresh(failed)
        except (exceptions.RedisError, exceptions.RedisClusterException):
            return


def _words(
    commands: Sequence[Command], pending: Mapping[int, ClusterNode | None], members: Sequence[int]
) -> Iterator[tuple[bytes | str | int | float, ...]]:
    for i in members:
        if pending[i] is not None:
            yield ("ASKING",)
        yield commands[i].words
