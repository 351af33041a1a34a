"""What processes do to a bandit whose arms and half-life change under all of them.

Here, because a spawned process imports it by name.
"""

from __future__ import annotations

import datetime as dt
import time
from multiprocessing.synchronize import Barrier, Event

import numpy as np

from banditcore.bandit import Bandit
from banditcore.store.connect import connect
from bandits import NOW, table
from shares import events, share

SEGMENTS = ("IN", "US")
GENERATIONS = 40
ARMS_AT_ONCE = 30
LATE_S = 160.0
AHEAD_S = 5600.0
HALF_LIVES_S = (10, 20, 40, 80)
PART = 3
BATCHES = 60
LEAST_MOVES = 4


def live_and_retire(url: str, start: Barrier, writer: int) -> int:
    """Let generations of arms come, be counted exactly, and go; return how many went."""
    dice = np.random.default_rng(writer)
    gone = 0
    with connect(url, timeout_s=60) as store:
        bandit = Bandit("home", store)
        start.wait(60)
        for number in range(GENERATIONS):
            segment = SEGMENTS[number % 2]
            own = [f"{writer}/{number}/{i}" for i in range(ARMS_AT_ONCE)]
            trials = dice.integers(1, 5, ARMS_AT_ONCE).tolist()
            columns = events(segment, ["arm of all", *own], [1, *trials])
            assert bandit.record_batch(columns, batch_id=f"{writer}/{number}").applied == 31
            found = table(bandit.counts(segment))
            for arm, n in zip(own, trials, strict=True):
                assert found[arm] == (n, n * share(arm))
            gone += bandit.retire(segment, own)
            # Its duplicates neither count nor bring the arms back.
            assert bandit.record_batch(columns, batch_id=f"{writer}/{number}").duplicate == 31
            assert not set(bandit.counts(segment).arms) & set(own)
    return gone


def write_to_what_goes(url: str, start: Barrier, stop: Event) -> int:
    """Record events of arms that are retired meanwhile; return how many."""
    dice = np.random.default_rng(99)
    sent = 0
    with connect(url, timeout_s=60) as store:
        bandit = Bandit("home", store)
        start.wait(60)
        while not stop.is_set() or not sent:
            for segment in SEGMENTS:
                arms = [f"restless {i}" for i in sent // 100 + dice.integers(0, 30, 50)]
                columns = events(segment, arms, dice.integers(1, 5, 50).tolist())
                sent += bandit.record_batch(columns).applied
    return sent


def retire_what_is_written_to(url: str, start: Barrier, stop: Event) -> int:
    """Retire arms at random while events for them are under way; return how many."""
    dice = np.random.default_rng(98)
    gone = 0
    with connect(url, timeout_s=60) as store:
        bandit = Bandit("home", store)
        start.wait(60)
        while not stop.is_set() or not gone:
            for segment in SEGMENTS:
                arms = [a for a in bandit.counts(segment).arms if a.startswith("restless")]
                gone += bandit.retire(segment, [a for a in arms if dice.random() < 0.3])
    return gone


def write_late(url: str, start: Barrier, writer: int) -> None:
    """Record batches of events that are late, each of an arm of its own in every segment."""
    with connect(url, timeout_s=60) as store:
        bandit = Bandit("home", store, clock=lambda: NOW)
        start.wait(60)
        for number in range(BATCHES):
            arm = f"{writer}/{number}"
            for segment in SEGMENTS:
                columns = events(segment, [arm], [PART])
                applied = bandit.record_batch({**columns, "time": [NOW - LATE_S]}, batch_id=arm)
                assert applied.applied == 1


def change_half_lives(url: str, start: Barrier, stop: Event) -> int:
    """Change the half-life at `NOW`, and move landmarks by an event ahead; return how often."""
    moves = 0
    with connect(url, timeout_s=60) as store:
        bandit = Bandit("home", store, clock=lambda: NOW)
        ahead = Bandit("home", store, clock=lambda: NOW + AHEAD_S)
        start.wait(60)
        while not stop.is_set() or moves < LEAST_MOVES:
            for half_life in HALF_LIVES_S:
                bandit.change_half_life(dt.timedelta(seconds=half_life))
                if half_life != HALF_LIVES_S[0]:
                    continue
                for segment in SEGMENTS:
                    # Its weight would be too large for the landmark that the change has set.
                    ahead.record_batch({**events(segment, ["ahead"], [1]), "time": [NOW + AHEAD_S]})
                    [view] = ahead.reader.look([segment])
                    assert view is not None
                    assert view.version.landmark == NOW + AHEAD_S
                    moves += 1
    return moves


def record_by_a_wrong_clock(url: str, off_s: float) -> tuple[int, int, int]:
    """Record events of "now" in a process whose clock is wrong; return what became of them."""
    right = time.time
    time.time = lambda: right() + off_s
    try:
        with connect(url, timeout_s=60) as store:
            bandit = Bandit("home", store)
            arm = f"{off_s:.0f}"
            batch = {"segment": ["IN"] * 3, "arm": [arm] * 3, "reward": [1] * 3}
            with_ids = {**batch, "event_id": [f"{arm}/{i}" for i in range(3)]}
            told = [bandit.record_batch(each) for each in (batch, with_ids)]
    finally:
        time.time = right
    sums = [(each.applied, each.duplicate, each.refused) for each in told]
    applied, duplicate, refused = map(sum, zip(*sums, strict=True))
    return applied, duplicate, refused
