"""Calls of server-side functions; a server that lacks their library is given it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import RedisError, ResponseError

from banditcore.errors import StoreUnavailableError
from banditcore.store.functions.texts import library_name, library_source
from banditcore.store.servers.translation import translated, translating
from banditcore.store.servers.transport import Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Call", "Reply", "attempt", "load", "run"]

Reply = list[bytes]

_RELOADS = 5
"""Times that a call loads the library when others flush it all the time."""


class Call(NamedTuple):
    """One call of a server-side function, not yet sent."""

    function: str
    keys: tuple[str, ...]
    arguments: tuple[bytes | str | int, ...]
    file: str  # of the library that holds the function
    writes: bool = True

    def command(self) -> tuple[bytes | str | int, ...]:
        """Return the words of the command."""
        verb = "FCALL" if self.writes else "FCALL_RO"
        function = f"{library_name(self.file)}_{self.function}"
        return (verb, function, len(self.keys), *self.keys, *self.arguments)


def run(store: Store, calls: Sequence[Call]) -> list[Reply]:
    """Send calls in one round trip to each server and return their replies in order.

    A server without the library (new, or flushed) is given it, and the calls it refused are sent
    again: a refused call has changed nothing.

    Raises
    ------
    StoreError
        For the first call that failed. The others have run, or, where a server is out of reach,
        may or may not have run.
    """
    replies: list[Reply] = []
    for answer in attempt(store, calls):
        if isinstance(answer, Failure):
            raise translated(answer.error, store, answer.node) from answer.error
        replies.append(answer)
    return replies


def attempt(store: Store, calls: Sequence[Call]) -> list[Reply | Failure]:
    """Send calls as `run` does; return for each its reply or what kept it from having one."""
    commands = [Command(call.keys[0], call.command()) for call in calls]
    answers: list[Reply | Failure] = store.send(commands)
    for _ in range(_RELOADS):
        missing = {
            i: answer.node
            for i, answer in enumerate(answers)
            if isinstance(answer, Failure) and _is_function_missing(answer.error)
        }
        if not missing:
            break
        wanted = {(node, calls[i].file) for i, node in missing.items()}
        lost = {place: error for place in sorted(wanted) if (error := _try_to_load(store, *place))}
        again = []
        for i, node in missing.items():
            error = lost.get((node, calls[i].file))
            if error is None:
                again.append(i)
            else:
                answers[i] = Failure(error, node)
        for i, answer in zip(again, store.send([commands[i] for i in again]), strict=True):
            answers[i] = answer
    return answers


def load(store: Store, file: str) -> None:
    """Give every server a library before it is called; who has it keeps it.

    Raises
    ------
    StoreError
        A server cannot be reached, or does not permit it.
    """
    for node in store.servers():
        _load(store, node, file)


def _is_function_missing(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "function not found" in str(error).lower()


def _try_to_load(store: Store, node: str, file: str) -> RedisError | None:
    """Give a server a library; return why it could not be reached, if so.

    That concerns no other server: what those have answered must not be lost.
    """
    try:
        _load(store, node, file)
    except StoreUnavailableError as error:
        if not isinstance(error.__cause__, RedisError):
            raise
        return error.__cause__
    return None


def _load(store: Store, node: str, file: str) -> None:
    with translating(store, node):
        try:
            store.server(node).execute_command("FUNCTION", "LOAD", library_source(file))
        except ResponseError as error:
            # Another client was faster. The name is a digest of the text: it is the same library.
            if "already exists" not in str(error):
                raise
