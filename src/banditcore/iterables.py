"""Reads the lists that callers give, which may be any iterable or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from banditcore.errors import InvalidTypeError, describe

__all__ = ["items"]

_Item = TypeVar("_Item")


def items(name: str, given: Iterable[_Item], what: str) -> list[_Item]:
    """Return what an iterable yields.

    Parameters
    ----------
    name : str
        What errors call it.
    given : iterable
        Read once.
    what : str
        What it should hold, in the plural.

    Raises
    ------
    InvalidTypeError
        It is a string, or no iterable, or reading it has failed.
    """
    remedy = f"an iterable of {what}, not one of them"
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidTypeError(describe(name, given, remedy))
    try:
        return list(given)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign type may raise
        raise InvalidTypeError(
            describe(name, given, f"an iterable of {what} that can be read")
        ) from error
