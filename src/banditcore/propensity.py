"""Exact selection probabilities of Thompson sampling, by quadrature.

The policy draws x_i ~ Beta(alpha_i, beta_i) for every eligible arm and ranks by y_i = w_i x_i.
With f_i the density of y_i and S_i(y) = P(y_i > y),

    P(arm i at rank r + 1) = integral of f_i(y) P(exactly r of the others exceed y) dy.

The inner probability is a Poisson-binomial one. For the first rank it is the product of the
others' 1 - S_j; for deeper ones see `banditcore._poisson_binomial`.

The error is measured, not assumed: over each panel the sum over arms is the rise of a
distribution function, known at the panel's ends; a panel where the quadrature misses it, or
where two rules differ on single arms, is halved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore._poisson_binomial import ranks_among_others
from banditcore.arrays import eligible_mask, parameters, positive_int, weights
from banditcore.contest import Contest, Panels, lay_out, log_lower
from banditcore.errors import InvalidValueError, NumericalError, describe
from banditcore.logit_beta import LARGEST, SMALLEST, LogitBeta, log_expit
from banditcore.quadrature import GAUSS_WEIGHTS, NODES, RUNNING, WEIGHTS

__all__ = ["rank_probabilities", "top_probabilities"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_PANEL_ERROR = 1e-12
_RULES_DIFFER = 1e-7  # of the 10-point rule; the 21-point rule is then right beyond 1e-11
_DENSITY_ERROR = 3e-13  # of one arm's density integrated over a panel
_MAX_HALVINGS = 12
_MAX_ERROR = 1e-7
_RULES = np.stack([WEIGHTS, GAUSS_WEIGHTS], axis=1)
_OF_DENSITY = np.concatenate([RUNNING.T, _RULES], axis=1)
_CHUNK_FLOATS = 4_000_000  # 32 MB in the largest set of temporaries


def top_probabilities(
    alpha: ArrayLike,
    beta: ArrayLike,
    k: int = 1,
    *,
    weight: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
) -> FloatArray:
    """Return the probability of each arm to be among the top k by weight times sampled rate.

    Parameters
    ----------
    alpha, beta : (n,) array-like
        Parameters of the Beta posteriors, 1e-10 to 1e18; made for 1e-3 to 1e12.
    k : int
        Slate length, >= 1. With no more than k eligible arms each of them has probability 1.
    weight : (n,) array-like, optional
        Finite and > 0; all 1 by default.
    eligible : (n,) bool or (m,) int, optional
        A mask, or arm indices; all arms by default.

    Returns
    -------
    (n,) float64
        In [0, 1]; 0 for arms that are not eligible. The sum is min(k, eligible arms) within
        1e-9. Absolute error about 1e-10 for parameters up to 1e9, below 1e-9 up to 1e12; a
        probability below about 1e-15 may be given as 0.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument is not as described.
    NumericalError
        If the quadrature did not reach 1e-7.
    """
    k = positive_int("k", k)
    a, b, w, among = _arguments(alpha, beta, weight, eligible)
    top = np.zeros(len(a))
    if k >= len(among):
        top[among] = 1.0
    else:
        top[among] = np.minimum(_ranks(a[among], b[among], w[among], k).sum(axis=1), 1.0)
    return top


def rank_probabilities(
    alpha: ArrayLike,
    beta: ArrayLike,
    k: int,
    *,
    weight: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
) -> FloatArray:
    """Return the probability of each arm to stand at each of the ranks 1..k.

    Parameters
    ----------
    alpha, beta, weight, eligible
        As for `top_probabilities`.
    k : int
        Number of ranks, 1..n.

    Returns
    -------
    (n, k) float64
        Column r is rank r + 1 and sums to 1 within 1e-9, or to 0 where there are no more
        eligible arms. Rows of arms that are not eligible are 0. Errors as for
        `top_probabilities`.
    """
    k = positive_int("k", k)
    a, b, w, among = _arguments(alpha, beta, weight, eligible)
    if k > len(a):
        raise InvalidValueError(describe("k", k, f"as many ranks as arms at most, {len(a)}"))
    try:
        ranks = np.zeros((len(a), k))
    except MemoryError as error:
        raise InvalidValueError(
            describe("k", k, f"{len(a)} arms x {k} ranks do not fit in memory")
        ) from error
    depth = min(k, len(among))
    if depth:
        ranks[among, :depth] = _ranks(a[among], b[among], w[among], depth)
    return ranks


def _arguments(
    alpha: ArrayLike, beta: ArrayLike, weight: ArrayLike | None, eligible: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    a, b = parameters(alpha, beta, SMALLEST, LARGEST)
    return a, b, weights(weight, len(a)), np.flatnonzero(eligible_mask(eligible, len(a)))


def _ranks(a: FloatArray, b: FloatArray, w: FloatArray, k: int) -> FloatArray:
    """Return the (n, k) rank probabilities of n >= k >= 1 arms, all eligible."""
    # One evaluation for arms that are alike, in an order of their own: equal arms get equal
    # answers and a permutation of the arms permutes the answer, to the last bit.
    kinds, kind_of, copies = np.unique(
        np.stack([np.log(w), a, b], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    kind_of = kind_of.reshape(-1)
    log_w, a, b = kinds.T
    contest = Contest(LogitBeta(a, b), log_w - log_w.max(), copies)
    contest, panels = lay_out(contest, k)
    ranks = np.zeros((len(kinds), k))
    ranks[contest.origin] = _integrate(contest, panels, k)
    sums = copies @ ranks
    worst = int(np.abs(sums - 1.0).argmax())
    if not abs(sums[worst] - 1.0) <= _MAX_ERROR:
        raise NumericalError(
            describe(
                f"the sum of the probabilities at rank {worst + 1}",
                float(sums[worst]),
                "it must be 1; are parameters outside 1e-3..1e12, or weights too far apart?",
            )
        )
    answer: FloatArray = (ranks / sums)[kind_of]
    return answer


def _integrate(contest: Contest, panels: Panels, k: int) -> FloatArray:
    """Return (n, k): each kind's probability, a copy, at each rank."""
    total = np.zeros((len(contest), k))
    # What the densities themselves are worth: logits of narrow arms have few digits left.
    noise = 1e-15 * float(np.sqrt(contest.beta.precision.max()))
    for halving in range(_MAX_HALVINGS + 1):
        doubtful = np.zeros(len(panels.anchor), dtype=np.bool_)
        for part in _chunks(contest, len(panels.anchor), k):
            got, differ, rise = _panel_sums(contest, panels, part, k)
            miss = np.abs(np.tensordot(contest.copies, got, 1) - rise).max(axis=1)
            bad = (miss > max(_PANEL_ERROR, noise)) | (differ > _RULES_DIFFER)
            if halving == _MAX_HALVINGS:
                bad[:] = False
            doubtful[part] = bad
            total += got[:, ~bad].sum(axis=1)
        if not doubtful.any():
            break
        anchor, low, high = panels.anchor[doubtful], panels.low[doubtful], panels.high[doubtful]
        middle = 0.5 * (low + high)
        panels = Panels(np.tile(anchor, 2), np.append(low, middle), np.append(middle, high))
    return total


def _chunks(contest: Contest, panels: int, k: int) -> list[slice]:
    """Cut the panels so that the temporaries of one cut stay within some tens of megabytes."""
    floats = (len(NODES) + 2) * (8 + 2 * k) * len(contest)
    size = max(1, _CHUNK_FLOATS // floats)
    return [slice(at, at + size) for at in range(0, panels, size)]


def _panel_sums(
    contest: Contest, panels: Panels, part: slice, k: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Integrate each panel of `part`.

    Returns
    -------
    got : (n, p, k) float64
        Probability of a copy of each kind at each rank, with y in the panel.
    differ : (p,) float64
        Sum over arms and ranks of the difference between the two rules.
    rise : (p, k) float64
        What the sum of `got` over arms must be.
    """
    low, high = panels.low[part, None], panels.high[part, None]
    half = 0.5 * (high - low)
    tau = np.concatenate([low, low + half * (1.0 + NODES), high], axis=1)  # (p, nodes + 2)
    anchor = np.broadcast_to(panels.anchor[part, None], tau.shape)
    count, points = tau.shape
    own, within = contest.logits(anchor.ravel(), tau.ravel())  # (n, p * points)
    log_density = contest.beta.log_density(own)
    if not contest.level:  # d own / d tau = (1 - y / w_anchor) / (1 - y / w_own)
        log_density += log_expit(-tau.ravel()) - log_expit(-own)
        log_density[~within] = -np.inf
    density = np.exp(log_density)
    shape = (len(contest), count, points)
    ends = tau[:, [0, -1]] + 1j * anchor[:, :1]
    lower, upper = _tails_of_panels(
        contest, own.reshape(shape), within.reshape(shape), density.reshape(shape), half, ends
    )
    if k == 1:
        others, below = _product_of_others(lower, upper, contest.copies)
    else:
        others, below = ranks_among_others(lower, upper, contest.copies, k)
    others *= density
    integrand = others.reshape(k, len(contest), count, points)[..., 1:-1]
    rules = integrand @ _RULES * half  # (k, n, p, 2)
    got = rules[..., 0].transpose(1, 2, 0)
    differ = np.tensordot(contest.copies, np.abs(rules[..., 0] - rules[..., 1]).sum(axis=0), 1)
    risen = below.reshape(k, count, points)
    return got, differ, (risen[:, :, -1] - risen[:, :, 0]).T


def _tails_of_panels(  # noqa: PLR0917
    contest: Contest,
    own: FloatArray,
    within: BoolArray,
    density: FloatArray,
    half: FloatArray,
    ends: NDArray[np.complex128],
) -> tuple[FloatArray, FloatArray]:
    """Return P(y_i <= y) and P(y_i > y), (n, p * points), for arrays (n, p, points).

    `ends`, (p, 2), are equal where ends of panels are.

    The incomplete beta function costs microseconds a value. At the ends of a panel it is
    called; in between the density is integrated, if that leads from one end to the other.
    """
    count, points = own.shape[1:]
    lower, upper = np.empty(own.shape), np.empty(own.shape)
    _, first, place = np.unique(ends, return_index=True, return_inverse=True)  # panels share them
    panel, side = np.divmod(first, 2)
    side *= points - 1
    place = place.reshape(count, 2)
    found = contest.tails(own[:, panel, side], within[:, panel, side])
    for tails, at_ends in zip((lower, upper), found, strict=True):
        tails[:, :, [0, -1]] = at_ends[:, place]
    integrals = (density[:, :, 1:-1] * half) @ _OF_DENSITY
    risen, mass, rough = integrals[..., :-2], integrals[..., -2], integrals[..., -1]
    np.clip(risen, 0.0, mass[:, :, None], out=risen)  # an interpolant may swing by 1e-16
    lower[:, :, 1:-1] = lower[:, :, :1] + risen
    upper[:, :, 1:-1] = (upper[:, :, -1] + mass)[:, :, None] - risen
    astray = np.maximum(np.abs(lower[:, :, -1] - lower[:, :, 0] - mass), np.abs(rough - mass))
    kinds, where = np.nonzero(astray > _DENSITY_ERROR)
    if len(kinds):
        reached = within[kinds, where]
        direct = contest.beta.take(kinds).tails(own[kinds, where])
        lower[kinds, where] = np.where(reached, direct[0], 1.0)
        upper[kinds, where] = np.where(reached, direct[1], 0.0)
    return lower.reshape(len(contest), -1), upper.reshape(len(contest), -1)


def _product_of_others(
    lower: FloatArray, upper: FloatArray, copies: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return P(none of the others exceeds y), (1, n, m), and P(none at all does), (1, m)."""
    logs = log_lower(lower, upper)
    together = copies @ logs
    return np.exp(together - logs)[None], np.exp(together)[None]
