"""Validates the names of bandits, arms and segments."""

from __future__ import annotations

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = ["MAX_ID_BYTES", "check_arm", "check_bandit", "check_id", "check_segment"]

MAX_ID_BYTES = 256
"""The longest id of an arm, bandit or whole segment path, in UTF-8 bytes."""


def check_id(name: str, value: object) -> str:
    """Return `value` if it is a string of 1..256 UTF-8 bytes, else raise.

    Any character is allowed, control characters and braces included: keys in the store are
    digests, so no id can reach another one's keys.
    """
    if not isinstance(value, str):
        raise InvalidTypeError(describe(name, value, "an id must be a str"))
    # Most ids are short; 4 bytes a character is the most that UTF-8 takes.
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            describe(name, value, "an id must be text that UTF-8 can encode (lone surrogate)")
        ) from error
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidValueError(
            describe(name, value, f"an id has 1 to {MAX_ID_BYTES} UTF-8 bytes, this has {size}")
        )
    return value


def check_arm(value: object) -> str:
    """Return `value` if it is a valid arm id, else raise."""
    return check_id("arm", value)


def check_bandit(value: object) -> str:
    """Return `value` if it is a valid bandit name, else raise."""
    return check_id("bandit", value)


def check_segment(value: object) -> str:
    """Return `value` if it is a segment path: ``""`` (global) or non-empty parts joined by "/"."""
    if isinstance(value, str) and value == "":
        return value
    path = check_id("segment", value)
    if "" in path.split("/"):
        raise InvalidValueError(
            describe("segment", path, 'a path has no empty part: write "IN/mobile", or "" for all')
        )
    return path
