"""The command line: ``banditcore``, or ``python -m banditcore``."""

from __future__ import annotations

from banditcore.cli.app import main

__all__ = ["main"]
