"""Redirections that no healthy cluster sends: nodes that only say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from banditcore.errors import StoreUnavailableError, StoreUnfitError
from banditcore.store import Store, connect
from banditcore.store.servers.transport import Command, Failure
from refusals import refused
from servers import info_reply, patiently, scripted_server

READ = Command("k", ("GET", "k"))  # its slot is 7629


def array(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def slots(port: int) -> bytes:
    """Return a map on which one node, at `port` of a host it does not name, has all slots."""
    node = array(b"$0\r\n\r\n", b":%d\r\n" % port, b"$40\r\n" + b"a" * 40 + b"\r\n")
    return array(array(b":0\r\n", b":16383\r\n", node))


@contextmanager
def node(mapped_to: int | None = None, **info: str) -> Iterator[tuple[int, dict[bytes, bytes]]]:
    """Yield the port of a node that says it has all slots, and what it answers besides."""
    replies = {
        b"INFO": info_reply(cluster_enabled="1", redis_mode="cluster", **info),
        b"COMMAND": array(),
    }
    with scripted_server(replies) as port:
        replies[b"CLUSTER"] = slots(mapped_to or port)
        yield port, replies


def _opened(url: str, timeout_s: float) -> Store:
    """Open a store; with a short timeout as often as it takes."""
    if timeout_s >= 1:
        return connect(url, timeout_s=timeout_s)
    return patiently(lambda: connect(url, timeout_s=timeout_s))


@contextmanager
def at(port: int, timeout_s: float = 5.0) -> Iterator[Store]:
    url = f"redis+cluster://127.0.0.1:{port}"
    with _opened(url, timeout_s) as store:
        yield store


def test_a_redirection_without_a_host_means_the_same_host() -> None:
    for word in (b"MOVED", b"ASK"):
        with node() as (port, replies), node() as (other, there), at(port) as store:
            replies[b"GET"] = b"-%s 7629 :%d\r\n" % (word, other)
            there[b"GET"] = b"$4\r\nhere\r\n"
            assert store.replies([READ, READ]) == [b"here", b"here"]


@pytest.mark.parametrize("word", [b"MOVED", b"ASK"])
def test_redirections_without_end_are_given_up(word: bytes) -> None:
    with node() as (port, replies), at(port, timeout_s=0.1) as store:
        replies[b"GET"] = b"-%s 7629 127.0.0.1:%d\r\n" % (word, port)
        with refused(StoreUnavailableError, "is moving these keys to another node"):
            store.replies([READ])


def test_a_node_that_joins_must_be_fit() -> None:
    with (
        node() as (port, replies),
        node(maxmemory_policy="allkeys-lru") as (other, there),
        at(port) as store,
    ):
        there[b"GET"] = b"$4\r\nhere\r\n"
        replies[b"GET"] = b"-MOVED 7629 127.0.0.1:%d\r\n" % other
        with refused(StoreUnfitError, rf"maxmemory_policy.*\(node 127.0.0.1:{other}\).*lru"):
            store.replies([READ])


def test_a_primary_that_says_it_is_none_is_not_used_yet() -> None:
    with (
        node(role="slave") as (port, _),
        refused(StoreUnavailableError, "is no primary"),
        at(port),
    ):
        pass


def test_what_was_not_sent_goes_to_the_node_that_took_over() -> None:
    with node() as (port, replies), node() as (other, there):
        there[b"GET"] = b"$4\r\nhere\r\n"
        with node() as (dead, dying):
            replies[b"CLUSTER"] = slots(dead)
            dying[b"GET"] = b"$5\r\nthere\r\n"
            store = connect(f"redis+cluster://127.0.0.1:{port}")
            assert store.replies([READ]) == [b"there"]
        with store:
            store.server(f"127.0.0.1:{dead}").connection_pool.disconnect()
            with refused(StoreUnavailableError, rf"\(node 127.0.0.1:{dead}\) cannot be reached"):
                store.replies([READ])
            replies[b"CLUSTER"] = slots(other)
            assert store.replies([READ]) == [b"here"]


def test_what_may_have_run_is_not_sent_to_the_node_that_took_over() -> None:
    with node() as (port, replies), node() as (other, there), at(port, timeout_s=0.3) as store:
        replies[b"INCR"] = b""  # it does what it is told, and falls silent
        replies[b"CLUSTER"] = slots(other)
        there[b"INCR"] = b":2\r\n"
        add = Command("k", ("INCR", "k"))
        [answer] = store.send([add])
        assert isinstance(answer, Failure)
        assert answer.may_have_run
        assert store.replies([add]) == [2]


def test_one_redirection_brings_the_whole_map() -> None:
    with node() as (port, replies), node() as (other, there), at(port) as store:
        there[b"GET"] = b"$4\r\nhere\r\n"
        replies[b"GET"] = b"-MOVED 7629 127.0.0.1:%d\r\n" % other
        replies[b"CLUSTER"] = slots(other)
        assert store.replies([READ]) == [b"here"]
        replies[b"GET"] = b"-ERR asked again\r\n"
        assert store.replies([Command("of another slot", ("GET", "of another slot"))]) == [b"here"]


def test_who_may_not_ask_is_told_so() -> None:
    with node() as (port, replies), node() as (other, there), at(port) as store:
        replies[b"GET"] = b"-ASK 7629 127.0.0.1:%d\r\n" % other
        there[b"GET"] = b"-MOVED 7629 127.0.0.1:%d\r\n" % port
        there[b"ASKING"] = b"-NOPERM User x has no permissions to run the 'asking' command\r\n"
        with refused(StoreUnfitError, rf"\(node 127.0.0.1:{other}\) does not permit.*asking"):
            store.replies([READ])


def test_answers_that_came_before_a_connection_broke_stand() -> None:
    with node() as (port, replies), at(port, timeout_s=0.3) as store:
        replies[b"GET"] = b"$4\r\nhere\r\n"
        replies[b"INCR"] = b""
        there, lost = store.send([READ, Command("k", ("INCR", "k"))])
        assert there == b"here"
        assert lost.may_have_run
        assert store.replies([READ]) == [b"here"]  # on another connection
