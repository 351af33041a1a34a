from typing import Self, final

import numpy as np
from numpy.typing import NDArray

PATIENCE: int

def kernel_names() -> tuple[str, ...]: ...

@final
class Seeds:
    def next(self) -> int: ...

@final
class Tables:
    def __new__(
        cls,
        alpha: NDArray[np.float64],
        beta: NDArray[np.float64],
        weight: NDArray[np.float64] | None,
    ) -> Self: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def figures(self) -> dict[str, float]: ...
    @property
    def heads(self) -> list[tuple[float, int]]: ...
    def one(self, k: int, key: int, bans: NDArray[np.int32] | None = None) -> NDArray[np.int32]: ...
    def each(
        self, k: int, keys: NDArray[np.uint64], bans: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]: ...
    def topk(
        self,
        out: NDArray[np.int32],
        key: int,
        threads: int,
        kernel: str | None = None,
        banned: NDArray[np.uint64] | None = None,
        bans: NDArray[np.int32] | None = None,
        first_row: int = 0,
        unit: int = 0,
        patience: int = ...,
    ) -> None: ...
