"""The core and the process around it: Ctrl-C, forks, many threads, the choice of a kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from banditcore import _race, _sampling
from banditcore.method import MAX_PLACES, race_pays
from banditcore.sampling import sample_beta, thompson_topk
from banditcore.thompson_sampler import ThompsonSampler


def _run(code, **environment):
    return subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def _interrupted_soon():
    """A KeyboardInterrupt after 50 ms, of which the block must let itself be ended."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("k", [1, MAX_PLACES + 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_control_c_ends_a_long_call(threads, k):
    """From tables, and drawing two billion rates: many seconds, unless the signal is seen."""
    size = 20_000_000
    assert race_pays(100, k, size) == (k <= MAX_PLACES)
    with _interrupted_soon():
        thompson_topk(np.full(100, 2.0), np.full(100, 50.0), k, size=size, threads=threads)
    assert thompson_topk([1.0], [1.0], 1, size=5, threads=threads).tolist() == [[0]] * 5


def test_control_c_ends_building_tables():
    """A million equal arms compete: many seconds, unless the signal is seen."""
    with _interrupted_soon():
        ThompsonSampler(np.full(10**6, 1.0), np.full(10**6, 30.0))
    assert ThompsonSampler([2.0, 3.0], [4.0, 5.0]).topk(2, seed=1).size == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_control_c_ends_a_long_race(threads):
    sampler = ThompsonSampler(np.full(1000, 2.0), np.full(1000, 50.0))
    best = np.full((50_000_000, 1), -7, dtype=np.int32)
    with _interrupted_soon():
        sampler.topk(1, size=len(best), out=best, threads=threads)
    assert best[0, 0] >= 0
    assert best[-1, 0] == -7
    np.testing.assert_array_equal(
        sampler.topk(1, size=9, seed=1, threads=threads), sampler.topk(1, size=9, seed=1, threads=1)
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_control_c_ends_a_race_of_slow_rows(threads):
    """Each row draws most of its arms one by one: no fixed number of rows would do."""
    a = np.full(100_000, 2.0)
    tables = _race.Tables(a, a, None)
    bans = np.zeros((1000, 1), dtype=np.int32)
    best = np.zeros((1000, 70_000), dtype=np.int32)  # pages that no row touches cost nothing
    best[:, 0] = -7
    with _interrupted_soon():
        tables.topk(best, 1, threads, bans=bans)
    # A row takes some tens of milliseconds: a few fit into the time there was.
    assert (best[100:, 0] == -7).all()


def test_threads_of_python_share_the_core():
    a, b = np.full(50, 2.0), np.full(50, 90.0)
    alone = [sample_beta(a, b, size=200, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda s: sample_beta(a, b, size=200, seed=s, threads=2), range(8))
        )
    np.testing.assert_array_equal(together, alone)


def test_threads_of_python_share_the_core_while_they_race():
    a, b = 1 + np.arange(300) % 7.0, np.full(300, 90.0)
    sampler = ThompsonSampler(a, b)

    def both(seed, threads):
        race = sampler.topk(3, size=9000, seed=seed, threads=threads)
        return race, thompson_topk(a, b, 3, size=300, seed=seed, threads=threads)

    alone = [both(seed, 1) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: both(seed, 3), range(12)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_race_and_direct_draws_have_one_pool():
    code = """
import os
import numpy as np
from banditcore.sampling import sample_beta
from banditcore.thompson_sampler import ThompsonSampler
a = np.full(1000, 2.0)
sampler = ThompsonSampler(a, a)
before = len(os.listdir("/proc/self/task"))
for threads in (3, 2, 3):
    sample_beta(a, a, size=2000, threads=threads)
    sampler.topk(3, size=20000, threads=threads)
print(len(os.listdir("/proc/self/task")) - before)
"""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs Linux")
    done = _run(code)
    assert (done.stderr, done.stdout) == ("", "2\n")


def test_a_forked_child_draws_the_same():
    code = """
import os, sys
import numpy as np
from banditcore import _sampling
from banditcore.sampling import sample_beta
from banditcore.thompson_sampler import ThompsonSampler
a, b = np.full(99, 2.0), np.full(99, 50.0)
sampler = ThompsonSampler(a, b)
mine = sample_beta(a, b, size=99, seed=1, threads=2)
race = sampler.topk(3, size=999, seed=1, threads=2)
child = os.fork()
if child == 0:
    same = (sample_beta(a, b, size=99, seed=1, threads=2) == mine).all()
    same_race = (sampler.topk(3, size=999, seed=1, threads=2) == race).all()
    os._exit(0 if same and same_race else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = _run(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_unseeded_children_draw_apart():
    code = """
import os
from banditcore import _sampling
import numpy as np
from banditcore.sampling import sample_beta
from banditcore.thompson_sampler import ThompsonSampler
sampler = ThompsonSampler(np.full(200, 2.0), np.full(200, 3.0))
reads, writes = os.pipe()
child = os.fork()
draw = float(sample_beta([2.0], [3.0])[0])
slate = sampler.topk(20).tolist()
if child == 0:
    os.write(writes, repr((draw, slate)).encode())
    os._exit(0)
os.waitpid(child, 0)
other_draw, other_slate = eval(os.read(reads, 1000))
assert other_draw != draw
assert other_slate != slate
"""
    done = _run(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["avx9", "Serial", " serial", "serial\u00e9"])
def test_an_unknown_kernel_is_refused_by_name(name):
    done = _run("import banditcore.sampling", BANDITCORE_KERNEL=name)
    assert done.returncode == 1
    assert (
        f"InvalidValueError: BANDITCORE_KERNEL is {name!r}: "
        f"this machine runs: {', '.join(_sampling.kernel_names())}; unset it" in done.stderr
    )


@pytest.mark.parametrize("name", ["", *_sampling.kernel_names()])
def test_a_kernel_can_be_named(name):
    code = "from banditcore.sampling import active_kernel; print(active_kernel())"
    expected = name or _sampling.kernel_names()[0]
    assert _run(code, BANDITCORE_KERNEL=name).stdout == f"{expected}\n"


def test_control_c_ends_one_very_long_row():
    """Rows of 30 million arms, some tenths of a second each: left after a block of one."""
    code = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
import numpy as np
from banditcore import _sampling
n = 30_000_000
a = np.full(n, 2.0)
best = np.full((10_000, 3), -7, dtype=np.int32)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    _sampling.topk(a, a, None, None, best, 1, 2)
except KeyboardInterrupt:
    print("interrupted", (best[-1] == -7).all())
"""
    done = _run(code)
    assert (done.stdout, done.returncode) == ("interrupted True\n", 0)


def test_helpers_keep_to_the_processors_of_the_caller():
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs Linux and two processors")
    code = """
import os
import numpy as np
from banditcore.sampling import sample_beta
a = np.full(1000, 2.0)
sample_beta(a, a, size=2000, threads=4)
one = {min(os.sched_getaffinity(0))}
os.sched_setaffinity(0, one)
sample_beta(a, a, size=2000, threads=4)
helpers = [int(t) for t in os.listdir("/proc/self/task") if int(t) != os.getpid()]
# A helper that came too late for the second call keeps what it had.
assert any(os.sched_getaffinity(t) == one for t in helpers)
assert 1 <= len(helpers) <= 3, helpers
"""
    done = _run(code, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert (done.stderr, done.returncode) == ("", 0)


def test_signals_go_to_the_threads_of_the_program():
    code = """
import os
import numpy as np
from banditcore.sampling import sample_beta
a = np.full(1000, 2.0)
sample_beta(a, a, size=2000, threads=3)
for task in os.listdir("/proc/self/task"):
    if int(task) != os.getpid():
        status = open(f"/proc/self/task/{task}/status").read()
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
        assert blocked & (1 << 1) and blocked & (1 << 13), hex(blocked)
"""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs Linux")
    done = _run(code, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert (done.stderr, done.returncode) == ("", 0)
