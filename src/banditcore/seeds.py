"""What a seed may be, and the key of random streams that it stands for."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from banditcore.arrays import count
from banditcore.errors import InvalidTypeError, describe

__all__ = ["Seed", "key_of"]

Seed: TypeAlias = int | np.random.SeedSequence | np.random.Generator | None


def key_of(seed: object) -> int:
    """Return the 64 bits that key every stream of one call.

    Parameters
    ----------
    seed : int, numpy.random.SeedSequence or numpy.random.Generator
        An int is >= 0, of any length, and means ``SeedSequence(seed)``. A Generator gives the next
        64 bits of its stream.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        For all else.
    """
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(0, 2**64, dtype=np.uint64))
    if not isinstance(seed, np.random.SeedSequence):
        try:
            seed = np.random.SeedSequence(count("seed", seed, 0))
        except InvalidTypeError as error:
            raise InvalidTypeError(
                describe("seed", seed, "an int >= 0, a SeedSequence, a Generator or None")
            ) from error
    return int(seed.generate_state(1, np.uint64)[0])
