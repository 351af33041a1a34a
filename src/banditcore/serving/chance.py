"""Random keys for requests without a user."""

from __future__ import annotations

import os
from random import Random

__all__ = ["random_key"]

# An instance of our own: a service that seeds the global one in every worker would otherwise
# serve the same slates from all of them. getrandbits() is one C call, so threads share it safely.
_RANDOM = Random()  # noqa: S311  # chooses a slate, guards no secret

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.seed)


def random_key() -> int:
    """Return 64 random bits."""
    return _RANDOM.getrandbits(64)
