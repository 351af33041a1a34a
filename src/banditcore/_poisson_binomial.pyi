import numpy as np
from numpy.typing import NDArray

def ranks_among_others(
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    copies: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
