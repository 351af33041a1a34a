"""Beta priors and posteriors of arms, alone or borrowing strength along the segment tree.

An arm's posterior is Beta(a + successes, b + max(trials - successes, 0)); its prior is the same
for every arm (`Prior`), or its own (`ArmPriors`). `posteriors` does a whole tree at once.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banditcore.counts import ArmCounts
from banditcore.empirical_bayes import fit_beta, fit_strength
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.logit_beta import LogitBeta
from banditcore.segments import parent, with_ancestors

__all__ = ["ArmPriors", "Posterior", "Prior", "each_posterior", "posteriors"]

FloatArray = NDArray[np.float64]

# Below it a Beta is two atoms at 0 and 1 for every purpose, and numerics lose their footing.
_MIN_PARAMETER = 1e-3
_MEAN_EDGE = 1e-9  # a prior mean keeps this distance from 0 and 1


@dataclass(frozen=True, slots=True)
class Prior:
    """Beta(a, b): what is believed of every arm before its first event.

    Parameters
    ----------
    a, b : float
        > 0 and finite. They weigh like a successes and b failures: `Prior(1, 30)` expects a rate
        near 1 in 31 and gives way after some thirty trials.
    """

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            value = _real(f"prior {name}", getattr(self, name))
            if not (math.isfinite(value) and value > 0):
                raise InvalidValueError(describe(f"prior {name}", value, "finite and above 0"))
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str) -> Prior:
        """Return the prior written as ``"a,b"``, such as ``"1,30"``."""
        if not isinstance(text, str):
            raise InvalidTypeError(describe("prior", text, 'two numbers in a string: "1,30"'))
        try:
            a, b = (float(part) for part in text.split(","))
        except ValueError as error:
            raise InvalidValueError(
                describe("prior", text, 'two numbers above 0 joined by a comma, such as "1,30"')
            ) from error
        return cls(a, b)

    def __str__(self) -> str:
        return f"{self.a:g},{self.b:g}"

    @property
    def mean(self) -> float:
        """The expected rate, a / (a + b)."""
        return self.a / (self.a + self.b)


@dataclass(frozen=True, slots=True, eq=False)
class ArmPriors:
    """One Beta(a, b) an arm.

    Parameters
    ----------
    a, b : (n,) float64
        > 0 and finite; in the order of the counts they are used with. Copied.
    """

    a: FloatArray
    b: FloatArray

    def __post_init__(self) -> None:
        a, b = (np.array(given, dtype=np.float64) for given in (self.a, self.b))
        if a.ndim != 1 or a.shape != b.shape:
            raise InvalidValueError(
                describe("the shapes of a and b", (a.shape, b.shape), "one pair an arm, (n,) each")
            )
        for name, column in (("a", a), ("b", b)):
            bad = ~(np.isfinite(column) & (column > 0))
            if bad.any():
                at = int(bad.argmax())
                raise InvalidValueError(
                    describe(f"prior {name}[{at}]", float(column[at]), "finite and above 0")
                )
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is believed of the rates of a segment's arms: independent Beta distributions.

    Attributes
    ----------
    arms : tuple of str
        (n,) arm ids.
    alpha, beta : (n,) float64
        > 0 and finite; read-only. Copied on construction.
    clipped : int
        How many arms had more successes than trials, so that their failures count as 0.
    """

    arms: tuple[str, ...]
    alpha: FloatArray
    beta: FloatArray
    clipped: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", tuple(self.arms))
        for name in ("alpha", "beta"):
            column = np.array(getattr(self, name), dtype=np.float64)
            if column.shape != (len(self.arms),):
                raise InvalidValueError(
                    describe(
                        f"the shape of {name}", column.shape, f"one an arm, ({len(self.arms)},)"
                    )
                )
            bad = ~(np.isfinite(column) & (column > 0))
            if bad.any():
                at = int(bad.argmax())
                raise InvalidValueError(
                    describe(f"{name}[{at}]", float(column[at]), "finite and above 0")
                )
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    @classmethod
    def of(cls, counts: ArmCounts, prior: Prior | ArmPriors) -> Posterior:
        """Return Beta(a + successes, b + max(trials - successes, 0)) for each arm of `counts`.

        Parameters
        ----------
        counts : ArmCounts
            (n,) arms.
        prior : Prior or ArmPriors
            The same for all arms, or n of them in the order of `counts`.
        """
        if isinstance(prior, ArmPriors):
            if len(prior) != len(counts):
                raise InvalidValueError(
                    describe("the number of priors", len(prior), f"one an arm, {len(counts)}")
                )
        elif not isinstance(prior, Prior):
            raise InvalidTypeError(describe("prior", prior, "a Prior, or ArmPriors"))
        return cls(
            counts.arms,
            prior.a + counts.successes,
            prior.b + _failures(counts.trials, counts.successes),
            int((counts.successes > counts.trials).sum()),
        )

    def __len__(self) -> int:
        return len(self.arms)

    @property
    def mean(self) -> FloatArray:
        """(n,) expected rates, alpha / (alpha + beta)."""
        mean: FloatArray = self.alpha / (self.alpha + self.beta)
        return mean

    def interval(self, level: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Return the equal-tailed credible interval of each rate.

        Parameters
        ----------
        level : float
            Probability that a rate lies within, in (0, 1).

        Returns
        -------
        low, high : (n,) float64
            Quantiles (1 - level) / 2 and (1 + level) / 2, in [0, 1]; for alpha and beta in
            1e-3..1e12 their probabilities are right to
            1e-9. A bound below the smallest float is 0.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `level` is not such a number, or a parameter lies outside 1e-10..1e18.
        """
        level = _real("level", level)
        if not 0 < level < 1:
            raise InvalidValueError(describe("level", level, "between 0 and 1, such as 0.9"))
        # Not scipy's inverse: for a = 1e3 and b = 1e10 it is off by a factor of 2.
        tail = (1.0 - level) / 2.0
        low = special.expit(LogitBeta(self.alpha, self.beta).quantile(tail))
        high = special.expit(-LogitBeta(self.beta, self.alpha).quantile(tail))
        return low, high


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
    for segment in order:
        own, above = columns[segment], parent(segment)
        if above is None:
            priors[segment] = _root_priors(own)
            yield segment, _posterior(counts[segment], priors[segment])
            continue
        mean = _mean_above(own, columns[above], priors[above])
        if segment in kappas:
            priors[segment] = _around(mean, kappas[segment])
            posterior = _posterior(counts[segment], priors[segment])
            if keeps(segment, posterior):
                yield segment, posterior
                continue
        kappas[segment] = fit_strength(own.successes, _failures(own.trials, own.successes), mean)
        priors[segment] = _around(mean, kappas[segment])
        yield segment, _posterior(counts[segment], priors[segment])


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
    for own in counts.values():
        if own.arms not in shared:
            shared[own.arms] = {arm: i for i, arm in enumerate(own.arms)}
    slots = {segment: shared[counts[segment].arms] for segment in order}
    for segment in reversed(order):
        above = parent(segment)
        if above is not None and slots[segment] is not slots[above]:
            known = slots[above]
            more = [arm for arm in slots[segment] if arm not in known]
            if more:
                slots[above] = known | {arm: i for i, arm in enumerate(more, len(known))}
    columns = {}
    for segment in order:
        more_arms = len(slots[segment]) - len(counts[segment])
        columns[segment] = _Columns(
            slots[segment],
            np.pad(counts[segment].trials, (0, more_arms)),
            np.pad(counts[segment].successes, (0, more_arms)),
        )
    return columns


def _root_priors(own: _Columns) -> ArmPriors:
    a, b = fit_beta(own.successes, _failures(own.trials, own.successes))
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
    beta = prior.b[where] + _failures(trials, successes)
    mean: FloatArray = np.clip(alpha / (alpha + beta), _MEAN_EDGE, 1.0 - _MEAN_EDGE)
    return mean


def _around(mean: FloatArray, kappa: float) -> ArmPriors:
    return ArmPriors(
        np.maximum(kappa * mean, _MIN_PARAMETER), np.maximum(kappa * (1.0 - mean), _MIN_PARAMETER)
    )


def _posterior(own: ArmCounts, prior: ArmPriors) -> Posterior:
    return Posterior.of(own, ArmPriors(prior.a[: len(own)], prior.b[: len(own)]))


def _real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidTypeError(describe(name, value, "a real number"))
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf


def _failures(trials: FloatArray, successes: FloatArray) -> FloatArray:
    failures: FloatArray = np.maximum(trials - successes, 0.0)
    return failures
