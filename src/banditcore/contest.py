"""The arms that compete for the top ranks, and where on the axis of y = weight x rate they do.

The axis. Between two neighbouring weights v < w the integral runs over the logit of y / w: there
the densities of arms of weight w, which may be singular at y = w, are smooth and their distance
from w keeps its digits. With equal weights it is one logit axis for all.

Arms that cannot reach the top ranks are left out, and panels are laid where the others have
mass: a grid that stops short of one wide arm's tail, or steps over a narrow arm, would shift
every probability.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from banditcore.logit_beta import LogitBeta, log_expit, logit_of_log
from banditcore.quadrature import partition

__all__ = ["Contest", "Panels", "lay_out", "log_lower"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_DROP = 37.0  # mass outside the drop points of one arm: below 1e-16
_INNER_DROPS = (10.0,)  # 4.5 standard deviations of a normal
_NO_MASS = 46.0  # a tail beyond this drop is below 1e-20: it may be given as 0
_LOG_NEGLIGIBLE = -37.0
_SEARCH_STEPS, _SEARCH_POINTS = 3, 7  # the lowest y that matters, to 1/512 of where arms have mass
_ANCHOR_FROM = 2.0  # an arm with mass beyond this logit gets an axis of its own weight


class Contest:
    """Kinds of arms that meet: a Beta, a log-weight <= 0 and a number of copies each."""

    def __init__(self, beta: LogitBeta, log_w: FloatArray, copies: IntArray) -> None:
        self.beta, self.log_w, self.copies = beta, log_w, copies
        self.origin = np.arange(len(log_w))
        self.level = not log_w.any()  # one weight, so one logit axis for all
        ((self.low, self.high),) = beta.drop_points(_DROP)

    def __len__(self) -> int:
        return len(self.log_w)

    def take(self, which: BoolArray) -> Contest:
        """Return the contest of the kinds under the mask alone."""
        part = copy(self)
        part.beta = self.beta.take(which)
        for name in ("log_w", "copies", "origin", "low", "high"):
            setattr(part, name, getattr(self, name)[which])
        part.level = not part.log_w.any()
        return part

    def logits(self, anchor: FloatArray, tau: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return every kind's own logit at the points y = exp(anchor) expit(tau), (m,) each.

        Returns
        -------
        own, within : (n, m)
            The logit, and whether y is below the kind's weight; where not, the logit is 0.
        """
        if self.level and not anchor.any():
            shape = (len(self), len(tau))
            return np.broadcast_to(tau, shape), np.broadcast_to(np.True_, shape)
        own = logit_of_log((anchor - self.log_w[:, None]) + log_expit(tau))
        own = np.where(anchor == self.log_w[:, None], tau, own)
        within = np.isfinite(own)
        return np.where(within, own, 0.0), within

    def tails(self, own: FloatArray, within: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return P(y_i <= y) and P(y_i > y), (n, m), at what `logits` returned."""
        lower, upper = self.beta.tails(own, _NO_MASS)
        return np.where(within, lower, 1.0), np.where(within, upper, 0.0)

    def on_axis(self, anchor: float, logit: FloatArray) -> FloatArray:
        """Return the tau, (n,), of each kind's own `logit`, on the axis of weight exp(anchor)."""
        if anchor == 0.0 and self.level:
            return logit
        there = logit_of_log((self.log_w - anchor) + log_expit(logit))
        return np.where(self.log_w == anchor, logit, there)


@dataclass(frozen=True, slots=True)
class Panels:
    """(p,) pieces of the axis: log-weight each is anchored at, and its ends in tau."""

    anchor: FloatArray
    low: FloatArray
    high: FloatArray


def lay_out(contest: Contest, k: int) -> tuple[Contest, Panels]:
    """Return the kinds that can be among the top k, and panels over all y where that happens."""
    bottom = _bottom(contest, k)
    top_axis = contest.on_axis(0.0, contest.high)
    if not np.any(top_axis > bottom):  # all arms below the last float under the largest weight
        bottom = float(top_axis.max()) - 1.0
    contest = contest.take(top_axis >= bottom)
    low_y, high_y = log_expit(np.array([bottom, contest.on_axis(0.0, contest.high).max()]))
    anchors = np.unique(contest.log_w[contest.high > _ANCHOR_FROM])
    anchors = np.append(anchors[(anchors >= low_y) & (anchors < 0.0)], 0.0)
    found: list[tuple[float, FloatArray]] = []
    previous = -np.inf  # log y where the segment before ended
    for anchor in anchors.tolist():
        own = contest.log_w == anchor
        if anchor == 0.0:
            start = bottom
            end = float(contest.on_axis(0.0, contest.high).max())
        else:
            start = float(logit_of_log(np.array([low_y - anchor]))[0])
            # Mass of this weight's arms may sit closer to it than a float can tell.
            start = min(start, float(contest.low[own].min()))
            end = max(40.0, float(contest.high[own].max()))
        if previous > -np.inf:
            start = float(logit_of_log(np.array([previous - anchor]))[0])
        previous = anchor
        if start < end:
            found.append((anchor, _edges(contest, anchor, start, end)))
        if anchor >= high_y:
            break
    return contest, Panels(
        np.concatenate([np.full(len(edges) - 1, anchor) for anchor, edges in found]),
        np.concatenate([edges[:-1] for _, edges in found]),
        np.concatenate([edges[1:] for _, edges in found]),
    )


def _bottom(contest: Contest, k: int) -> float:
    """Return a tau at anchor 0 that fewer than k arms exceed with negligible probability."""
    lows, highs = (contest.on_axis(0.0, end) for end in (contest.low, contest.high))
    order = np.argsort(-lows, kind="stable")
    enough = int(np.searchsorted(np.cumsum(contest.copies[order]), k))
    low, high = float(lows[order[enough]]), float(highs.max())
    if len(contest) <= 32 or not np.isfinite(high):
        return low
    certain = low
    for _ in range(_SEARCH_STEPS):  # all points of a step at once; the chance grows with tau
        taus = np.linspace(low, high, _SEARCH_POINTS + 2)
        too_low = _log_chance(contest, taus[1:-1], k, rough=True) < _LOG_NEGLIGIBLE - 3.0
        at = int(too_low.sum())
        low, high = float(taus[at]), float(taus[at + 1])
    chance = _log_chance(contest, np.array([low]), k, rough=False)
    return low if chance[0] < _LOG_NEGLIGIBLE else certain


def _log_chance(contest: Contest, tau: FloatArray, k: int, *, rough: bool) -> FloatArray:
    """Return a bound of log P(fewer than k arms exceed the y at `tau`, anchor 0), (m,)."""
    own, within = contest.logits(np.zeros(len(tau)), tau)
    lower, upper = contest.beta.rough_tails(own) if rough else contest.beta.tails(own)
    lower, upper = np.where(within, lower, 1.0), np.where(within, upper, 0.0)
    if k == 1:
        chance: FloatArray = contest.copies @ log_lower(lower, upper)
        return chance
    # Chernoff's bound for at most k - 1 of independent events with `mean` expected
    mean, most = contest.copies @ upper, k - 1
    bound: FloatArray = most - mean + most * np.log(np.maximum(mean, most) / most)
    return np.minimum(bound, 0.0)


def _edges(contest: Contest, anchor: float, start: float, end: float) -> FloatArray:
    """Return panel edges as fine as the arms that have mass there."""
    inner = chain.from_iterable(contest.beta.drop_points(*_INNER_DROPS))
    ends = (contest.low, contest.high, contest.beta.mode, *inner)
    points = np.sort(np.stack([contest.on_axis(anchor, end) for end in ends]), axis=0)
    lows, highs = points[:-1].ravel(), points[1:].ravel()
    inside = np.isfinite(lows)
    return partition(start, end, lows[inside], np.minimum(highs[inside], 1e300), end - start)


def log_lower(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return log(lower) with all its digits; far below any product that matters, -1e4."""
    logs = np.log1p(-np.minimum(upper, 0.5))
    deep = upper >= 0.5
    logs[deep] = np.log(np.maximum(lower[deep], 1e-300))
    return logs
