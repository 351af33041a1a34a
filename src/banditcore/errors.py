"""Every exception that banditcore raises on purpose.

A message names the thing, its value and the remedy. Passwords never appear in one.
"""

from __future__ import annotations

__all__ = [
    "BanditCoreError",
    "BufferFullError",
    "ConfigurationConflictError",
    "CorruptDataError",
    "DownloadError",
    "ExecutorUnavailableError",
    "FencedError",
    "InvalidTypeError",
    "InvalidValueError",
    "LostWritesError",
    "NotAcknowledgedError",
    "NotReadyError",
    "NumericalError",
    "PartlyAppliedError",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnfitError",
    "describe",
]

_SHOWN = 80


class BanditCoreError(Exception):
    """Root of every exception below."""


class InvalidValueError(BanditCoreError, ValueError):
    """An argument or a line of input has a value that cannot be used. Nothing was changed."""


class InvalidTypeError(BanditCoreError, TypeError):
    """An argument has a type that cannot be used. Nothing was changed."""


class StoreError(BanditCoreError):
    """Root of what can go wrong between banditcore and its store."""


class StoreUnavailableError(StoreError):
    """The store did not answer in time, refused the connection, or went away."""


class PartlyAppliedError(StoreError):
    """The store failed while events were recorded; some segments may have been updated.

    Sending the same events again with this ``batch_id`` is safe: those applied already are
    counted as duplicates. It is None when the events carry ids of their own.
    """

    def __init__(self, message: str, *, batch_id: str | None) -> None:
        super().__init__(message)
        self.batch_id = batch_id

    def __reduce__(self) -> tuple[object, ...]:
        return _partly_applied, (str(self), self.batch_id)


def _partly_applied(message: str, batch_id: str | None) -> PartlyAppliedError:
    return PartlyAppliedError(message, batch_id=batch_id)


class FencedError(StoreError):
    """What this process owned has another owner by now, which wrote in a later epoch.

    Attributes
    ----------
    epoch : int
        The later epoch.
    """

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch

    def __reduce__(self) -> tuple[object, ...]:
        return _fenced, (str(self), self.epoch)


def _fenced(message: str, epoch: int) -> FencedError:
    return FencedError(message, epoch=epoch)


class LostWritesError(StoreError):
    """The store holds less than it did: after a failover, or from an older copy of its data."""


class BufferFullError(StoreError):
    """Events were emitted faster than the store, or those who apply them, took them.

    The first `accepted` events of the call are on their way; the others are not.
    """

    def __init__(self, message: str, *, accepted: int) -> None:
        super().__init__(message)
        self.accepted = accepted

    def __reduce__(self) -> tuple[object, ...]:
        return _buffer_full, (str(self), self.accepted)


def _buffer_full(message: str, accepted: int) -> BufferFullError:
    return BufferFullError(message, accepted=accepted)


class NotAcknowledgedError(StoreError):
    """The store has not confirmed emitted events. They may have arrived all the same.

    `waiting` of them are still being sent, unless this comes from closing; `given_up` are not.
    """

    def __init__(self, message: str, *, waiting: int, given_up: int) -> None:
        super().__init__(message)
        self.waiting = waiting
        self.given_up = given_up

    def __reduce__(self) -> tuple[object, ...]:
        return _not_acknowledged, (str(self), self.waiting, self.given_up)


def _not_acknowledged(message: str, waiting: int, given_up: int) -> NotAcknowledgedError:
    return NotAcknowledgedError(message, waiting=waiting, given_up=given_up)


class StoreUnfitError(StoreError):
    """The store answers but must not be used: too old, evicting, or closed to this user."""


class ConfigurationConflictError(StoreError, ValueError):
    """What the caller asks for contradicts what the store holds, such as another half-life."""


class CorruptDataError(StoreError, ValueError):
    """A stored value or a published blob fails its checks. It was not used."""


class ExecutorUnavailableError(BanditCoreError):
    """The workers that were to do a job cannot be reached. Nothing was changed."""


class DownloadError(BanditCoreError):
    """Data that a command needs could not be fetched, or is not what it should be."""


class NumericalError(BanditCoreError, ArithmeticError):
    """A computation did not reach its accuracy; no number is better than a wrong one."""


class NotReadyError(BanditCoreError):
    """Something was asked for before it was loaded."""


def describe(name: str, value: object, remedy: str) -> str:
    """One line that names a thing, its value (shortened) and what to do about it.

    Parameters
    ----------
    name : str
        The argument, column or file the message is about.
    value : object
        What was given; shown by ``repr``, cut to 80 characters.
    remedy : str
        What would be accepted instead.
    """
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 # of a foreign type, or of an int of over 4,300 digits
        shown = f"<{type(value).__name__} that cannot be shown>"
    if len(shown) > _SHOWN:
        shown = shown[: _SHOWN - 3] + "..."
    return f"{name} is {shown}: {remedy}"
