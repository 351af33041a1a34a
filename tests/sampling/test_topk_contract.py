"""What every way to draw a top-k promises, whatever the posterior: one suite for both doors.

Hypothesis chooses posteriors and arguments, by a fixed seed. The statistical test has a false-alarm
rate of 1e-9 for each way, and a fixed seed besides.
"""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from banditcore.sampling import thompson_topk
from banditcore.thompson_sampler import ThompsonSampler


@dataclass(frozen=True)
class Direct:
    """`thompson_topk`, with a posterior of its own."""

    alpha: np.ndarray
    beta: np.ndarray
    weight: np.ndarray | None = None

    def topk(self, k, **options):
        return thompson_topk(self.alpha, self.beta, k, weight=self.weight, **options)


def prepared(alpha, beta, weight=None):
    return ThompsonSampler(alpha, beta, weight=weight)


WAYS = pytest.mark.parametrize("way", [Direct, prepared], ids=["thompson_topk", "ThompsonSampler"])
CHECKED = settings(max_examples=120, deadline=None, derandomize=True, database=None)

# Up to 64 arms a sampler draws directly: sizes on both sides of that, and of a word of 64 bits.
SIZES = st.sampled_from([1, 2, 3, 17, 63, 64, 65, 66, 100, 128, 129, 200, 300])
PARAMETER = st.floats(-2, 5).map(lambda power: 10.0**power)


@st.composite
def posteriors(draw):
    """(alpha, beta, weight or None): kinds of arms repeated, so that many compete or few do."""
    n = draw(SIZES)
    kinds = draw(st.lists(st.tuples(PARAMETER, PARAMETER), min_size=1, max_size=4))
    a, b = (np.resize(side, n) for side in zip(*kinds, strict=True))
    weight = None
    if draw(st.booleans()):
        weight = np.resize(draw(st.lists(st.floats(0.1, 10), min_size=1, max_size=3)), n)
    return a, b, weight


@st.composite
def requests(draw):
    """A posterior, and arguments of topk with the set of arms they leave."""
    a, b, weight = draw(posteriors())
    n = len(a)
    left = set(range(n))
    options = {"seed": draw(st.integers(0, 2**70)), "size": draw(st.integers(0, 9))}
    some = st.lists(st.integers(0, n - 1), max_size=n, unique=True)
    if draw(st.integers(0, 2)) == 0:
        options["exclude"] = draw(some)
        left -= set(options["exclude"])
    if draw(st.integers(0, 2)) == 0:
        options["eligible"] = chosen = draw(some)
        left &= set(chosen)
        if draw(st.booleans()):
            options["eligible"] = np.isin(np.arange(n), chosen)
    return (a, b, weight), draw(st.integers(1, n + 3)), options, left


@WAYS
@CHECKED
@given(request=requests())
def test_slates_hold_distinct_arms_of_those_left_and_end_in_padding(way, request):
    posterior, k, options, left = request
    slates = way(*posterior).topk(k, **options)
    assert slates.shape == (options["size"], k)
    assert slates.dtype == np.int32
    for slate in slates.tolist():
        kept = slate[: min(k, len(left))]
        assert len(set(kept)) == len(kept)
        assert left.issuperset(kept)
        assert slate[len(kept) :] == [-1] * (k - len(kept))


@WAYS
@CHECKED
@given(request=requests())
def test_a_row_depends_on_the_seed_and_its_number_alone(way, request):
    posterior, k, options, _ = request
    drawn = way(*posterior)
    options["size"] += 1
    slates = drawn.topk(k, **options)
    np.testing.assert_array_equal(drawn.topk(k, **{**options, "size": 1}), slates[:1])
    np.testing.assert_array_equal(drawn.topk(k, **{**options, "size": None}), slates[0])
    longer = drawn.topk(k, **{**options, "size": options["size"] + 5, "threads": 3})
    np.testing.assert_array_equal(longer[: len(slates)], slates)
    np.testing.assert_array_equal(drawn.topk(k, **options), slates)  # nothing is left behind


@CHECKED
@given(posterior=posteriors(), seed=st.integers(0, 2**64))
def test_a_shorter_direct_slate_is_the_beginning_of_a_longer_one(posterior, seed):
    """Arm i's draw is keyed by (seed, row, i): one ranking, of which k is only the length."""
    drawn = Direct(*posterior)
    n = len(posterior[0])
    ranking = drawn.topk(n, size=3, seed=seed)
    for k in {1, 2, n // 2 + 1, n}:
        np.testing.assert_array_equal(drawn.topk(min(k, n), size=3, seed=seed), ranking[:, :k])
    # And leaving arms out leaves the ranking of the others.
    out = np.arange(0, n, 3)
    rest = [[arm for arm in row if arm % 3] for row in ranking.tolist()]
    shorter = drawn.topk(n, size=3, seed=seed, exclude=out)
    assert [[arm for arm in row if arm >= 0] for row in shorter.tolist()] == rest


@WAYS
def test_copies_and_threads_answer_alike(way):
    g = np.random.default_rng(3)
    drawn = way(1 + g.poisson(5, 150) * 1.0, 30 + g.poisson(200, 150) * 1.0, 1 + g.random(150))
    expected = drawn.topk(7, size=500, seed=11, exclude=[1, 2])
    copies = [pickle.loads(pickle.dumps(drawn)), copy.copy(drawn), copy.deepcopy(drawn)]
    for other in copies:
        np.testing.assert_array_equal(other.topk(7, size=500, seed=11, exclude=[1, 2]), expected)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: drawn.topk(7, size=500, seed=11, exclude=[1, 2]), range(16))
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def of_ranks(slates, n):
    """(n, k): how often each arm stood at each rank."""
    return np.stack([np.bincount(rank, minlength=n) for rank in slates.T], axis=1)


@WAYS
@pytest.mark.parametrize("weighted", [False, True])
def test_moving_arms_moves_their_law(way, weighted):
    """Arms of all kinds, in order and shuffled: two samples of one law, rank by rank.

    With 100,000 decisions of each it sees an arm that wins one time in ten 3 % too often because
    of its place.
    """
    g = np.random.default_rng(12)
    n, k, decisions = 90, 5, 100_000
    a = np.concatenate([g.uniform(0.3, 3, 30), g.uniform(5, 50, 30), g.uniform(500, 5_000, 30)])
    b = a * g.uniform(8, 14, n)
    weight = g.uniform(0.8, 1.2, n) if weighted else None
    order = g.permutation(n)
    here = of_ranks(way(a, b, weight).topk(k, size=decisions, seed=1), n)
    moved = way(a[order], b[order], None if weight is None else weight[order])
    there = np.zeros_like(here)
    there[order] = of_ranks(moved.topk(k, size=decisions, seed=2), n)
    for one, other in zip(here.T, there.T, strict=True):
        total = one + other
        kept = total >= 20
        statistic = ((one - other)[kept] ** 2 / total[kept]).sum()
        assert special.chdtrc(kept.sum() - 1, statistic) > 1e-9
