"""Snapshots for serving tests, and recommenders that have loaded them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from banditcore.serving import FrequencyCap, Recommender
from banditcore.slate_format import encode
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.connect import Store
from banditcore.store.publish import publish
from faults.server import MortalServer

NOW = 1_790_000_000.0


@dataclass
class Home:
    """A bandit as serving sees one."""

    store: Store
    known: Iterable[str] = ("IN", "IN/mobile")
    name: str = "home"

    def segments(self) -> list[str]:
        return list(self.known)


def snapshot(
    segment: str,
    *,
    arms: int = 30,
    slates: int = 16,
    depth: int = 12,
    at: float = NOW,
    seed: int = 1,
) -> Snapshot:
    alpha, beta = np.linspace(2, 6, arms), np.full(arms, 20.0)
    ids = [f"{segment or 'all'}:{arm}" for arm in range(arms)]
    bank = draw_bank(alpha, beta, slates=slates, depth=depth, seed=seed)
    return Snapshot("home", segment, int(at * 1e6), ids, alpha, beta, bank)


def put(store: Store, *snapshots: Snapshot) -> None:
    for each in snapshots:
        assert publish(store, each.bandit, each.segment, encode(each), each.version)


def fill(server: MortalServer) -> None:
    """Let a server have much to load: it answers after each 1,024 commands of its log.

    When each is delayed by 0.2 ms it loads for ten seconds, unless it is told not to.
    """
    with server.admin.pipeline(transaction=False) as pipeline:
        for i in range(50_000):
            pipeline.set(f"k{i}", b"x")
        pipeline.execute()


def rows(held: Snapshot) -> list[tuple[str, ...]]:
    return [tuple(held.arms[i] for i in row if i >= 0) for row in held.bank.slates.tolist()]


def warm(store: Store, *snapshots: Snapshot, **options: Any) -> Recommender:
    put(store, *snapshots)
    bandit = Home(store, sorted({each.segment for each in snapshots} - {""}))
    # Nothing happens but what a test does.
    recommender = Recommender(bandit, **{"poll_s": None, **options})
    recommender.warm_up()
    return recommender


def capped(store: Store, **options: Any) -> Recommender:
    """Return a recommender of one segment, "IN", with a cap of once a day."""
    settings = {"caps": (FrequencyCap(),), "budget": 10.0, "max_age": 1e9, **options}
    return warm(store, snapshot("IN"), **settings)
