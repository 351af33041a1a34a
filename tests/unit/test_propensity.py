"""Selection probabilities against closed forms, adaptive integration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from banditcore import contest, propensity
from banditcore.errors import InvalidTypeError, InvalidValueError, NumericalError
from banditcore.logit_beta import LogitBeta
from banditcore.propensity import rank_probabilities, top_probabilities
from banditcore.quadrature import GAUSS_WEIGHTS, NODES, RUNNING, WEIGHTS, partition
from banditcore.sampling import thompson_topk


def exact_beats(a, b, c, d):
    """P(Beta(a, b) > Beta(c, d)) for an integer a: a finite sum of positive terms."""
    i = np.arange(int(a))
    logs = special.betaln(c + i, b + d) - np.log(b + i) - special.betaln(1 + i, b)
    return np.exp(logs - special.betaln(c, d)).sum()


def simulate(alpha, beta, k, weight, *, draws, seed):
    """Rank frequencies from logits of gamma ratios, which neither underflow nor tie at 1."""
    rng = np.random.default_rng(seed)
    size = (draws, len(alpha))

    def log_gamma(shape):
        return np.log(rng.gamma(shape + 1.0, size=size)) + np.log(rng.random(size)) / shape

    logit = log_gamma(np.asarray(alpha, float)) - log_gamma(np.asarray(beta, float))
    score = logit if weight is None else np.log(weight) - np.logaddexp(0, -logit)
    order = np.argsort(-score, axis=1)[:, :k]
    counts = [np.bincount(order[:, r], minlength=len(alpha)) for r in range(k)]
    return np.stack(counts, axis=1)


def assert_simulation_agrees(got, counts, false_alarm=1e-6):
    """Pearson's test a rank, cells of fewer than 10 expected taken together."""
    draws = counts[:, 0].sum()
    for r in range(got.shape[1]):
        expected = got[:, r] * draws
        rare = expected < 10
        seen = np.append(counts[~rare, r], counts[rare, r].sum())
        wanted = np.append(expected[~rare], expected[rare].sum())
        if wanted[-1] < 10:  # too few even together: none may be many
            assert stats.poisson.sf(seen[-1] - 1, wanted[-1] + 1e-9) > false_alarm or seen[-1] == 0
            seen, wanted = seen[:-1], wanted[:-1]
        if len(wanted) > 1:
            statistic = np.square(seen - wanted) @ (1 / wanted)
            assert stats.chi2.sf(statistic, len(wanted) - 1) > false_alarm


# Closed forms


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [
        (1, 1, 1, 1),
        (3, 30, 2, 31),
        (5, 100, 40, 1200),
        (1, 0.5, 2.5, 0.25),
        (200, 3, 7, 1),
        (50, 5e4, 3, 2e3),
        (1, 1e9, 1, 2e9),
    ],
)
def test_two_arms_have_a_closed_form(a, b, c, d):
    got = top_probabilities([a, c], [b, d])
    expected = exact_beats(a, b, c, d)
    np.testing.assert_allclose(got, [expected, 1 - expected], atol=2e-11)


def test_first_of_two_rare_events_is_a_ratio_of_rates():
    """Beta(1, b) is exponential in -log(1 - x): P(x1 > x2) = b2 / (b1 + b2)."""
    np.testing.assert_allclose(top_probabilities([1, 1], [1e12, 3e12]), [0.75, 0.25], atol=1e-11)
    np.testing.assert_allclose(top_probabilities([1, 1], [1e-3, 3e-3]), [0.75, 0.25], atol=1e-11)
    np.testing.assert_allclose(top_probabilities([1e12, 3e12], [1, 1]), [0.25, 0.75], atol=1e-11)


def test_exponential_races_rank_like_plackett_and_luce():
    """Beta(a, 1) is the maximum of a uniforms: ranks follow Plackett-Luce with weights a."""
    strengths = np.array([0.2, 1.0, 3.0, 40.0, 7.5])
    expected = np.zeros((5, 3))
    for order in itertools.permutations(range(5), 3):
        chance, left = 1.0, strengths.sum()
        for arm in order:
            chance *= strengths[arm] / left
            left -= strengths[arm]
        for r, arm in enumerate(order):
            expected[arm, r] += chance
    np.testing.assert_allclose(rank_probabilities(strengths, np.ones(5), 3), expected, atol=1e-11)
    np.testing.assert_allclose(
        top_probabilities(strengths, np.ones(5), 3), expected.sum(axis=1), atol=1e-11
    )


def test_many_flat_arms():
    """More than 32 kinds of arms, where the cheap bound of the lowest rate that matters fails."""
    strengths = np.geomspace(1e-3, 0.5, 60)
    got = top_probabilities(strengths, np.ones(60))
    np.testing.assert_allclose(got, strengths / strengths.sum(), atol=1e-11)
    turned = top_probabilities(np.ones(60), strengths)
    np.testing.assert_allclose(turned[-1], rank_probabilities(strengths, np.ones(60), 60)[-1, -1])


def test_the_deeper_ranks_of_many_arms():
    """Rates near 1e-9 are exponential variables; Newton's identities give the others' ranks."""
    scale = np.linspace(1, 2, 300)
    ranks = rank_probabilities(np.ones(300), 1e9 / scale, 3)
    assert np.all(np.diff(ranks[:, 0]) > 0)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    y, weights = 40 * (nodes + 1), 40 * weights  # rates times 1e9; exp(-80 / 2) is negligible
    above = np.exp(-y / scale[:, None])
    odds = above / (1 - above)
    others = np.prod(1 - above, axis=0) / (1 - above)  # none of the others exceeds y
    once, twice = odds.sum(axis=0) - odds, (odds**2).sum(axis=0) - odds**2
    for r, exceeding in enumerate([np.ones_like(odds), once, (once**2 - twice) / 2]):
        expected = (above / scale[:, None] * others * exceeding) @ weights
        np.testing.assert_allclose(ranks[:, r], expected, atol=1e-8)


def test_mass_closer_to_its_weight_than_floats_are():
    """Two arms that are 1 but for 1e-18, at weight 1/2: the third wins when above 1/4."""
    got = top_probabilities([1e18, 1e18, 2], [1e-3, 1e-3, 5], weight=[0.5, 0.5, 2])
    third = stats.beta.sf(0.25, 2, 5)
    np.testing.assert_allclose(got, [(1 - third) / 2, (1 - third) / 2, third], atol=1e-9)


def test_weighted_uniforms():
    """Of U and 2 V the first wins with probability 1 / 4."""
    got = rank_probabilities([1, 1], [1, 1], 2, weight=[1, 2])
    np.testing.assert_allclose(got, [[0.25, 0.75], [0.75, 0.25]], atol=1e-11)
    # P(3 W > max(U, V)) is 2/3 for W > 1/3, else the integral of (3 w)**2, 1/9.
    got = top_probabilities([1, 1, 1], [1, 1, 1], weight=[1, 1, 3])
    np.testing.assert_allclose(got, [1 / 9, 1 / 9, 7 / 9], atol=1e-11)


def test_normal_differences():
    """Narrow posteriors of 1e12 trials: the normal formula is right to 2e-6 there."""
    a = 1e12 * np.array([0.3, 0.3])
    b = 1e12 - a
    a[1] += 1e6
    sd = np.sqrt(2 * 0.3 * 0.7 / 1e12)
    np.testing.assert_allclose(top_probabilities(a, b)[1], stats.norm.cdf(0.7e-6 / sd), atol=2e-6)


# Adaptive integration of the definition


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.7, 1.4])])
def test_ranks_are_the_integrals_they_claim_to_be(weight):
    alpha, beta = np.array([2.5, 1.1, 40.0, 7.0]), np.array([30.0, 22.0, 600.0, 90.3])
    w = np.ones(4) if weight is None else weight
    got = rank_probabilities(alpha, beta, 4, weight=weight)

    def integrand(y, i, r):
        above = stats.beta.sf(y / w, alpha, beta)
        others = [j for j in range(4) if j != i]
        chance = sum(
            math.prod(above[j] if j in winners else 1 - above[j] for j in others)
            for winners in itertools.combinations(others, r)
        )
        return stats.beta.pdf(y / w[i], alpha[i], beta[i]) / w[i] * chance

    for i, r in itertools.product(range(4), range(4)):
        expected = integrate.quad(
            integrand, 0, w[i], (i, r), epsabs=1e-12, limit=400, points=[0.05 * w[i], 0.2 * w[i]]
        )[0]
        assert got[i, r] == pytest.approx(expected, abs=1e-10)


# Simulation

RNG = np.random.default_rng(77)
SHOWN = RNG.poisson(1000, 80)
CLICKED = RNG.binomial(SHOWN, RNG.beta(1, 30, 80))
CASES = {
    "80 click-like arms": (1.0 + CLICKED, 30.0 + SHOWN - CLICKED, 3, None),
    "3 trials beside 3e8": ([1, 3e8, 2, 2.9e8], [3, 9e9, 40, 9e9], 3, None),
    "rates near 1": ([300, 5e5, 1e6, 3], [1, 2, 1.5, 0.2], 4, None),
    "a, b < 1": ([0.01, 0.05, 1e-3, 0.5], [0.3, 1e-3, 1e-3, 0.02], 4, None),
    "weights": ([1, 3, 30, 5], [10, 40, 400, 33], 3, np.array([1, 2, 1.3, 0.4])),
    "weights, b < 1": (
        [1, 3, 30, 5, 2],
        [0.05, 0.01, 0.4, 3, 0.5],
        3,
        np.array([1, 1.1, 1.3, 2, 1.1]),
    ),
    "equal and unequal": ([1] * 8 + [2, 9], [30] * 8 + [40, 200], 2, None),
}


@pytest.mark.parametrize("name", CASES)
def test_simulation_agrees(name):
    """Pearson at a false-alarm rate of 1e-6 a rank: 22 of them, 2e-5 in all."""
    alpha, beta, k, weight = CASES[name]
    got = rank_probabilities(alpha, beta, k, weight=weight)
    assert_simulation_agrees(got, simulate(alpha, beta, k, weight, draws=200_000, seed=5))


# Sums and symmetry


def spread(rng, n):
    """Posteriors of every width, some alike."""
    kind = rng.integers(4)
    if kind == 0:
        return 10 ** rng.uniform(-3, 12, n), 10 ** rng.uniform(-3, 12, n)
    if kind == 1:
        trials, rate = 10 ** rng.uniform(0, 9, n), rng.beta(1, 30, n)
        return 1 + trials * rate, 30 + trials * (1 - rate)
    if kind == 2:
        return rng.integers(1, 4, n).astype(float), rng.integers(1, 4, n).astype(float)
    return 1e9 * np.exp(rng.normal(0, 0.1, n)), np.full(n, 3e10)


@pytest.mark.parametrize("seed", range(40))
def test_columns_sum_to_1_before_and_after_rounding(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    k = int(rng.integers(1, min(n, 5) + 1))
    alpha, beta = spread(rng, n)
    weight = None if seed % 2 else rng.lognormal(0, 1, n)
    raw = []
    plain = propensity._integrate

    def watched(kinds, panels, depth):
        ranks = plain(kinds, panels, depth)
        raw.append(np.abs(kinds.copies @ ranks - 1).max())
        return ranks

    monkeypatch.setattr(propensity, "_integrate", watched)
    ranks = rank_probabilities(alpha, beta, k, weight=weight)
    assert raw[0] < 1e-9  # the quadrature itself, not only what is returned
    assert np.abs(ranks.sum(axis=0) - 1).max() < 1e-12
    assert ranks.min() >= 0
    top = top_probabilities(alpha, beta, k, weight=weight)
    assert top.sum() == pytest.approx(k, abs=1e-9)
    assert top.max() <= 1
    np.testing.assert_allclose(top, ranks.sum(axis=1), atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_twice_the_panels_give_the_same(seed, monkeypatch):
    rng = np.random.default_rng(100 + seed)
    n = int(rng.integers(2, 30))
    alpha, beta = spread(rng, n)
    weight = None if seed % 2 else rng.lognormal(0, 1, n)
    got = rank_probabilities(alpha, beta, 2, weight=weight)

    def halved(kinds, k):
        kinds, panels = contest.lay_out(kinds, k)
        middle = (panels.low + panels.high) / 2
        return kinds, contest.Panels(
            np.tile(panels.anchor, 2),
            np.append(panels.low, middle),
            np.append(middle, panels.high),
        )

    monkeypatch.setattr(propensity, "lay_out", halved)
    again = rank_probabilities(alpha, beta, 2, weight=weight)
    np.testing.assert_allclose(again, got, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 3000])
def test_equal_arms_share_equally(n):
    got = top_probabilities(np.full(n, 1.7), np.full(n, 33.0))
    np.testing.assert_allclose(got, 1 / n, rtol=1e-14)
    assert len(set(got.tolist())) == 1
    k = min(n, 4)
    ranks = rank_probabilities(np.full(n, 1.7), np.full(n, 33.0), k)
    np.testing.assert_allclose(ranks, 1 / n, rtol=1e-13)


def test_permuting_arms_permutes_the_answer_to_the_last_bit():
    rng = np.random.default_rng(2)
    alpha, beta = rng.integers(1, 5, 50) * 1.5, rng.integers(20, 24, 50) * 1.0
    weight = rng.integers(1, 3, 50) * 1.0
    order = rng.permutation(50)
    got = rank_probabilities(alpha, beta, 3, weight=weight)
    again = rank_probabilities(alpha[order], beta[order], 3, weight=weight[order])
    assert np.array_equal(again, got[order])


def test_a_common_weight_changes_nothing():
    alpha, beta = [1, 5, 0.3, 20], [30, 90, 0.7, 700]
    plain = rank_probabilities(alpha, beta, 3)
    assert np.array_equal(rank_probabilities(alpha, beta, 3, weight=[7.3] * 4), plain)


def test_nearly_equal_weights_are_continuous():
    """Each weight has an axis of its own: a difference of 1e-13 must not show."""
    alpha, beta = [1, 5, 0.3, 20], [0.5, 0.9, 0.7, 2]
    plain = rank_probabilities(alpha, beta, 3)
    weight = 1 + 1e-13 * np.arange(4)
    near = rank_probabilities(alpha, beta, 3, weight=weight)
    np.testing.assert_allclose(near, plain, atol=1e-6)


def test_mirrored_arms_are_ranked_backwards():
    alpha, beta = np.array([1, 5, 0.3, 20.0]), np.array([30, 90, 0.7, 700.0])
    forth = rank_probabilities(alpha, beta, 4)
    back = rank_probabilities(beta, alpha, 4)
    np.testing.assert_allclose(back, forth[:, ::-1], atol=1e-11)


@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0.1, 10)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_ranks_of_all_arms_are_doubly_stochastic(rows, k):
    alpha, beta, weight = np.array(rows).T
    n = len(rows)
    ranks = rank_probabilities(alpha, beta, n, weight=weight)
    np.testing.assert_allclose(ranks.sum(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(ranks.sum(axis=1), 1, atol=1e-8)
    np.testing.assert_allclose(
        top_probabilities(alpha, beta, k, weight=weight), ranks[:, :k].sum(axis=1), atol=1e-8
    )


def test_ten_thousand_arms_on_the_whole():
    """Few arms can win, and they alone meet each other: the rest must change nothing."""
    rng = np.random.default_rng(6)
    good_a, good_b = rng.uniform(400, 500, 30), np.full(30, 1e4)
    poor_a, poor_b = rng.uniform(1, 50, 9970), np.full(9970, 1e5)
    got = top_probabilities(np.append(good_a, poor_a), np.append(good_b, poor_b), 2)
    np.testing.assert_allclose(got[:30], top_probabilities(good_a, good_b, 2), atol=1e-10)
    assert got[30:].max() < 1e-10
    many = top_probabilities(1 + rng.random(10_000), 30 + rng.random(10_000))
    assert many.sum() == pytest.approx(1, abs=1e-9)


# Who may be chosen


def test_arms_that_are_not_eligible_get_0_and_take_nothing():
    alpha, beta = np.array([1.0, 50.0, 2.0, 3.0]), np.array([30.0, 60.0, 40.0, 33.0])
    mask = np.array([True, False, True, True])
    among = rank_probabilities(alpha[mask], beta[mask], 2, weight=[1, 2, 3])
    for eligible in (mask, mask.tolist(), [0, 2, 3], np.array([3, 0, 2], np.int32)):
        got = rank_probabilities(alpha, beta, 2, weight=[1, 9, 2, 3], eligible=eligible)
        assert got[1].tolist() == [0.0, 0.0]
        assert np.array_equal(got[mask], among)


def test_no_more_than_k_eligible_arms_are_certain_to_be_among_the_top():
    got = top_probabilities([1, 2, 3], [4, 5, 6], 2, eligible=[0, 2])
    assert got.tolist() == [1.0, 0.0, 1.0]
    assert top_probabilities([1, 2, 3], [4, 5, 6], 9).tolist() == [1.0, 1.0, 1.0]
    assert top_probabilities([1, 2], [4, 5], 2**63).tolist() == [1.0, 1.0]
    ranks = rank_probabilities([1, 2, 3], [4, 5, 6], 3, eligible=[0, 2])
    np.testing.assert_allclose(ranks.sum(axis=0), [1, 1, 0])


def test_nobody_to_choose_from():
    assert top_probabilities([1, 2], [3, 4], eligible=[]).tolist() == [0.0, 0.0]
    assert rank_probabilities([1, 2], [3, 4], 2, eligible=[False, False]).sum() == 0
    assert top_probabilities([], []).shape == (0,)


# What is refused


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("out of order")

    def __index__(self):
        raise RuntimeError("out of order")

    def __repr__(self):
        raise RuntimeError("out of order")


class Two:
    def __index__(self):
        return 2


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["alpha", "beta", "weight"])
def test_parameters_are_finite_and_above_0(name, bad):
    given_ = {"alpha": [1.0, 2.0], "beta": [1.0, 2.0], "weight": [1.0, 2.0]}
    given_[name] = [1.0, bad]
    with pytest.raises(InvalidValueError, match=rf"{name}\[1\]"):
        top_probabilities(**given_)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"beta": [1.0]}, "shape of beta"),
        ({"alpha": [[1.0, 2.0]]}, "shape of alpha"),
        ({"alpha": np.broadcast_to(1.0, 2**31)}, "at most 2147483647 arms"),
        ({"weight": [1.0, 5e-324]}, r"weight\[1\] is 5e-324: must be from 2.2"),
        ({"weight": [1.0]}, "shape of weight"),
        ({"k": 0}, "k is 0"),
        ({"k": -3}, "k is -3"),
        ({"k": -(10**5000)}, "k is <int that cannot be shown>"),
        ({"eligible": [True]}, "shape of eligible"),
        ({"eligible": [2]}, r"eligible\[0\] is 2"),
        ({"eligible": [0, -1]}, r"eligible\[1\] is -1"),
        ({"eligible": [[0]]}, "shape of eligible"),
        ({"eligible": {0, 2}}, r"eligible\[1\] is 2"),
    ],
)
def test_bad_values_are_named(changed, named):
    arguments = {"alpha": [1.0, 2.0], "beta": [1.0, 2.0], "k": 1} | changed
    for function in (top_probabilities, rank_probabilities):
        with pytest.raises(InvalidValueError, match=named):
            function(**arguments)


@pytest.mark.parametrize(
    "changed",
    [
        {"k": 1.0},
        {"k": True},
        {"k": None},
        {"alpha": ["a", "b"]},
        {"beta": [True, False]},
        {"weight": [1j, 1j]},
        {"eligible": [0.0]},
        {"eligible": ["a"]},
        {"eligible": {0, "a"}},
        {"eligible": np.ma.array([0, 1], mask=[True, False])},
        {"alpha": np.ma.array([1.0, 2.0], mask=[True, False])},
        {"weight": np.ma.array([1.0, 2.0])},
        {"alpha": [[1.0], [1.0, 2.0]]},
        {"alpha": np.array([], dtype=object), "beta": []},
        {"beta": Broken()},
        {"weight": Broken()},
        {"eligible": Broken()},
        {"k": Broken()},
    ],
)
def test_bad_types_are_refused_by_both_doors(changed):
    arguments = {"alpha": [1.0, 2.0], "beta": [1.0, 2.0], "k": 1} | changed
    for function in (rank_probabilities, top_probabilities):
        with pytest.raises(InvalidTypeError) as caught:
            function(**arguments)
        assert str(caught.value).startswith(f"{next(iter(changed))} is ")
    with pytest.raises(InvalidTypeError) as caught:
        thompson_topk(**arguments)
    assert str(caught.value).startswith(f"{next(iter(changed))} is ")


@pytest.mark.parametrize("k", [3, 2**31, 2**63, 10**5000], ids=range(4))
def test_there_are_no_more_ranks_than_arms(k):
    with pytest.raises(InvalidValueError, match="as many ranks as arms at most, 2"):
        rank_probabilities([1, 2], [3, 4], k)
    assert rank_probabilities([1, 2], [3, 4], 2).shape == (2, 2)


def test_ranks_that_do_not_fit_in_memory():
    n = 5_000_000  # n x n float64 are 200 TB, more than a process can address
    with pytest.raises(InvalidValueError, match="do not fit in memory"):
        rank_probabilities(np.ones(n, np.float32), np.ones(n, np.float32), n, eligible=[])


def test_both_doors_take_the_same_arguments():
    alpha, beta = np.array([5.0, 1.0, 9.0]), np.array([1e9, 1.0, 1e9])
    for k in (2, np.int8(2), np.array(2), Two()):
        for eligible in ({0, 2}, frozenset([2, 0]), [2, 0, 0], np.array([0, 2], np.uint64)):
            chosen = thompson_topk(alpha, beta, k, eligible=eligible)
            assert set(chosen.tolist()) == {0, 2}
            got = top_probabilities(alpha, beta, k, eligible=eligible)
            assert got.tolist() == [1.0, 0.0, 1.0]
    weight = np.array([1, 2, 3], np.longdouble)
    assert top_probabilities(alpha, beta, weight=weight).sum() == pytest.approx(1)
    with pytest.raises(InvalidValueError, match=r"weight\[0\] is inf"):
        top_probabilities(alpha, beta, weight=weight * np.longdouble("1e400"))


@pytest.mark.parametrize("far", [1e-300, 1e-11, 1e19, 1e300])
def test_parameters_beyond_all_digits_are_refused(far):
    with pytest.raises(InvalidValueError, match="must be from 1e-10 to 1e\\+18"):
        top_probabilities([1, far, 2], [1, 2, 3])
    with pytest.raises(InvalidValueError, match="must be from 1e-10 to 1e\\+18"):
        top_probabilities([1, 1, 2], [1, far, 3])


def test_weights_may_be_any_distance_apart():
    got = rank_probabilities([2, 3, 1], [5, 5, 5], 3, weight=[1e300, 1, 1e-300])
    np.testing.assert_allclose(got, np.eye(3), atol=1e-12)


def test_a_quadrature_that_misses_mass_is_no_answer(monkeypatch):
    def cut(kinds, k):
        kinds, panels = contest.lay_out(kinds, k)
        return kinds, contest.Panels(panels.anchor[:-3], panels.low[:-3], panels.high[:-3])

    monkeypatch.setattr(propensity, "lay_out", cut)
    with pytest.raises(NumericalError, match="sum of the probabilities at rank 1"):
        top_probabilities([1, 2], [30, 40])


# The parts

SHAPES = np.array([1e-3, 0.1, 0.5, 1, 2, 10, 50, 1e4, 9e5, 1.1e6, 1e8, 1e10, 1e12])
A, B = (axis.ravel() for axis in np.meshgrid(SHAPES, SHAPES))


def test_tails_are_the_integral_of_the_density():
    """Either side of every switch between formulas; independent ways to one number."""
    beta = LogitBeta(A, B)
    drops = [37, 30, 25, 20, 16, 12, 9, 7, 5, 3.5, 2.5, 1.5, 0.8, 0.3, 0.1]
    ends = beta.drop_points(*drops)
    edges = np.stack(
        [low for low, _ in ends] + [beta.mode] + [high for _, high in ends[::-1]], axis=1
    )
    lower, upper = beta.tails(edges)
    np.testing.assert_allclose(lower + upper, 1, atol=1e-14)
    assert lower[:, 0].max() < 1.1 * np.exp(-37)
    assert upper[:, -1].max() < 1.1 * np.exp(-37)
    for left, right, low, high in zip(edges.T, edges.T[1:], lower.T, lower.T[1:], strict=False):
        mass = 0.0
        for part in range(3):
            half = (right - left) / 6
            middle = left + (2 * part + 1) * half
            nodes = middle[:, None] + half[:, None] * NODES
            mass = mass + np.exp(beta.log_density(nodes)) @ WEIGHTS * half
        np.testing.assert_allclose(mass, high - low, atol=1e-9)
        click_like = np.maximum(A, B) <= 1e8
        np.testing.assert_allclose(mass[click_like], (high - low)[click_like], atol=3e-11)


def test_drop_points_are_where_the_density_has_dropped():
    beta = LogitBeta(A, B)
    for drop in (0.5, 2.0, 37.0, 300.0):
        for point in beta.drop_points(drop)[0]:
            fallen = beta.log_density(beta.mode[:, None]) - beta.log_density(point[:, None])
            np.testing.assert_allclose(fallen[:, 0], drop, rtol=1e-3)


def test_quantiles_invert_the_lower_tail():
    beta = LogitBeta(A, B)
    for probability in (0.5, 0.05, 1e-10):
        lower, _ = beta.tails(beta.quantile(probability)[:, None])
        np.testing.assert_allclose(lower[:, 0], probability, rtol=1e-8)


def test_rough_tails_are_near_the_exact_ones():
    shaped = np.minimum(A, B) >= 1
    beta = LogitBeta(A[shaped], B[shaped])
    for drop in (1.0, 5.0, 20.0):
        low, high = (point[:, None] for point in beta.drop_points(drop)[0])
        np.testing.assert_allclose(beta.rough_tails(low)[0], beta.tails(low)[0], rtol=0.2)
        np.testing.assert_allclose(beta.rough_tails(high)[1], beta.tails(high)[1], rtol=0.2)


def test_the_rules_integrate_polynomials():
    for power in range(32):
        exact = 2 / (power + 1) if power % 2 == 0 else 0
        assert NODES**power @ WEIGHTS == pytest.approx(exact, abs=1e-14)
        if power < 20:
            assert NODES**power @ GAUSS_WEIGHTS == pytest.approx(exact, abs=1e-14)
        if power <= 20:
            running = (NODES ** (power + 1) - (-1) ** (power + 1)) / (power + 1)
            np.testing.assert_allclose(RUNNING @ NODES**power, running, atol=1e-13)


def test_panels_are_no_longer_than_what_they_touch():
    lows, highs = np.array([-1.0, 2.0, 2.5]), np.array([4.0, 2.25, 9.0])
    edges = partition(0.0, 5.0, lows, highs, 3.0)
    assert edges[0] == 0.0
    assert edges[-1] == 5.0
    assert np.all(np.diff(edges) > 0)
    for left, right in itertools.pairwise(edges):
        touched = (highs > left) & (lows < right)
        assert right - left <= min(3.0, (highs - lows)[touched].min()) + 1e-12
