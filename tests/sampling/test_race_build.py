"""The tables of a race: bounds that hold, and the same bits from every instruction set.

``scripts/core/race_check.cpp`` builds tables and prints places in them; true rates are scipy's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from scipy import special

ROOT = Path(__file__).parents[2]
CPP = ROOT / "src/banditcore/cpp"
COMPILER = os.environ.get("CXX") or (sysconfig.get_config_var("CXX") or "c++").split()[0]
SOURCES = ("build", "entry", "fill", "march", "measure", "columns", "columns_serial")
OWN_FLAGS = {"columns_avx2": "-mavx2", "columns_avx512": "-mavx512f"}

pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Compile the check."""
    out = tmp_path_factory.mktemp("race")
    x86 = os.uname().machine == "x86_64"
    sources = [(CPP / f"race/{name}.cpp", []) for name in SOURCES]
    sources += [(CPP / f"race/{name}.cpp", [flag]) for name, flag in OWN_FLAGS.items() if x86]
    sources.append((ROOT / "scripts/core/race_check.cpp", []))
    flags = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-fno-math-errno", f"-I{CPP}"]
    for source, own in sources:
        target = out / f"{source.stem}.o"
        subprocess.run([COMPILER, *flags, *own, "-c", source, "-o", target], check=True)
    binary = out / "check"
    subprocess.run([COMPILER, *out.glob("*.o"), "-o", binary], check=True)
    return binary


def clicks(n, seed=0):
    """Posteriors shaped like click data."""
    g = np.random.default_rng(seed)
    shown = np.ceil(g.lognormal(6, 2, n))
    successes = g.binomial(shown.astype(np.int64), g.beta(2, 60, n))
    return 1.0 + successes, 30.0 + shown - successes


def cases():
    g = np.random.default_rng(5)
    return {
        "equal": (np.full(200, 2.0), np.full(200, 60.0), None),
        "click data": (*clicks(1_000), None),
        "more click data": (*clicks(4_001, 2), None),
        "a < 1 and b < 1": (g.uniform(0.2, 1, 300), g.uniform(0.3, 3, 300), None),
        "log-densities with a kink": (g.uniform(0.02, 0.1, 40), g.uniform(0.02, 0.1, 40), None),
        "rates near 1": (g.lognormal(8, 3, 300), g.lognormal(1, 1, 300), None),
        "narrow": (1e9 + 1e5 * g.random(200), 1e9 + 1e5 * g.random(200), None),
        "weights": (*clicks(500, 3), g.lognormal(0, 1, 500)),
        "one": (np.array([3.0]), np.array([50.0]), None),
    }


CASES = cases()


def run(program, a, b, weight, samples):
    columns = [a, b] if weight is None else [a, b, weight]
    words = [len(a), int(weight is not None), samples, *np.concatenate(columns).tolist()]
    text = " ".join(repr(word) for word in words)
    output = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    lines = output.stdout.splitlines()
    digests = [line.split()[2] for line in lines if line.startswith("columns")]
    rows = [line.split() for line in lines if not line.startswith("columns")]
    return digests, np.array(rows, dtype=float).reshape(-1, 6)


def true_rate(a, b, weight, y):
    """Return dM/dy: the density at y over the probability of being below y."""
    if weight is None:
        x, rest = special.expit(y), special.expit(-y)
        density = np.exp(-a * np.logaddexp(0, -y) - b * np.logaddexp(0, y) - special.betaln(a, b))
    else:
        x = np.exp(y) / weight
        density = np.exp(a * np.log(x) + (b - 1) * np.log1p(-x) - special.betaln(a, b))
        rest = 1 - x
    below = np.where(x < 0.5, special.betainc(a, b, x), special.betaincc(b, a, rest))
    return density / below


@pytest.mark.parametrize("name", CASES)
def test_lines_lie_above_the_rates_and_bounds_below(program, name):
    a, b, weight = CASES[name]
    digests, rows = run(program, a, b, weight, 20_000)
    assert len(set(digests)) == 1
    assert digests
    arm = rows[:, 0].astype(int)
    y, speed, line, sure, rate = rows[:, 1:].T
    at_arm = None if weight is None else weight[arm]
    truth = true_rate(a[arm], b[arm], at_arm, y)
    share = truth * speed / line
    # What docs/race.md promises of the rate that decides, which no bound may contradict.
    assert np.abs(rate / truth - 1).max() < 3e-5
    assert share.max() < 1 + 1e-5
    assert (sure - share).max() < 1e-5
    # Far lower bounds would be safe and slow.
    assert np.mean(sure[sure > 0] < share[sure > 0] - 0.3) < 0.1
