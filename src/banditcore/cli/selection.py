"""Compares what the command line names with what the store has."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from banditcore.cli.output import span
from banditcore.errors import ConfigurationConflictError, InvalidValueError, describe
from banditcore.identifiers import check_bandit, check_segment
from banditcore.segments import with_ancestors
from banditcore.store.counts import index

if TYPE_CHECKING:
    from banditcore.bandit import Bandit
    from banditcore.store.connect import Store

__all__ = ["check_half_life", "existing_bandit", "existing_segment", "shown"]

_NAMED = 10


def existing_bandit(store: Store, name: str) -> str:
    """Return `name` if the store has such a bandit: a misspelt one must not come to be.

    Raises
    ------
    InvalidValueError
        If it has not.
    """
    check_bandit(name)
    known = index.bandits(store)
    if name not in known:
        remedy = f"the store has {shown(known) or 'none yet: record events first'}"
        raise InvalidValueError(describe("bandit", name, remedy))
    return name


def shown(names: Sequence[str]) -> str:
    """Return some names in words, fit for a terminal; empty for none."""
    return ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")


def existing_segment(bandit: Bandit, path: str) -> str:
    """Return `path` if something was recorded there or below.

    Raises
    ------
    InvalidValueError
        If nothing was.
    """
    check_segment(path)
    known = with_ancestors(bandit.segments())
    if path not in known:
        close = ", ".join(map(repr, difflib.get_close_matches(path, known, n=3)))
        raise InvalidValueError(
            describe(
                "segment",
                path,
                f"nothing was recorded there or below; {f'close to it: {close}' if close else ''}"
                f"{'; ' if close else ''}`banditcore inspect {bandit.name}` lists all",
            )
        )
    return path


def check_half_life(bandit: Bandit, wanted: dt.timedelta | None) -> None:
    """Raise if the bandit is kept otherwise, even when there is nothing new to count."""
    kept = bandit.half_life  # `wanted` itself, if the bandit is new
    if wanted is not None and wanted != kept:
        known = "no half-life" if kept is None else f"one of {span(kept.total_seconds()).text}"
        given = span(wanted.total_seconds()).text
        raise ConfigurationConflictError(
            describe("--half-life", given, f"the bandit is kept with {known}: leave it out")
        )
