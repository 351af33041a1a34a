"""Finds what the command line names in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banditcore.errors import InvalidValueError, describe
from banditcore.identifiers import check_bandit
from banditcore.store import index

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["existing_bandit"]

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
        shown = ", ".join(map(repr, known[:_NAMED])) + (", ..." if len(known) > _NAMED else "")
        raise InvalidValueError(
            describe("bandit", name, f"the store has {shown or 'none yet: ingest a log first'}")
        )
    return name
