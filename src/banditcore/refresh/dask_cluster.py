"""Refreshes on the workers of a dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager

from banditcore.errors import (
    ExecutorUnavailableError,
    InvalidTypeError,
    InvalidValueError,
    describe,
)

__all__ = ["on_dask"]


def on_dask(
    address: str, *, timeout_s: float = 10.0
) -> Callable[[], AbstractContextManager[Executor]]:
    """Return what `refresh` and `Refresher` take as executor to work on a cluster.

    Each refresh connects anew, so that a process of weeks survives another scheduler. Workers need
    banditcore, and reach the store by its url, which is sent to them with their work; it stands in
    no key, log or repr.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.
    timeout_s : float
        Seconds for connecting.

    Returns
    -------
    callable
        Returns a context manager of an executor. Raises ExecutorUnavailableError when no scheduler
        answers.

    Raises
    ------
    InvalidValueError
        dask.distributed is not installed.
    """
    if not isinstance(address, str):
        raise InvalidTypeError(describe("address", address, "a str such as tcp://10.0.0.1:8786"))
    try:
        from distributed import Client  # noqa: PLC0415  # it takes a second to import
    except ImportError as error:
        raise InvalidValueError(
            "a dask cluster needs the library distributed: pip install 'banditcore[distributed]'"
        ) from error

    @contextmanager
    def executor() -> Iterator[Executor]:
        try:
            client = Client(address, timeout=timeout_s, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ExecutorUnavailableError(
                describe("dask scheduler", address, f"it does not answer: {error}")
            ) from error
        with client, client.get_executor() as made:
            yield made

    return executor
