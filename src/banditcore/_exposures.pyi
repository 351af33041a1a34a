from collections.abc import Iterable
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

@final
class Limits:
    def __new__(cls, caps: Iterable[tuple[int, int]], time_bits: int) -> Self: ...
    def forbidden(
        self, records: list[bytes], header: int, known: list[list[int]], latest: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]: ...
