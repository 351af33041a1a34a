"""Checks an error's class, its message, and that no password is in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from banditcore.errors import BanditCoreError

CANARY = "s3/c:r@e?t#%Canary"


@contextmanager
def refused(kind: type[BanditCoreError], match: str) -> Iterator[None]:
    """Expect exactly `kind` with one line that matches, and no password anywhere in its chain."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert_no_canary(caught.value)


def assert_no_canary(error: BaseException) -> None:
    link: BaseException | None = error
    while link is not None:
        assert "anary" not in f"{link} {link!r} {link.args}"
        link = link.__cause__ or link.__context__
    assert "anary" not in "".join(
        line for line in traceback.format_exception(error) if not line.startswith("  File")
    )
