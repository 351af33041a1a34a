"""The faults that `load.py` makes on one server, and on the connections to it.

Each fault is a function of the stage and of the seconds it has: it does harm for about half of them
and heals what it did. What then is left to recover from is waited for by the caller.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import redis
from load_requests import LEAVES, NAME
from load_stage import Process, Service, Settings

import banditcore as bc
from banditcore.slate_format import encode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.counts import index
from banditcore.store.publish import publish
from clusters import Cluster
from faults.server import MortalServer
from proxy import Proxy
from published import snapshot
from sentinels import Watched

LOADING_KEYS = 5_000
CROWD = 2_000
_CROWD_TAKES_S = 30.0


@dataclass
class Stage:
    """What faults are made on. Of the last five those are there that the stage has."""

    settings: Settings
    service: Service
    publisher: Process
    dice: random.Random
    url: str
    server: MortalServer | None = None
    proxy: Proxy | None = None
    watched: Watched | None = None
    cluster: Cluster | None = None


Fault = Callable[[Stage, float], None]


def none(_: Stage, seconds: float) -> None:
    """Nothing happens."""
    time.sleep(seconds)


# On one server.


def _server(stage: Stage) -> MortalServer:
    assert stage.server is not None
    return stage.server


def killed(stage: Stage, seconds: float) -> None:
    """Kill the server twice; it is back at once, and after a while."""
    server = _server(stage)
    for away in (0.0, seconds / 2):
        server.kill()
        time.sleep(away)
        server.start()
        server.heal()
        time.sleep(seconds / 8)


def hung(stage: Stage, seconds: float) -> None:
    """Stop the server for a moment three times, and then for long."""
    server = _server(stage)
    for away in (0.01, 0.05, 0.3, seconds / 2):
        server.stop()
        time.sleep(away)
        server.heal()
        time.sleep(seconds / 20)


def loading(stage: Stage, seconds: float) -> None:
    """Start the server with so much to load that it answers LOADING for half of the time."""
    server = _server(stage)
    with server.admin.pipeline(transaction=False) as pipeline:
        for i in range(LOADING_KEYS):
            pipeline.set(f"k{i}", b"x")
        pipeline.execute()
    server.kill()
    # Microseconds a command of its log; the log has at least those.
    server.start(key_load_delay=str(int(seconds / 2 * 1e6 / LOADING_KEYS)))
    time.sleep(seconds / 2)
    server.kill()
    server.start()
    server.heal()
    server.admin.delete(*(f"k{i}" for i in range(LOADING_KEYS)))


def flushed(stage: Stage, seconds: float) -> None:
    """Take the server's functions away, again and again."""
    for _ in repeating(seconds / 2, every=0.1):
        _server(stage).admin.function_flush()
        _server(stage).admin.script_flush()


def full(stage: Stage, seconds: float) -> None:
    """Let every write be refused for want of memory."""
    server = _server(stage)
    server.fill_up()
    time.sleep(seconds / 2)
    server.heal()


def no_disk(stage: Stage, seconds: float) -> None:
    """Take the data directory away, so that every write is refused."""
    server = _server(stage)
    server.lose_directory()
    time.sleep(seconds / 2)
    server.heal()


def corrupt(stage: Stage, seconds: float) -> None:
    """Damage published blobs, again and again; the publisher is to replace them."""
    for _ in repeating(seconds / 2, every=0.1):
        damage(_server(stage).admin, stage.dice)


def damage(admin: redis.Redis, dice: random.Random) -> None:
    """Damage one blob: a byte changed, cut short, or garbage.

    A key of another type is not among them: that stays until somebody removes it.
    """
    key = keys.of_segment(NAME, dice.choice(LEAVES)).blob
    length = admin.strlen(key)
    kind = dice.choice(("byte", "byte", "cut", "garbage"))
    if kind == "byte" and length:
        admin.setrange(key, dice.randrange(length), bytes([dice.randrange(256)]))
    elif kind == "cut" and length > 1:  # an empty one is one that was withdrawn
        admin.set(key, admin.getrange(key, 0, dice.randrange(length - 1)))
    else:
        admin.set(key, dice.randbytes(dice.randrange(1, 5_000)))


def publisher_killed(stage: Stage, seconds: float) -> None:
    """Kill the process that publishes, and start it again."""
    for _ in repeating(seconds / 2, every=0.7):
        stage.publisher.kill()
        stage.publisher.start()
        time.sleep(stage.dice.random())
    # Its last life may wait for the lease of the one before.


def clocks(stage: Stage, seconds: float) -> None:
    """Let the service's clock go two hours ahead, back, and two hours behind."""
    for shift in (7200.0, -30.0, -7200.0):
        stage.service.ask(do="clock", shift=shift)
        time.sleep(seconds / 6)
    stage.service.ask(do="clock", shift=0.0)


def crowd(stage: Stage, seconds: float) -> None:
    """Let thousands of segments appear at once and vanish, at least twice."""
    with bc.connect(stage.url) as store:
        begun = time.monotonic()
        for generation in itertools.count():
            come_and_go(store, f"crowd{generation}", CROWD, lambda: _wait_for_crowd(stage.service))
            if generation and time.monotonic() - begun > seconds / 2:
                break


def _wait_for_crowd(service: Service) -> None:
    deadline = time.monotonic() + _CROWD_TAKES_S
    while service.ask(do="held")["caps"] < CROWD:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the service took no crowd: {service.ask(do='state')}")
        time.sleep(0.05)


def come_and_go(store: bc.Store, above: str, count: int, stay: Callable[[], None]) -> None:
    """Let so many segments be published, and be withdrawn after a stay."""
    paths = [f"{above}/{i}" for i in range(count)]
    for path in paths:
        made = _few(path)
        publish(store, NAME, path, encode(made), made.version)
    index.add(store, NAME, paths)
    stay()
    index.remove(store, NAME, paths)
    for path in paths:
        store.client.unlink(keys.of_segment(NAME, path).blob)


def _few(path: str) -> Snapshot:
    made = snapshot(path, arms=4, slates=2, depth=3, at=time.time())
    return replace(made, bandit=NAME)


# On one server, behind a proxy.


def _proxy(stage: Stage) -> Proxy:
    assert stage.proxy is not None
    return stage.proxy


def half_open(stage: Stage, seconds: float) -> None:
    """Let every request go nowhere, while connections stay open."""
    _proxy(stage).mute()
    time.sleep(seconds / 2)
    _proxy(stage).heal()


def slow(stage: Stage, seconds: float) -> None:
    """Let replies come byte by byte, in time for a look-up."""
    _proxy(stage).trickle(2e-4)
    time.sleep(seconds / 2)
    _proxy(stage).heal()


def trickling(stage: Stage, seconds: float) -> None:
    """Let replies come byte by byte, too late for anything."""
    _proxy(stage).trickle(0.05)
    time.sleep(seconds / 2)
    _proxy(stage).heal()


def lost_replies(stage: Stage, seconds: float) -> None:
    """Let requests be executed whose replies are lost, or cut them on their way."""
    proxy = _proxy(stage)
    for _ in repeating(seconds / 2, every=0.02):
        word = stage.dice.choice((b"GETRANGE", b"FCALL", b"GET"))
        if stage.dice.random() < 0.5:
            proxy.lose_next_reply(word)
        else:
            proxy.cut_next_request(word, stage.dice.randrange(60))
    proxy.heal()


def repeating(seconds: float, *, every: float) -> Iterator[None]:
    """Yield again and again, with a pause after each time, for so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(every)


SERVER_FAULTS: dict[str, Fault] = {
    "none": none,
    "server killed": killed,
    "server hung": hung,
    "server loading": loading,
    "functions flushed": flushed,
    "memory full": full,
    "disk gone": no_disk,
    "corrupt blobs": corrupt,
    "publisher killed": publisher_killed,
    "clock steps": clocks,
    "thousands of segments": crowd,
}
PROXY_FAULTS: dict[str, Fault] = {
    "half-open": half_open,
    "slow": slow,
    "trickling": trickling,
    "lost replies": lost_replies,
}
