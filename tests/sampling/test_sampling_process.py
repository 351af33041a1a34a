"""The core and the process around it: Ctrl-C, forks, many threads, the choice of a kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from banditcore.sampling import sample_beta, thompson_topk


def _run(code, **environment):
    return subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_control_c_ends_a_long_call(threads):
    """Five billion draws: minutes, unless the signal is seen."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            thompson_topk(
                np.full(100, 2.0), np.full(100, 50.0), 1, size=50_000_000, threads=threads
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert thompson_topk([1.0], [1.0], 1, size=5, threads=threads).tolist() == [[0]] * 5


def test_threads_of_python_share_the_core():
    a, b = np.full(50, 2.0), np.full(50, 90.0)
    alone = [sample_beta(a, b, size=200, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda s: sample_beta(a, b, size=200, seed=s, threads=2), range(8))
        )
    np.testing.assert_array_equal(together, alone)


def test_a_forked_child_draws_the_same():
    code = """
import os, sys
import numpy as np
from banditcore.sampling import sample_beta
a, b = np.full(9, 2.0), np.full(9, 50.0)
mine = sample_beta(a, b, size=99, seed=1, threads=2)
child = os.fork()
if child == 0:
    same = (sample_beta(a, b, size=99, seed=1, threads=2) == mine).all()
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = _run(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_unseeded_children_draw_apart():
    code = """
import os
from banditcore.sampling import sample_beta
reads, writes = os.pipe()
child = os.fork()
draw = sample_beta([2.0], [3.0])[0]
if child == 0:
    os.write(writes, repr(float(draw)).encode())
    os._exit(0)
os.waitpid(child, 0)
assert float(os.read(reads, 100)) != draw
"""
    done = _run(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["avx9", "Serial", " serial", "serial\u00e9"])
def test_an_unknown_kernel_is_refused_by_name(name):
    done = _run("import banditcore.sampling", BANDITCORE_KERNEL=name)
    assert done.returncode == 1
    assert (
        f"InvalidValueError: BANDITCORE_KERNEL is {name!r}: this machine runs: serial"
        in done.stderr
    )


@pytest.mark.parametrize("name", ["", "serial"])
def test_a_kernel_can_be_named(name):
    code = "from banditcore.sampling import active_kernel; print(active_kernel())"
    assert _run(code, BANDITCORE_KERNEL=name).stdout == "serial\n"
