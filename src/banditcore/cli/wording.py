"""Words of the command line: counted things, and what is wrong with an option."""

from __future__ import annotations

import datetime as dt

from banditcore.cli.output import span
from banditcore.errors import InvalidValueError, describe

__all__ = ["counted", "refused"]


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return a number and what it counts: ``1 segment``, ``1,024 segments``.

    Parameters
    ----------
    number : int
        How many.
    one : str
        What one of them is called.
    more : str, optional
        What any other number is called; `one` and an s by default.
    """
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def refused(option: str, given: object, remedy: str) -> InvalidValueError:
    """Return an error about an option, in words of the command line instead of Python's.

    Parameters
    ----------
    option : str
        As it is written there, such as ``--bandit``, or ``FILE`` for what stands by itself.
    given : object
        Its value; None or False: it is missing; True: an option without a value is given.
    remedy : str
        What to do.
    """
    if given is None or given is False:
        return InvalidValueError(f"{option} is missing: {remedy}")
    if given is True:
        return InvalidValueError(f"{option} is given: {remedy}")
    if isinstance(given, dt.timedelta):
        given = span(given.total_seconds()).text
    elif isinstance(given, list):
        given = ", ".join(map(str, given))
    elif not isinstance(given, int):
        given = str(given)
    return InvalidValueError(describe(option, given, remedy))
