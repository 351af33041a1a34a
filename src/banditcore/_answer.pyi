from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Answer:
    @property
    def arms(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> str: ...
    @property
    def version(self) -> int | None: ...
    @property
    def age(self) -> float | None: ...
    @property
    def degraded(self) -> tuple[str, ...]: ...
    @property
    def _made(self) -> Any: ...
    def __new__(
        cls,
        arms: tuple[str, ...],
        source: str,
        version: int | None,
        age: float | None,
        degraded: tuple[str, ...],
        made: Any,
    ) -> Self: ...
