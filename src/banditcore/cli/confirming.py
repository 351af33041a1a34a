"""Asks before something is removed."""

from __future__ import annotations

import sys

from banditcore.cli.output import Output
from banditcore.cli.wording import refused

__all__ = ["confirmed"]


def confirmed(question: str, output: Output, *, is_given: bool) -> bool:
    """Tell whether the user wants it.

    Parameters
    ----------
    question : str
        What to ask on a terminal.
    is_given : bool
        Whether the command line says so already (``--yes``).

    Raises
    ------
    InvalidValueError
        Nobody is there to be asked.
    """
    if is_given:
        return True
    if not sys.stdin.isatty():
        raise refused("--yes", is_given, "without a terminal nobody can be asked: give it")
    output.warn(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
