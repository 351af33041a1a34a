"""The hierarchy of segment paths: parents, ancestors, descendants."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["GLOBAL", "ancestors", "is_within", "lineage", "parent", "with_ancestors"]

GLOBAL = ""
"""The segment of all users: the parent of every path of one part."""


def parent(segment: str) -> str | None:
    """Return the path without its last part; ``""`` for one part; None for ``""`` itself."""
    if segment == GLOBAL:
        return None
    return segment.rpartition("/")[0]


def lineage(segment: str) -> list[str]:
    """Return `segment`, its parent, ... down to and including the global segment."""
    path = [segment]
    while (above := parent(path[-1])) is not None:
        path.append(above)
    return path


def ancestors(segment: str) -> list[str]:
    """Return the parent of `segment`, the parent's parent, ... the global segment."""
    return lineage(segment)[1:]


def with_ancestors(segments: Iterable[str]) -> list[str]:
    """Return all of `segments` and their ancestors, once each, parents before children."""
    closed = {step for segment in segments for step in lineage(segment)}
    return sorted(closed, key=lambda segment: (_depth(segment), segment))


def is_within(segment: str, root: str) -> bool:
    """Tell whether `segment` is `root` or lies below it."""
    return root in (GLOBAL, segment) or segment.startswith(root + "/")


def _depth(segment: str) -> int:
    return 0 if segment == GLOBAL else segment.count("/") + 1
