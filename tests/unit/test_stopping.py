"""Signals that stop what runs, wherever they meet it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The main thread is within a wait for `stop` as often as not, and then has its lock.
CAUGHT_WAITING = """
import signal
from banditcore.stopping import stopped_by_signals

with stopped_by_signals() as stop:
    with stop._cond:
        signal.raise_signal({number})
    assert stop.wait(60)
print("ended")
"""

TWICE = """
import signal
from banditcore.stopping import stopped_by_signals

with stopped_by_signals() as stop:
    signal.raise_signal({number})
    print("heard", flush=True)
    signal.raise_signal({number})
    print("survived")
"""


OUTSIDE = """
import signal
import threading
from banditcore.stopping import stopped_by_signals

def outside():
    try:
        with stopped_by_signals():
            pass
    except ValueError as error:
        print(error)

before = signal.getsignal({number})
thread = threading.Thread(target=outside)
thread.start()
thread.join()
print(threading.active_count(), signal.getsignal({number}) == before)
"""


def run(program: str, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program.format(number=number)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_wait_stops(number):
    done = run(CAUGHT_WAITING, number)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process(number):
    done = run(TWICE, number)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "heard\n", "")


def test_another_thread_is_refused_and_leaves_nothing():
    done = run(OUTSIDE, signal.SIGTERM)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("main thread of the main interpreter\n1 True\n")
