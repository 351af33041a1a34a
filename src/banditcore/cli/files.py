"""Errors of the file that a command reads or writes, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from banditcore.errors import BanditCoreError, InvalidValueError, describe

__all__ = ["named_file"]

_UNUSABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


@contextmanager
def named_file(path: Path, done: Literal["read", "written"]) -> Iterator[None]:
    """Let errors of the operating system name the file, and what could not be done with it.

    Raises
    ------
    InvalidValueError
        There is no such file, or it may not be used.
    BanditCoreError
        It failed, as a full disk does.
    """
    try:
        yield
    except OSError as error:
        what = describe("FILE", str(path), f"it cannot be {done}: {error.strerror or error}")
        kind = InvalidValueError if isinstance(error, _UNUSABLE) else BanditCoreError
        raise kind(what) from error
