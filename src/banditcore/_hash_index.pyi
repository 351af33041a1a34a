from collections.abc import Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

@final
class IdHashes:
    def __new__(cls, digest_bytes: int, person: bytes) -> Self: ...
    def of_packed(self, ends: NDArray[np.uint32], text: bytes) -> NDArray[np.uint64]: ...
    def of_strings(self, ids: Sequence[str]) -> NDArray[np.uint64]: ...

@final
class HashIndex:
    @property
    def nbytes(self) -> int: ...
    def __new__(cls, hashes: NDArray[np.uint64]) -> Self: ...
    def find_rows(
        self, starts: NDArray[np.int64], hashes: NDArray[np.uint64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
