"""Both ways of `thompson_topk`, on either side of the rule: one law, one contract.

A chi-square test below fails a right sampler with probability 1e-9, and there are some twenty. With
100,000 decisions it catches a relative error of 2 % in an arm that wins one time in ten.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from banditcore import _race, sampling
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.method import MAX_PLACES, MAX_RACED, MIN_RACED, race_pays
from banditcore.propensity import rank_probabilities
from banditcore.sampling import thompson_topk
from sampling.laws import chi_square_p

LEAST_P = 1e-9
N = 300
G = np.random.default_rng(8)
SHOWN = np.ceil(G.lognormal(6, 2, N))
CLICKED = G.binomial(SHOWN.astype(np.int64), G.beta(2, 60, N))
A, B = 1.0 + CLICKED, 30.0 + SHOWN - CLICKED
WEIGHT = G.lognormal(0, 0.5, N)
OUT = [0, 7, 120, *range(200, 220)]


def first_size(arms, k):
    """The least size at which tables are built."""
    low, high = 1, 1 << 40
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if race_pays(arms, k, middle) else (middle + 1, high)
    return low


@pytest.fixture
def builds(monkeypatch):
    """Count the tables that are built."""
    built = []

    class Watched(sampling.ThompsonSampler):
        __slots__ = ()

        def __init__(self, *arguments, **options):
            built.append(len(arguments[0]))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(sampling, "ThompsonSampler", Watched)
    return built


SIDES = {"every arm": 500, "tables": 100_000}  # rows a call


def draw(rows, side, **options):
    """(rows, k): on the wanted side, in as many calls as that takes."""
    step = SIDES[side]
    calls = range(-(-rows // step))
    return np.concatenate([thompson_topk(A, B, size=step, seed=seed, **options) for seed in calls])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": WEIGHT},
        {"exclude": OUT},
        {"eligible": np.arange(N) % 2 == 0},
        {"weight": WEIGHT, "eligible": np.arange(250)[::-1], "exclude": OUT},
    ],
    ids=["all", "weight", "exclude", "eligible", "everything"],
)
def test_the_law_is_that_of_the_quadrature(builds, side, options):
    k = 3
    best = draw(100_000, side, k=k, **options)
    assert bool(builds) == (side == "tables")
    arms = set(range(N))
    if "eligible" in options:
        arms &= set(np.arange(N)[options["eligible"]].tolist())
    arms -= set(options.get("exclude", ()))
    assert set(np.unique(best).tolist()) <= arms
    assert (np.diff(np.sort(best, axis=1), axis=1) > 0).all()
    expected = rank_probabilities(
        A, B, k, weight=options.get("weight"), eligible=np.array(sorted(arms))
    )
    for rank in range(k):
        seen = np.bincount(best[:, rank], minlength=N)
        assert chi_square_p(seen, expected[:, rank] * len(best)) > LEAST_P


def test_the_wrong_law_is_seen():
    """The tables of parameters that were swapped for two arms fail the test above."""
    swapped = A.copy()
    first, second = np.argsort(-A / (A + B))[:2]
    swapped[[first, second]] = A[[second, first]]
    best = thompson_topk(swapped, B, 3, size=100_000, seed=1)
    expected = rank_probabilities(A, B, 3)
    seen = np.bincount(best[:, 0], minlength=N)
    assert chi_square_p(seen, expected[:, 0] * len(best)) < LEAST_P


@pytest.mark.parametrize(("arms", "k"), [(100, 1), (300, 3), (300, MAX_PLACES), (1_000, 10)])
def test_which_side_is_taken_at_the_boundary(builds, arms, k):
    a, b = np.resize(A, arms), np.resize(B, arms)
    size = first_size(arms, k)
    assert 100 < size < 100_000
    thompson_topk(a, b, k, size=size - 1, seed=1)
    assert builds == []
    thompson_topk(a, b, k, size=size, seed=1)
    assert builds == [arms]
    left = arms - 3  # only arms that may be returned count
    assert race_pays(left, k, size) == (first_size(left, k) <= size)
    thompson_topk(a, b, k, size=size, seed=1, exclude=[0, 1, 2])
    assert builds == ([arms, left] if race_pays(left, k, size) else [arms])


def test_the_rule_is_monotonous_and_has_limits():
    for arms in (65, 100, 1_000, 10_000, 1 << 20):
        pays = [race_pays(arms, 10, size) for size in (0, 1, 10, 100, 10**3, 10**4, 10**6, 10**9)]
        assert pays == sorted(pays)
        assert not pays[0]
    assert not race_pays(64, 1, 10**9)
    assert not race_pays((1 << 20) + 1, 1, 10**9)
    assert not race_pays(1_000, MAX_PLACES + 1, 10**9)
    assert race_pays(1_000, MAX_PLACES, 10**9)
    assert not race_pays(100, 26, 10**9)


def test_the_documented_sizes_are_those_of_the_rule():
    guide = (Path(__file__).parents[2] / "docs/sampling.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d,]+) \|.* ([\d,]+) \|$", guide, re.MULTILINE)
    found = [[int(number.replace(",", "")) for number in row] for row in rows]
    assert len(found) == 6
    assert found == [[arms, first_size(arms, 10)] for arms, _ in found]


def test_one_decision_and_no_decisions_build_nothing(builds):
    thompson_topk(A, B, 3)
    assert thompson_topk(A, B, 3, size=0).shape == (0, 3)
    assert builds == []


@pytest.mark.parametrize("outside", [0.9 * MIN_RACED, 1.1 * MAX_RACED, 1e-50, 1e50])
def test_parameters_for_which_every_arm_is_drawn(builds, outside):
    """Tables would be refused, or take longer to build than all the draws."""
    for column in (0, 1):
        columns = [np.minimum(A, MAX_RACED), np.minimum(B, MAX_RACED)]
        assert thompson_topk(*columns, 3, size=20_000, seed=1).shape == (20_000, 3)
        assert builds.pop() == N
        columns[column] = columns[column].copy()
        columns[column][5] = outside
        assert thompson_topk(*columns, 3, size=20_000, seed=1).shape == (20_000, 3)
        assert builds == []


def test_under_weights_values_that_end_in_a_peak_are_drawn(builds):
    b = B.copy()
    b[5] = 1.0
    thompson_topk(A, b, 3, size=20_000, seed=1)
    assert builds == [N]
    thompson_topk(A, b, 3, size=20_000, seed=1, weight=WEIGHT)
    assert builds == [N]


@pytest.mark.parametrize("side", SIDES)
def test_a_seed_means_one_answer_for_any_number_of_threads(side):
    options = {"size": SIDES[side], "exclude": OUT, "weight": WEIGHT}
    expected = thompson_topk(A, B, 5, seed=3, threads=1, **options)
    for threads in (None, 2, 5):
        found = thompson_topk(A, B, 5, seed=3, threads=threads, **options)
        np.testing.assert_array_equal(found, expected)
    same = thompson_topk(A, B, 5, seed=np.random.SeedSequence(3), **options)
    np.testing.assert_array_equal(same, expected)
    assert (thompson_topk(A, B, 5, seed=4, **options) != expected).any()
    generator = np.random.default_rng(1)
    first, second = (thompson_topk(A, B, 5, seed=generator, **options) for _ in range(2))
    assert (first != second).any()
    assert (thompson_topk(A, B, 5, **options) != thompson_topk(A, B, 5, **options)).any()


DIGEST = """
import hashlib
import numpy as np
from banditcore.sampling import thompson_topk
a, b = np.linspace(1, 40, 300), np.linspace(30, 2000, 300)
for size in (500, 10_000):
    best = thompson_topk(a, b, 5, size=size, seed=3, exclude=[1, 2], weight=1 + a)
    print(hashlib.sha256(best.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("kernel", _race.kernel_names())
def test_a_seed_means_one_answer_for_every_kernel(kernel):
    a, b = np.linspace(1, 40, 300), np.linspace(30, 2000, 300)
    options = {"seed": 3, "exclude": [1, 2], "weight": 1 + a}
    here = [
        hashlib.sha256(thompson_topk(a, b, 5, size=size, **options).tobytes()).hexdigest()
        for size in (500, 10_000)
    ]
    assert race_pays(298, 5, 10_000)
    assert not race_pays(298, 5, 500)
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env=os.environ | {"BANDITCORE_KERNEL": kernel},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == here


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"seed": -1}, InvalidValueError, "seed is -1"),
        ({"seed": "1"}, InvalidTypeError, "seed is '1'"),
        ({"threads": 0}, InvalidValueError, "threads is 0"),
        ({"threads": 257}, InvalidValueError, "at most 256"),
        ({"weight": -WEIGHT}, InvalidValueError, r"weight\[0\] is -"),
        ({"exclude": [N]}, InvalidValueError, rf"exclude\[0\] is {N}"),
    ],
)
def test_both_sides_refuse_the_same(side, options, error, says):
    with pytest.raises(error, match=says):
        thompson_topk(A, B, 3, size=SIDES[side], **options)
