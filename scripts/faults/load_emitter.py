"""Emits events to the streams of the load's bandit until SIGTERM, and says how many.

Every event is one trial of an arm that exists. At the end the emitter is flushed; a JSON line tells
what it accepted, what of it is confirmed, and the sums of trials and successes.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from load_requests import LEAVES, NAME

from banditcore import Bandit, connect
from banditcore.emitting import Emitter
from banditcore.stopping import stopped_by_signals

_EVERY_S = 0.1
_END_S = 60.0


def main() -> None:
    """Parse the command line and emit."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--arms", type=int, required=True, help="of a segment")
    options = parser.parse_args()
    dice = np.random.default_rng(options.seed)
    trials = successes = 0
    with connect(options.url, at_once=False) as store, stopped_by_signals() as stop:
        # What waits longer than any outage here would be a defect.
        emitter = Emitter(Bandit(NAME, store), retry_for_s=3600.0)
        due = time.monotonic()
        while not stop.is_set():
            count = max(1, int(dice.poisson(options.rate * _EVERY_S)))
            segment = LEAVES[int(dice.integers(len(LEAVES)))]
            rewards = (dice.random(count) < 0.1).astype(int)
            arms = [f"{segment}:{i}" for i in dice.integers(0, options.arms, count)]
            emitter.emit({"segment": [segment] * count, "arm": arms, "reward": rewards.tolist()})
            trials, successes = trials + count, successes + int(rewards.sum())
            due += _EVERY_S
            stop.wait(max(0.0, due - time.monotonic()))
        emitter.close(_END_S)
        told = emitter.stats
    print(
        json.dumps(
            {
                "trials": trials,
                "successes": successes,
                "accepted": told.accepted,
                "acknowledged": told.acknowledged,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
