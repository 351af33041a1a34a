"""The texts of the server-side libraries, and the names that they are loaded under.

A library's name carries a digest of its text, prelude included. Loading never replaces anything, so
clients of different releases can work on one server, each with the functions it was built with.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files

__all__ = ["library_name", "library_source"]

_PRELUDE = "-- @PRELUDE@\n"


@cache
def library_name(file: str) -> str:
    """Return the name of this release's library on the server."""
    return "banditcore_" + sha256(_template(file).encode()).hexdigest()[:12]


def library_source(file: str) -> str:
    """Return the text of the library as it is loaded."""
    return _template(file).replace("@LIBRARY@", library_name(file))


@cache
def _template(file: str) -> str:
    text = files("banditcore.store.functions").joinpath(file).read_text("utf-8")
    if _PRELUDE in text:
        text = text.replace(_PRELUDE, _template("prelude.lua"))
    return text
