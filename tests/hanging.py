"""Servers that hang, and stores that are impatient with them for no longer than that."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from banditcore.store.connect import Store

PATIENT_S = 60.0
"""For stores: what must succeed may take long on a busy machine."""

_HASTY_S = 0.2


@contextmanager
def hanging(process: subprocess.Popen[bytes], store: Store) -> Iterator[None]:
    """Let a server hang; meanwhile `store` gives up soon what it begins to wait for.

    A short timeout would be one for all that the store is asked before and afterwards, too.
    """
    before = _timeout(store)
    process.send_signal(signal.SIGSTOP)
    _allow(store, _HASTY_S)
    try:
        yield
    finally:
        _allow(store, before)
        process.send_signal(signal.SIGCONT)


def _timeout(store: Store) -> float:
    [client] = store.servers().values()
    found: float = client.connection_pool.connection_kwargs["socket_timeout"]
    return found


def _allow(store: Store, timeout_s: float) -> None:
    [client] = store.servers().values()
    pool = client.connection_pool
    pool.connection_kwargs |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_s)
    for connection in [*pool._available_connections, *pool._in_use_connections]:
        connection.socket_timeout = connection.socket_connect_timeout = timeout_s
        if connection._sock is not None:
            connection._sock.settimeout(timeout_s)
