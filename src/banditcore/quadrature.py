"""Gauss-Kronrod panels: nodes, weights and a partition fine enough for given intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["GAUSS_WEIGHTS", "NODES", "RUNNING", "WEIGHTS", "partition"]

FloatArray = NDArray[np.float64]

# QUADPACK's qk21 (Piessens et al., 1983): positive nodes, outermost first, then 0.
_HALF_NODES = (
    0.995657163025808080735527280689003,
    0.973906528517171720077964012084452,
    0.930157491355708226001207180059508,
    0.865063366688984510732096688423493,
    0.780817726586416897063717578345042,
    0.679409568299024406234327365114874,
    0.562757134668604683339000099272694,
    0.433395394129247190799265943165784,
    0.294392862701460198131126602303866,
    0.148874338981631210884826001129720,
)
_HALF_WEIGHTS = (
    0.011694638867371874278064396062192,
    0.032558162307964727478818972459390,
    0.054755896574351996031381300244580,
    0.075039674810919952767043140916190,
    0.093125454583697605535065465083366,
    0.109387158802297641899210590325805,
    0.123491976262065851077958109585166,
    0.134709217311473325928054001771707,
    0.142775938577060080797094273138717,
    0.147739104901338491374841515972068,
)
_MIDDLE_WEIGHT = 0.149445554002916905664936468389821

NODES: FloatArray = np.array([*(-x for x in _HALF_NODES), 0.0, *reversed(_HALF_NODES)])
"""(21,) nodes in (-1, 1), ascending."""
WEIGHTS: FloatArray = np.array([*_HALF_WEIGHTS, _MIDDLE_WEIGHT, *reversed(_HALF_WEIGHTS)])
"""(21,) weights of the rule exact to degree 31."""
GAUSS_WEIGHTS: FloatArray = np.zeros(21)
"""(21,) weights of the embedded 10-point rule, exact to degree 19; 0 at the other nodes."""
GAUSS_WEIGHTS[1::2] = np.polynomial.legendre.leggauss(10)[1]


def _running() -> FloatArray:
    order = np.arange(len(NODES))
    values = np.polynomial.legendre.legvander(NODES, len(NODES))  # P_0 .. P_21 at the nodes
    rise = np.empty((len(NODES), len(NODES)))
    rise[:, 0] = NODES + 1.0
    rise[:, 1:] = (values[:, 2:] - values[:, :-2]) / (2 * order[1:] + 1)
    matrix: FloatArray = rise @ np.linalg.inv(values[:, :-1])
    return matrix


RUNNING: FloatArray = _running()
"""(21, 21): row i times the values at the nodes is the integral from -1 to node i, exact to
degree 20."""


def partition(
    start: float, end: float, lows: FloatArray, highs: FloatArray, longest: float
) -> FloatArray:
    """Return panel edges from `start` to `end`, no panel longer than an interval it touches.

    Parameters
    ----------
    start, end : float
        start < end.
    lows, highs : (m,) float64
        Intervals, which may overlap and reach beyond.
    longest : float
        Longest panel where there is no interval.

    Returns
    -------
    (p + 1,) float64, ascending
    """
    ahead = (highs > start) & (lows < end) & (highs > lows)
    lows, limits, highs = lows[ahead], (highs - lows)[ahead], highs[ahead]
    edges = [start]
    while edges[-1] < end:
        here = edges[-1]
        open_ = highs > here
        if not open_.all():
            lows, limits, highs = lows[open_], limits[open_], highs[open_]
        # A later interval limits a panel only from where it begins.
        reach = min(longest, float(np.maximum(limits, lows - here).min(initial=np.inf)))
        edges.append(min(here + max(reach, 4.0 * float(np.spacing(abs(here)))), end))
    return np.array(edges)
