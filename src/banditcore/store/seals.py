"""Tells a stored value from a damaged one, as library.lua and its like do."""

from __future__ import annotations

from hashlib import sha1

from banditcore.errors import CorruptDataError, describe

__all__ = ["DIGITS", "digits_of", "seal", "unseal"]

DIGITS = 8
"""Hex digits of a seal: 32 bits of SHA-1, the only digest that server-side functions have."""


def seal(value: bytes) -> bytes:
    """Return the stored form of a value."""
    return value + digits_of(sha1(value, usedforsecurity=False).hexdigest())


def digits_of(digest: str) -> bytes:
    """Return what a seal has of a SHA-1 in hex."""
    return digest[:DIGITS].encode("ascii")


def unseal(raw: bytes, name: str, what: str) -> bytes:
    """Read a value back.

    Parameters
    ----------
    raw : bytes
        The stored form.
    name, what : str
        For the message: what is damaged, and whose it is or what to do.

    Raises
    ------
    CorruptDataError
        Bits of it have changed, or it was cut.
    """
    value = raw[:-DIGITS]
    if seal(value) != raw:
        raise CorruptDataError(describe(name, raw, what))
    return value
