import numpy as np
from numpy.typing import NDArray

def kernel_names() -> tuple[str, ...]: ...
def rise_sums(
    share: NDArray[np.float64],
    count: NDArray[np.float64],
    weight: NDArray[np.float64],
    scale: float,
    kernel: int = 0,
) -> tuple[float, float, float]: ...
def log_rise_sum(
    share: NDArray[np.float64],
    count: NDArray[np.float64],
    weight: NDArray[np.float64],
    scale: float,
) -> float: ...
