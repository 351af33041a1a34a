"""Runs the state machine: a short walk always, long ones on request. Each says its seed."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from faults.machine import CountingOnce
from servers import binaries

STEPS_A_RUN = 50
DEFAULT_SEED = 20_261_122


def walk(
    kind: str, steps: int, number: int, capsys: pytest.CaptureFixture[str], *, long: bool = False
) -> None:
    """Walk at least `steps` steps on a server of one kind."""
    if kind not in binaries():
        pytest.skip(f"no {kind} server is installed")
    machine = type("CountingOnce", (CountingOnce,), {"kind": kind, "steps": 0, "tally": Counter()})
    given = settings(
        max_examples=-(-steps // STEPS_A_RUN),
        stateful_step_count=STEPS_A_RUN,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # a failure is said with its seed; shrinking it takes minutes
        suppress_health_check=list(HealthCheck),
    )
    began = time.monotonic()
    try:
        run_state_machine_as_test(seed(number)(machine), settings=given)
    finally:
        seconds = time.monotonic() - began
        with capsys.disabled():
            lines = [f"{times:6d}  {what}" for what, times in sorted(machine.tally.items())]
            head = f"\n{machine.steps} steps on {kind} in {seconds:.0f} s, seed {number}"
            sys.stdout.write("\n".join([head, *(lines if long else []), ""]))
    assert machine.steps >= steps / 2


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_every_event_counts_once(kind, capsys):
    walk(kind, 450, DEFAULT_SEED, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_every_event_counts_once_for_long(kind, capsys):
    """One walk for all checks; STATEMACHINE_SEED chooses another, "random" one of its own."""
    steps = int(os.environ.get("STATEMACHINE_STEPS", "1000"))
    chosen = os.environ.get("STATEMACHINE_SEED", "2145067047")
    number = random.SystemRandom().getrandbits(32) if chosen == "random" else int(chosen)
    walk(kind, steps, number, capsys, long=True)
