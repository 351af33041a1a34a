import numpy as np
from numpy.typing import NDArray

BLOCK_DRAWS: int
pool: object

def _choose(name: str) -> str: ...
def kernel_name() -> str: ...
def kernel_names() -> tuple[str, ...]: ...
def lanes() -> int: ...
def philox(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]: ...
def fresh_key() -> int: ...
def fit(values: object, low: float, high: float) -> int: ...
def fill(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    out: NDArray[np.float64],
    key: int,
    threads: int,
    log_odds: bool = False,
    first_row: int = 0,
    block: int = ...,
    boosted: bool = True,
) -> None: ...
def topk(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    chosen: NDArray[np.int32] | None,
    out: NDArray[np.int32],
    key: int,
    threads: int,
    first_row: int = 0,
    block: int = ...,
    boosted: bool = True,
) -> None: ...
def plain_fill(
    alpha: object, beta: object, low: float, high: float, most: int
) -> NDArray[np.float64] | None: ...
def plain_topk(
    alpha: object, beta: object, k: object, low: float, high: float, most: int
) -> NDArray[np.int32] | None: ...
