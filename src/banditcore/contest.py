"""The arms that compete for the top ranks, and where on the axis of y = weight x rate they do.

The axis. Between two neighbouring weights v < w the integral runs over the logit of y / w: there
the densities of arms of weight w, which may be singular at y = w, are smooth and their distance
from w keeps its digits. With equal weights it is one logit axis for all.

Arms that cannot reach the top ranks are left out, and panels are laid where the others have
mass: a grid that stops short of one wide arm's tail, or steps over a narrow arm, would shift
every probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.logit_beta import LogitBeta, log_expit, logit_of_log
from banditcore.quadrature import partition

__all__ = ["Contest", "Panels", "lay_out", "log_lower"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_DROP = 37.0  # mass outside the drop points of one arm: below 1e-16
_INNER_DROPS = (0.0, 2.0, 10.0)  # 0, 2 and 4.5 standard deviations of a normal
_LOG_NEGLIGIBLE = -37.0
_ANCHOR_FROM = 2.0  # an arm with mass beyond this logit gets an axis of its own weight


class Contest:
    """Kinds of arms that meet: a Beta, a log-weight <= 0 and a number of copies each."""

    def __init__(
        self, beta: LogitBeta, log_w: FloatArray, copies: IntArray, origin: IntArray | None = None
    ) -> None:
        self.beta, self.log_w, self.copies = beta, log_w, copies
        self.origin = np.arange(len(log_w)) if origin is None else origin
        self.low, self.high = beta.drop_points(_DROP)

    def __len__(self) -> int:
        return len(self.log_w)

    def take(self, which: BoolArray) -> Contest:
        """Return the contest of the kinds under the mask alone."""
        return Contest(
            self.beta.take(which), self.log_w[which], self.copies[which], self.origin[which]
        )

    def logits(self, anchor: FloatArray, tau: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return every kind's own logit at the points y = exp(anchor) expit(tau), (m,) each.

        Returns
        -------
        own, within : (n, m)
            The logit, and whether y is below the kind's weight; where not, the logit is 0.
        """
        own = logit_of_log((anchor - self.log_w[:, None]) + log_expit(tau))
        own = np.where(anchor == self.log_w[:, None], tau, own)
        within = np.isfinite(own)
        return np.where(within, own, 0.0), within

    def tails(self, own: FloatArray, within: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return P(y_i <= y) and P(y_i > y), (n, m), at what `logits` returned."""
        lower, upper = self.beta.tails(own)
        return np.where(within, lower, 1.0), np.where(within, upper, 0.0)

    def on_axis(self, anchor: float, logit: FloatArray) -> FloatArray:
        """Return the tau, (n,), of each kind's own `logit`, on the axis of weight exp(anchor)."""
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
    for _ in range(20):
        middle = 0.5 * (low + high)
        if _log_chance(contest, middle, k, rough=True) < _LOG_NEGLIGIBLE - 3.0:
            low = middle
        else:
            high = middle
    return low if _log_chance(contest, low, k, rough=False) < _LOG_NEGLIGIBLE else certain


def _log_chance(contest: Contest, tau: float, k: int, *, rough: bool) -> float:
    """Return a bound of log P(fewer than k arms exceed the y at `tau`, anchor 0)."""
    own, within = contest.logits(np.zeros(1), np.array([tau]))
    lower, upper = contest.beta.rough_tails(own) if rough else contest.beta.tails(own)
    lower, upper = np.where(within, lower, 1.0), np.where(within, upper, 0.0)
    if k == 1:
        return float(contest.copies @ log_lower(lower, upper)[:, 0])
    # Chernoff's bound for at most k - 1 of independent events with `mean` expected
    mean, most = float(contest.copies @ upper[:, 0]), k - 1
    return most - mean + most * float(np.log(mean / most)) if mean > most else 0.0


def _edges(contest: Contest, anchor: float, start: float, end: float) -> FloatArray:
    """Return panel edges as fine as the arms that have mass there."""
    ends = [contest.low, contest.high]
    for drop in _INNER_DROPS:
        ends.extend(contest.beta.drop_points(drop) if drop else (contest.beta.mode,))
    points = np.sort(np.stack([contest.on_axis(anchor, end) for end in ends]), axis=0)
    lows, highs = points[:-1].ravel(), points[1:].ravel()
    inside = np.isfinite(lows)
    return partition(start, end, lows[inside], np.minimum(highs[inside], 1e300), end - start)


def log_lower(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return log(lower) with all its digits; far below any product that matters, -1e4."""
    half = np.log(np.maximum(lower, 1e-300))
    return np.where(upper < 0.5, np.log1p(-np.minimum(upper, 0.5)), half)
