"""What a refresh did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RefreshReport"]


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh did; every segment it was to do stands in exactly one of the four.

    Attributes
    ----------
    published : tuple of str
        Segments whose new snapshot is in place.
    failed : dict of str to str
        Segment -> reason. Their last snapshot, if any, stays in place.
    superseded : tuple of str
        Segments for which another refresh had published newer counts.
    seconds : float
        How long it took.
    unchanged : tuple of str
        Segments whose snapshot of before got the new version: their counts are the same, and to
        draw again would not show. Only a `Refresher` has any.
    """

    published: tuple[str, ...]
    failed: dict[str, str]
    superseded: tuple[str, ...]
    seconds: float
    unchanged: tuple[str, ...] = ()
