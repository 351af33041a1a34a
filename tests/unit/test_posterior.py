"""Posteriors add counts to priors; the empirical prior walks the segment tree downwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from banditcore.counts import ArmCounts
from banditcore.empirical_bayes import fit_beta, fit_strength
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.posterior import ArmPriors, Posterior, Prior
from banditcore.posterior_tree import posteriors

NOW = 1.7e9


def counts(trials, successes, arms=None):
    arms = arms or [f"arm{i}" for i in range(len(trials))]
    return ArmCounts(arms, trials, successes, NOW)


# Prior


def test_a_prior_is_two_numbers():
    prior = Prior(1, 30)
    assert (prior.a, prior.b) == (1.0, 30.0)
    assert isinstance(prior.a, float)
    assert prior.mean == 1 / 31
    assert prior == Prior(np.float64(1), np.int64(30))
    with pytest.raises(AttributeError):
        prior.a = 2.0


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, 10**400])
def test_a_prior_is_finite_and_above_0(bad):
    with pytest.raises(InvalidValueError, match="prior a"):
        Prior(bad, 1)
    with pytest.raises(InvalidValueError, match="prior b"):
        Prior(1, bad)


@pytest.mark.parametrize("bad", ["1", None, True, 1j])
def test_a_prior_takes_numbers_only(bad):
    with pytest.raises(InvalidTypeError, match="prior b"):
        Prior(1, bad)


@pytest.mark.parametrize("text", ["1,30", " 1 , 30 ", "1.0,3e1"])
def test_a_prior_is_parsed(text):
    assert Prior.parse(text) == Prior(1, 30)


@pytest.mark.parametrize("text", ["", "1", "1,", "1,2,3", "a,b", "1;30"])
def test_text_that_is_no_prior_is_refused(text):
    with pytest.raises(InvalidValueError, match='such as "1,30"'):
        Prior.parse(text)


@pytest.mark.parametrize("text", ["0,1", "1,-3", "nan,1", "1,inf"])
def test_parsed_numbers_are_checked(text):
    with pytest.raises(InvalidValueError, match="finite and above 0"):
        Prior.parse(text)


@settings(deadline=None)  # a busy machine is no failure
@given(st.floats(1e-3, 1e12), st.floats(1e-3, 1e12))
def test_a_prior_survives_its_text_form(a, b):
    assert Prior.parse(f"{a!r},{b!r}") == Prior(a, b)
    assert Prior.parse(str(Prior(a, b))).a == pytest.approx(a, rel=1e-5)


# Posterior


def test_successes_and_failures_are_added_to_the_prior():
    p = Posterior.of(counts([100, 0, 7.5], [3, 0, 2.25]), Prior(1, 30))
    assert p.arms == ("arm0", "arm1", "arm2")
    assert p.alpha.tolist() == [4.0, 1.0, 3.25]
    assert p.beta.tolist() == [127.0, 30.0, 35.25]
    assert p.clipped == 0
    assert p.mean.tolist() == [4 / 131, 1 / 31, 3.25 / 38.5]
    assert len(p) == 3


def test_more_successes_than_trials_count_no_failure_and_are_told():
    p = Posterior.of(counts([0, 5, 5, 1], [1, 5, 6, 0]), Prior(1, 2))
    assert p.alpha.tolist() == [2.0, 6.0, 7.0, 1.0]
    assert p.beta.tolist() == [2.0, 2.0, 2.0, 3.0]
    assert p.clipped == 2


def test_every_arm_may_have_its_own_prior():
    p = Posterior.of(counts([10, 10], [1, 2]), ArmPriors([1, 2], [3, 4]))
    assert p.alpha.tolist() == [2.0, 4.0]
    assert p.beta.tolist() == [12.0, 12.0]
    with pytest.raises(InvalidValueError, match="number of priors is 1"):
        Posterior.of(counts([10, 10], [1, 2]), ArmPriors([1], [3]))
    with pytest.raises(InvalidTypeError, match="a Prior"):
        Posterior.of(counts([1], [1]), (1, 30))


@pytest.mark.parametrize("bad", [[0.0, 1.0], [1.0, np.nan], [1.0, np.inf], [1.0], [[1.0, 1.0]]])
def test_arm_priors_are_checked(bad):
    with pytest.raises(InvalidValueError):
        ArmPriors(bad, [1.0, 1.0])
    with pytest.raises(InvalidValueError):
        ArmPriors([1.0, 1.0], bad)


def test_a_posterior_is_read_only_and_checked():
    alpha = np.array([1.0, 2.0])
    p = Posterior(["a", "b"], alpha, [3.0, 4.0])
    alpha[0] = 9.0
    assert p.alpha.tolist() == [1.0, 2.0]
    assert p.arms == ("a", "b")
    with pytest.raises(ValueError, match="read-only"):
        p.beta[0] = 1.0
    with pytest.raises(InvalidValueError, match=r"shape of beta"):
        Posterior(("a",), [1.0], [1.0, 2.0])
    with pytest.raises(InvalidValueError, match=r"alpha\[0\]"):
        Posterior(("a",), [0.0], [1.0])


def test_intervals_of_distributions_with_a_closed_form():
    p = Posterior(("uniform", "power", "arcsine"), [1.0, 4.0, 0.5], [1.0, 1.0, 0.5])
    low, high = p.interval(0.8)
    np.testing.assert_allclose(low, [0.1, 0.1**0.25, np.sin(np.pi * 0.05) ** 2], rtol=1e-9)
    np.testing.assert_allclose(high, [0.9, 0.9**0.25, np.sin(np.pi * 0.45) ** 2], rtol=1e-9)


def test_the_interval_of_a_narrow_posterior_is_normal():
    p = Posterior(("a",), [1e12], [1e12])
    low, high = p.interval()
    half_width = 1.6448536269514722 * np.sqrt(0.25 / 2e12)
    np.testing.assert_allclose([0.5 - low[0], high[0] - 0.5], half_width, rtol=1e-6)


def test_the_interval_of_a_rare_event_is_a_gamma_one():
    """b X tends to Gamma(a): here scipy's inverse incomplete beta is off by a factor of 2."""
    p = Posterior(("a", "b"), [1e3, 1e3], [1e10, 1e12])
    low, high = p.interval()
    np.testing.assert_allclose(low * p.beta, special.gammaincinv(1e3, 0.05), rtol=1e-6)
    np.testing.assert_allclose(high * p.beta, special.gammaincinv(1e3, 0.95), rtol=1e-6)


def test_intervals_are_finite_and_ordered_over_the_whole_range():
    grid = np.array([1e-3, 0.01, 0.5, 1, 2, 50, 1e3, 1e4, 1e6, 1e8, 1e10, 1e12])
    a, b = (axis.ravel() for axis in np.meshgrid(grid, grid))
    p = Posterior([str(i) for i in range(len(a))], a, b)
    before = None
    for level in (0.5, 0.9, 0.999999):
        low, high = p.interval(level)
        assert np.all((low >= 0) & (low <= high) & (high <= 1))
        if before is not None:
            assert np.all((low <= before[0]) & (high >= before[1]))
        before = (low, high)
    # Where float spacing near 1 does not hide it, the tails hold what they should.
    low, high = p.interval(0.9)
    plain = (a <= b) & (b <= 1e6) & (low > 1e-300) & (high < 0.99)
    assert plain.sum() > 20
    np.testing.assert_allclose(special.betainc(a, b, low)[plain], 0.05, rtol=1e-7)
    np.testing.assert_allclose(special.betaincc(a, b, high)[plain], 0.05, rtol=1e-7)


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.1, np.nan])
def test_a_level_lies_between_0_and_1(level):
    with pytest.raises(InvalidValueError, match="level"):
        Posterior(("a",), [1.0], [1.0]).interval(level)


def test_a_level_is_a_number():
    with pytest.raises(InvalidTypeError, match="level"):
        Posterior(("a",), [1.0], [1.0]).interval("0.9")


# The tree


def test_a_fixed_prior_treats_segments_independently():
    tree = {"b/c": counts([4], [1]), "a": counts([10, 5], [2, 0])}
    got = posteriors(tree, Prior(1, 9))
    assert list(got) == ["b/c", "a"]
    assert got["b/c"].alpha.tolist() == [2.0]
    assert got["b/c"].beta.tolist() == [12.0]
    assert got["a"].alpha.tolist() == [3.0, 1.0]


def test_unknown_priors_are_refused():
    with pytest.raises(InvalidValueError, match="empirical"):
        posteriors({"": counts([1], [0])}, "bayes")


def test_a_missing_ancestor_is_named():
    with pytest.raises(InvalidValueError, match="segment 'IN' too"):
        posteriors({"": counts([1], [0]), "IN/mobile": counts([1], [0])}, "empirical")
    with pytest.raises(InvalidValueError, match="segment '' too"):
        posteriors({"IN": counts([1], [0])}, "empirical")


def test_nothing_gives_nothing():
    assert posteriors({}, "empirical") == {}
    got = posteriors({"": counts([], []), "IN": counts([], [])}, "empirical")
    assert [len(p) for p in got.values()] == [0, 0]


def test_the_global_segment_gets_one_fitted_prior():
    c = counts([100, 200, 50, 0], [3, 20, 1, 0])
    a, b = fit_beta(c.successes, c.trials - c.successes)
    got = posteriors({"": c}, "empirical")[""]
    np.testing.assert_allclose(got.alpha, a + c.successes)
    np.testing.assert_allclose(got.beta, b + c.trials - c.successes)


def test_a_child_borrows_from_what_its_parent_knows_beyond_it():
    parent = counts([1000, 2000, 1500], [30, 20, 90])
    child = counts([50, 100], [2, 9], arms=["arm2", "arm0"])
    got = posteriors({"IN": child, "": parent}, "empirical")
    assert list(got) == ["IN", ""]

    a, b = fit_beta(parent.successes, parent.trials - parent.successes)
    rest_s, rest_n = np.array([90 - 2, 30 - 9]), np.array([1500 - 50, 1000 - 100])
    mean = (a + rest_s) / (a + b + rest_n)
    kappa = fit_strength(child.successes, child.trials - child.successes, mean)
    np.testing.assert_allclose(got["IN"].alpha, kappa * mean + child.successes)
    np.testing.assert_allclose(got["IN"].beta, kappa * (1 - mean) + child.trials - child.successes)


def test_an_only_child_with_all_events_counts_them_once():
    """The parent has nothing left to lend but its own prior mean, the same for every arm."""
    c = counts([100, 200, 50], [3, 20, 1])
    got = posteriors({"": c, "IN": c}, "empirical")["IN"]
    a, b = fit_beta(c.successes, c.trials - c.successes)
    prior_a, prior_b = got.alpha - c.successes, got.beta - (c.trials - c.successes)
    np.testing.assert_allclose(prior_a / (prior_a + prior_b), a / (a + b))


def test_an_arm_its_parent_does_not_know_starts_from_the_parents_prior_mean():
    parent = counts([1000, 1000, 1000], [50, 60, 40])
    child = counts([100, 10], [5, 1], arms=["arm0", "new"])
    grandchild = counts([3], [1], arms=["newest"])
    tree = {"": parent, "a": child, "a/b": grandchild}
    got = posteriors(tree, "empirical")
    assert got[""].arms == parent.arms
    assert got["a"].arms == ("arm0", "new")
    assert got["a/b"].arms == ("newest",)
    a, b = fit_beta(parent.successes, parent.trials - parent.successes)
    prior_a, prior_b = got["a"].alpha - child.successes, got["a"].beta - [95.0, 9.0]
    assert prior_a[1] / (prior_a[1] + prior_b[1]) == pytest.approx(a / (a + b))
    prior_a, prior_b = got["a/b"].alpha[0] - 1, got["a/b"].beta[0] - 2
    assert prior_a / (prior_a + prior_b) == pytest.approx(a / (a + b))


def test_a_child_read_after_its_parent_does_no_harm():
    got = posteriors({"": counts([10], [2]), "a": counts([12], [3])}, "empirical")
    assert np.all(np.isfinite(got["a"].alpha))
    assert got["a"].alpha[0] > 3


def test_borrowing_brings_estimates_closer_to_the_truth():
    """Twelve children of one parent with rates like it: the squared error at least halves."""
    rng = np.random.default_rng(20)
    base = rng.beta(2, 60, 200)
    tree, truth = {}, {}
    totals = np.zeros((2, 200))
    for name in "abcdefghijkl":
        truth[name] = rng.beta(400 * base, 400 * (1 - base))
        trials = rng.poisson(100, 200)
        tree[name] = counts(trials, rng.binomial(trials, truth[name]))
        totals += [tree[name].trials, tree[name].successes]
    tree[""] = counts(*totals)
    borrowed = posteriors(tree, "empirical")
    alone = posteriors(tree, Prior(2, 60))

    def error(got):
        return sum(np.square(got[name].mean - truth[name]).sum() for name in "abcdefghijkl")

    assert error(borrowed) < 0.5 * error(alone)


counts_strategy = st.lists(
    st.tuples(st.floats(0, 1e9), st.floats(0, 1)), min_size=1, max_size=8
).map(lambda rows: ([n for n, _ in rows], [n * share for n, share in rows]))


@settings(deadline=None)  # a busy machine is no failure
@given(counts_strategy, counts_strategy)
def test_any_counts_give_finite_posteriors_that_grow_with_the_data(one, two):
    first, second = counts(*one), counts(*two)
    width = max(len(first), len(second))
    total = counts(
        np.pad(first.trials, (0, width - len(first)))
        + np.pad(second.trials, (0, width - len(second))),
        np.pad(first.successes, (0, width - len(first)))
        + np.pad(second.successes, (0, width - len(second))),
    )
    tree = {"": total, "x": first, "y": second}
    got = posteriors(tree, "empirical")
    for segment, p in got.items():
        own = tree[segment]
        assert np.all(np.isfinite(p.alpha) & np.isfinite(p.beta))
        assert np.all(p.alpha >= own.successes)
        assert np.all(p.beta >= own.trials - own.successes)
        assert np.all(p.alpha > 0)
