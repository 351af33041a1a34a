"""Beta priors and posteriors of arms.

An arm's posterior is Beta(a + successes, b + max(trials - successes, 0)); its prior is the same
for every arm (`Prior`), or its own (`ArmPriors`).
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banditcore.counts import ArmCounts
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.logit_beta import LogitBeta

__all__ = ["ArmPriors", "Posterior", "Prior", "failures"]

FloatArray = NDArray[np.float64]


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
            prior.b + failures(counts.trials, counts.successes),
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


def _real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidTypeError(describe(name, value, "a real number"))
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf


def failures(trials: FloatArray, successes: FloatArray) -> FloatArray:
    """Return max(trials - successes, 0): late rewards may come before their exposures."""
    lost: FloatArray = np.maximum(trials - successes, 0.0)
    return lost
