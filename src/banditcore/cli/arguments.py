"""Parses values of command line options."""

from __future__ import annotations

import argparse
import datetime as dt
import re
from typing import Literal

from banditcore.cli.wording import refused
from banditcore.errors import BanditCoreError
from banditcore.posterior import Prior

__all__ = ["add_bandit", "bandit_of", "duration", "numbers", "positive", "prior"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(text: str) -> dt.timedelta:
    """Parse a duration > 0, such as ``7d``, ``12h``, ``90min``, ``30s`` or ``2w``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: 30s, 90min, 12h, 7d or 2w")
    try:
        parsed = dt.timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is too long a duration") from None
    if parsed <= dt.timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: more than 0 is needed")
    return parsed


def positive(text: str) -> int:
    """Parse a whole number >= 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number >= 1")
    return number


def numbers(text: str) -> list[int]:
    """Parse whole numbers >= 0 between commas, such as ``0,1``."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers, such as 0,1")
    return [int(part) for part in parts]


def prior(text: str) -> Prior | Literal["empirical"]:
    """Parse ``empirical``, or the two parameters of a Beta distribution, such as ``1,30``."""
    if text == "empirical":
        return "empirical"
    try:
        return Prior.parse(text)
    except BanditCoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_bandit(parser: argparse.ArgumentParser, help: str) -> None:  # noqa: A002 # argparse's word
    """Let a command take its bandit by position, or by ``--bandit`` as the others do."""
    parser.add_argument("bandit", nargs="?", metavar="BANDIT", help=help)
    parser.add_argument(
        "--bandit", dest="named", metavar="NAME", help="which bandit; BANDIT without an option"
    )


def bandit_of(arguments: argparse.Namespace, hint: str = "") -> str | None:
    """Return the bandit that a command was given in either way, if any.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of a command with `add_bandit`.
    hint : str
        Ends the error.

    Raises
    ------
    InvalidValueError
        It was given in both, by different names.
    """
    placed: str | None = arguments.bandit
    named: str | None = arguments.named
    if placed is not None and named is not None and placed != named:
        raise refused("--bandit", named, f"BANDIT is {placed!r}: give one of them{hint}")
    return named if placed is None else placed
