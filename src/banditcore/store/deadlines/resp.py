"""The wire form of commands and replies (RESP2), read from bytes as they come."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Refusal", "Replies", "Reply", "packed"]

_MOST_BYTES = 1 << 20
_MOST_ITEMS = 64


class Refusal(Exception):  # noqa: N818  # the server's word, no failure of the conversation
    """What a server said in place of a reply. Holds the first word alone, which quotes nothing.

    Attributes
    ----------
    code : str
        Such as ``"WRONGTYPE"``; ``"NOFUNCTION"`` for a function that is not loaded.
    """

    def __init__(self, line: bytes) -> None:
        text = line.decode("ascii", "replace")
        self.code = text.partition(" ")[0][:32]
        if "function not found" in text.lower():
            self.code = "NOFUNCTION"
        super().__init__(self.code)


Reply = bytes | int | None | Refusal | list["Reply"]


def packed(words: Iterable[bytes | str | int | float]) -> bytes:
    """Return a command as it is sent."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)


class Replies:
    """Collects a number of replies.

    Parameters
    ----------
    wanted : int
        How many.

    Attributes
    ----------
    found : list
        Replies so far.
    """

    def __init__(self, wanted: int) -> None:
        self.found: list[Reply] = []
        self._wanted = wanted
        self._buffer = b""
        self._at = 0

    def feed(self, received: bytes) -> bool:
        """Take what was received; True when all replies are there.

        Raises
        ------
        ValueError
            It is no RESP2, holds more than was asked for, or is longer than any reply may be.
        """
        self._buffer = self._buffer[self._at :] + received if self._buffer else received
        self._at = 0
        while len(self.found) < self._wanted:
            self._bulks()
            if len(self.found) == self._wanted:
                break
            start = self._at
            try:
                self.found.append(self._parse())
            except IndexError:
                self._at = start
                if len(self._buffer) - start > _MOST_BYTES:
                    raise ValueError("a reply is too long") from None
                return False
        if self._at != len(self._buffer):
            raise ValueError("more replies than requests")
        return True

    def _bulks(self) -> None:
        """Take bulk strings up to whatever is not one, or not there as a whole, at less cost."""
        buffer, at, found = self._buffer, self._at, self.found
        for _ in range(self._wanted - len(found)):
            begin = buffer.find(b"\r\n", at) + 2
            if begin < 2 or not buffer.startswith(b"$", at):
                break
            end = begin + int(buffer[at + 1 : begin - 2])
            if not begin <= end <= begin + _MOST_BYTES or not buffer.startswith(b"\r\n", end):
                break
            found.append(buffer[begin:end])
            at = end + 2
        self._at = at

    def _parse(self, *, nested: bool = False) -> Reply:
        """Return the next reply; IndexError when it is not there as a whole."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._bulk(int(rest))
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"-":
            return Refusal(rest)
        if kind == b"*" and not nested and 0 <= int(rest) <= _MOST_ITEMS:
            return [self._parse(nested=True) for _ in range(int(rest))]
        raise ValueError("no reply of RESP2")

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            raise IndexError
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _bulk(self, size: int) -> bytes | None:
        if size == -1:
            return None
        if not 0 <= size <= _MOST_BYTES:
            raise ValueError("a reply is too long")
        end = self._at + size
        if len(self._buffer) < end + 2:
            raise IndexError
        bulk = self._buffer[self._at : end]
        if self._buffer[end : end + 2] != b"\r\n":
            raise ValueError("no reply of RESP2")
        self._at = end + 2
        return bulk
