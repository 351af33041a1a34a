"""Posteriors of all segments of a tree, with priors that borrow strength along it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from banditcore.counts import ArmCounts
from banditcore.empirical_bayes import fit_beta, fit_strength
from banditcore.errors import InvalidValueError, describe
from banditcore.posterior import ArmPriors, Posterior, Prior, failures
from banditcore.segments import parent, with_ancestors

__all__ = ["each_posterior", "posteriors"]

FloatArray = NDArray[np.float64]

# Below it a Beta is two atoms at 0 and 1 for every purpose, and numerics lose their footing.
_MIN_PARAMETER = 1e-3
_MEAN_EDGE = 1e-9  # a prior mean keeps this distance from 0 and 1


def posteriors(
    counts: Mapping[str, ArmCounts], prior: Prior | Literal["empirical"]
) -> dict[str, Posterior]:
    """Return the posterior of each segment in `counts`, in the same order.

    Parameters
    ----------
    counts : mapping of segment to ArmCounts
        Each segment's counts with those of everything below it added in. For "empirical" all
        ancestors must be there, the global segment ``""`` included.
    prior : Prior, or "empirical"
        A `Prior` is used for every arm of every segment, independently. "empirical" fits priors
        from the counts, from the global segment down:

        * global: one Beta(a, b) for all arms, by `fit_beta`;
        * any other: Beta(kappa m_i, kappa (1 - m_i)) for arm i, with m_i its posterior mean in
          the parent, computed from the parent's prior and the parent's counts *minus* this
          segment's own, so that no event counts both as prior and as evidence; kappa, by
          `fit_strength`, says how closely the segment has followed its parent.

        An arm the parent does not know has no evidence there. No parameter of a prior is
        below 1e-3.

    Raises
    ------
    InvalidValueError
        If an ancestor is missing, or `prior` is another string.

    Notes
    -----
    Where the theory stops: m_i enters as if known exactly, and the fit of a parent's own
    hyperparameters has seen the child's events, as everywhere in empirical Bayes; a child whose
    rates differ from its parent's by one common factor is not modelled as such: kappa falls and
    less is borrowed. A parent with a single child lends it only its own prior mean. If counts of
    parent and child were read at different moments, a difference below 0 counts as 0.
    """
    found = dict(each_posterior(counts, prior))
    return {segment: found[segment] for segment in counts}


def each_posterior(
    counts: Mapping[str, ArmCounts],
    prior: Prior | Literal["empirical"],
    *,
    strengths: MutableMapping[str, float] | None = None,
    keeps: Callable[[str, Posterior], bool] = lambda _segment, _posterior: False,
) -> Iterator[tuple[str, Posterior]]:
    """Yield each segment with its posterior as soon as it is found; see `posteriors`.

    Parameters
    ----------
    counts, prior
        As there.
    strengths : mapping of segment to float, optional
        kappa of segments that were fitted before; of others it is entered.
    keeps : callable, optional
        Called with a segment and the posterior that its kappa of before gives. True spares the
        fit, which takes most of the time, and stays with that kappa.

    Yields
    ------
    segment : str
    posterior : Posterior
    """
    if isinstance(prior, Prior):
        for segment, plain in counts.items():
            yield segment, Posterior.of(plain, prior)
        return
    if prior != "empirical":
        raise InvalidValueError(describe("prior", prior, 'a Prior, or "empirical"'))
    order = with_ancestors(counts)
    for segment in order:
        if segment not in counts:
            raise InvalidValueError(
                describe(
                    "counts",
                    list(counts),
                    f"the empirical prior needs every ancestor, here segment {segment!r} too",
                )
            )
    columns = _complete(counts, order)
    kappas = {} if strengths is None else strengths
    priors: dict[str, ArmPriors] = {}

    def found(segment: str) -> tuple[ArmPriors, Posterior]:
        own, above = columns[segment], parent(segment)
        if above is None:
            fitted = _root_priors(own)
            return fitted, _posterior(counts[segment], fitted)
        mean = _mean_above(own, columns[above], priors[above])
        if segment in kappas:
            fitted = _around(mean, kappas[segment])
            posterior = _posterior(counts[segment], fitted)
            if keeps(segment, posterior):
                return fitted, posterior
        kappas[segment] = fit_strength(own.successes, failures(own.trials, own.successes), mean)
        fitted = _around(mean, kappas[segment])
        return fitted, _posterior(counts[segment], fitted)

    for segment in order:
        priors[segment], posterior = found(segment)
        yield segment, posterior


@dataclass(slots=True)
class _Columns:
    """Counts of a segment and, at the end with zeros, the arms only its descendants know."""

    slot_of: dict[str, int]
    trials: FloatArray
    successes: FloatArray


def _complete(counts: Mapping[str, ArmCounts], order: list[str]) -> dict[str, _Columns]:
    """Give every segment a slot for each arm of its descendants; `order`: parents first."""
    # Segments often have the same arms, in the same order: then they share one mapping.
    shared: dict[tuple[str, ...], dict[str, int]] = {}
    slots: dict[str, dict[str, int]] = {}
    for segment in order:
        arms = counts[segment].arms
        known = shared.get(arms)
        if known is None:
            known = shared[arms] = {arm: i for i, arm in enumerate(arms)}
        slots[segment] = known
    for segment in reversed(order):
        above = parent(segment)
        if above is not None and slots[segment] is not slots[above]:
            known = slots[above]
            more = [arm for arm in slots[segment] if arm not in known]
            if more:
                slots[above] = known | {arm: i for i, arm in enumerate(more, len(known))}
    columns = {}
    for segment in order:
        own = counts[segment]
        trials, successes = own.trials, own.successes
        more_arms = len(slots[segment]) - len(own)
        if more_arms:
            trials, successes = np.pad(trials, (0, more_arms)), np.pad(successes, (0, more_arms))
        columns[segment] = _Columns(slots[segment], trials, successes)
    return columns


def _root_priors(own: _Columns) -> ArmPriors:
    a, b = fit_beta(own.successes, failures(own.trials, own.successes))
    ones = np.ones(len(own.slot_of))
    return ArmPriors(a * ones, b * ones)


def _mean_above(own: _Columns, above: _Columns, prior: ArmPriors) -> FloatArray:
    """Return each arm's posterior mean in the parent, without the segment's own counts."""
    where: slice | NDArray[np.intp] = slice(None)
    if own.slot_of is not above.slot_of:
        where = np.fromiter(map(above.slot_of.__getitem__, own.slot_of), np.intp, len(own.slot_of))
    trials = np.maximum(above.trials[where] - own.trials, 0.0)
    successes = np.maximum(above.successes[where] - own.successes, 0.0)
    alpha = prior.a[where] + successes
    beta = prior.b[where] + failures(trials, successes)
    mean: FloatArray = np.clip(alpha / (alpha + beta), _MEAN_EDGE, 1.0 - _MEAN_EDGE)
    return mean


def _around(mean: FloatArray, kappa: float) -> ArmPriors:
    return ArmPriors(
        np.maximum(kappa * mean, _MIN_PARAMETER), np.maximum(kappa * (1.0 - mean), _MIN_PARAMETER)
    )


def _posterior(own: ArmCounts, prior: ArmPriors) -> Posterior:
    if len(prior) > len(own):
        prior = ArmPriors(prior.a[: len(own)], prior.b[: len(own)])
    return Posterior.of(own, prior)
