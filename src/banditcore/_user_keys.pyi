from typing import Self, final

import numpy as np
from numpy.typing import NDArray

@final
class UserKeys:
    def __new__(cls, salt: bytes) -> Self: ...
    def key(self, user: str, bucket: int) -> int: ...
    def keys(self, users: list[str | None], bucket: int) -> NDArray[np.uint64]: ...
