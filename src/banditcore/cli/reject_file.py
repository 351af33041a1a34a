"""The file that keeps the lines of a log which could not be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from banditcore.errors import InvalidValueError, describe
from banditcore.logs import Reject

__all__ = ["RejectFile"]


class RejectFile:
    """Appends refused lines as JSON lines; the file is made when the first one comes.

    Its name ends in no log's suffix, so that ``ingest day*.jsonl`` does not take it for one.
    """

    def __init__(self, log: Path, chosen: Path | None) -> None:
        self.path: Path | None = None
        self.first: Reject | None = None
        self._log = log
        self._chosen = chosen
        self._file: TextIO | None = None

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with self._named():
                self._file.close()

    def write(self, reject: Reject) -> None:
        """Append one line."""
        if self._file is None:
            self.path = self._chosen or self._default()
            if self.path.exists() and self.path.samefile(self._log):
                raise InvalidValueError(
                    describe("--reject", str(self.path), "the log itself, which would never end")
                )
            # A line at a time: each must be kept before the batch it stands in is applied.
            self._file = self.path.open("a", buffering=1, encoding="utf-8")
            self.first = reject
        with self._named():
            self._file.write(json.dumps({"log": str(self._log), **asdict(reject)}) + "\n")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let errors of the file, a full disk say, name it."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            raise

    def _default(self) -> Path:
        name = self._log.name + ".rejects"
        beside = self._log.with_name(name)
        writable = os.access(beside if beside.exists() else beside.parent, os.W_OK)
        return beside if writable else Path(name)
