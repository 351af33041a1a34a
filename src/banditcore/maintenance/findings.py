"""What a check of a store finds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth a note.

    Attributes
    ----------
    bandit : str or None
        Whose it is; None for a key of nobody.
    segment : str or None
        In which segment; None for what exists once a bandit, or once a store.
    where : str
        The key or the field.
    what : str
        What is wrong there.
    remedy : str
        What to do about it.
    is_note : bool
        True for what is unusual and harmless; a store with nothing but notes is clean.
    """

    bandit: str | None
    segment: str | None
    where: str
    what: str
    remedy: str
    is_note: bool = False
