"""The last good snapshots of a bandit on disk, one file a segment, each a blob as published."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path

from banditcore.errors import CorruptDataError, describe
from banditcore.slate_format import HEADER_BYTES, decode_header

__all__ = ["Backup"]

_LOG = logging.getLogger("banditcore.serving")

_MOST_FILES = 200_000
_MOST_BYTES = 8 * 2**30
_ORPHANED_S = 7 * 86_400.0  # nobody renewed it for so long
_ABANDONED_S = 3_600.0  # what is half written after so long has no writer
_COUNT_EVERY_S = 3_600.0
_US_PER_S = 1e6
_ENDING = ".slates"
_FILE = re.compile(r"[0-9a-f]{32}\.slates")
_PART = re.compile(r"[0-9a-f]{32}\.slates\.[0-9a-f]{16}\.part")
# A name that leads elsewhere, or a pipe that nobody writes to, must neither be followed nor wait.
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


# After these the disk will not be kinder to the thousand segments that follow.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class Backup:
    """Files of one bandit. Several processes may share the directory; use it from one thread.

    A file appears under its name when it is whole, so that a process that is killed leaves the one
    before. Nothing waits for the disk: after a power cut a file may be torn, which its checksum
    tells. What cannot be written is said once, in the log and in `error`, and tried again with the
    segment's next version.

    Parameters
    ----------
    directory : Path
        Made, for its owner alone, when the first file is written. Whoever may write there decides
        what is recommended while the store is away.
    bandit : str
        Its name. Names of bandits and segments become digests: they reach no other file.
    renew_after_s : float
        A file that is younger than this, by its version, is left alone: it spares the disk.

    Attributes
    ----------
    error : str or None
        Why files could not be written lately.
    """

    def __init__(self, directory: Path, bandit: str, *, renew_after_s: float) -> None:
        self.directory = directory / _digest(b"bandit", bandit)
        self.error: str | None = None
        self._bandit = bandit
        self._renew_after_us = int(renew_after_s * _US_PER_S)
        self._versions: dict[str, int] = {}  # segment -> what its file has, as far as it is known
        self._failed: str | None = None  # since `begin`
        self._is_hopeless = False
        self._counted_at: float | None = None
        self._files = self._bytes = 0

    # Writing.

    def begin(self) -> None:
        """Try again what failed before."""
        self._failed = None
        self._is_hopeless = False

    def save(self, segment: str, blob: bytes, version: int) -> None:
        """Keep a blob that was checked."""
        if self._is_hopeless or self._is_young(segment, version):
            return
        path = self._path(segment)
        try:
            self._make_room(path, len(blob))
            _replace(path, blob)
        except OSError as error:
            self._fail(error)
            return
        self._versions[segment] = version

    def end(self) -> None:
        """Say how writing went, if that has changed."""
        before, self.error = self.error, self._failed
        if self.error is not None and before is None:
            _LOG.warning(
                "bandit %r: the backup of its snapshots is not written: %s",
                self._bandit,
                self.error,
            )
        elif self.error is None and before is not None:
            _LOG.info("bandit %r: the backup of its snapshots is written again", self._bandit)

    def remove(self, segment: str) -> None:
        """Drop a segment that is not published any more."""
        self._versions.pop(segment, None)
        try:
            self._path(segment).unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def prune(self, keep: Collection[str]) -> None:
        """Drop files that nobody has renewed for a week and that are of none of these segments."""
        known = {self._path(segment).name for segment in keep}
        long_ago = time.time() - _ORPHANED_S
        try:
            for entry in self._entries():
                if (
                    _FILE.fullmatch(entry.name)
                    and entry.name not in known
                    and entry.stat(follow_symlinks=False).st_mtime < long_ago
                ):
                    Path(entry.path).unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failed = f"{self.directory}: {error.strerror or error}"
        self._is_hopeless = self._is_hopeless or error.errno in _HOPELESS

    # Reading.

    def files(self) -> list[str]:
        """Return the names of all files, sorted; none when there is no directory.

        Raises
        ------
        OSError
            The directory cannot be read.
        """
        return sorted(entry.name for entry in self._entries() if _FILE.fullmatch(entry.name))

    def file_of(self, segment: str) -> str:
        """Return the name of a segment's file."""
        return self._path(segment).name

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a file's content, not checked yet; b"" when there is none.

        Raises
        ------
        CorruptDataError
            It is no ordinary file, or longer than `max_bytes`.
        OSError
            It cannot be read.
        """
        try:
            descriptor = os.open(self.directory / name, _READING)
        except FileNotFoundError:
            return b""
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise CorruptDataError(describe("backup", name, "no ordinary file: remove it"))
            if found.st_size > max_bytes:
                raise CorruptDataError(
                    describe("backup's length", found.st_size, f"at most {max_bytes} are read")
                )
            blob = bytearray()
            while len(blob) <= max_bytes and (part := file.read(max_bytes + 1 - len(blob))):
                blob += part
        return bytes(blob)

    def _is_young(self, segment: str, version: int) -> bool:
        """Whether the file, of this process or another, need not be written again."""
        written = self._versions.get(segment)
        if written is None or version - written >= self._renew_after_us:
            written = self._version_on_disk(segment)
        if written is None or not 0 <= version - written < self._renew_after_us:
            return False
        self._versions[segment] = written
        return True

    def _version_on_disk(self, segment: str) -> int | None:
        try:
            descriptor = os.open(self._path(segment), _READING)
        except OSError:  # none, or what must be replaced
            return None
        try:
            size = os.fstat(descriptor).st_size
            header = decode_header(os.read(descriptor, HEADER_BYTES))
        except (OSError, CorruptDataError):
            return None
        finally:
            os.close(descriptor)
        return header.version if header.length == size else None

    def _make_room(self, path: Path, size: int) -> None:
        """Raise OSError unless a file of this size may be written."""
        now = time.monotonic()
        if self._counted_at is None or now - self._counted_at > _COUNT_EVERY_S:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._count()
            self._counted_at = now
        try:
            before = path.lstat().st_size
        except FileNotFoundError:
            before = -1
        files = self._files + (before < 0)
        total = self._bytes + size - max(before, 0)
        if files > _MOST_FILES or total > _MOST_BYTES:
            raise OSError(
                f"it would hold more than {_MOST_FILES} files or {_MOST_BYTES} bytes: remove some"
            )
        self._files, self._bytes = files, total

    def _count(self) -> None:
        self._files = self._bytes = 0
        long_ago = time.time() - _ABANDONED_S
        for entry in self._entries():
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process has put it in its place
                continue
            if _FILE.fullmatch(entry.name):
                self._files += 1
                self._bytes += found.st_size
            elif _PART.fullmatch(entry.name) and found.st_mtime < long_ago:
                Path(entry.path).unlink(missing_ok=True)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.directory) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _path(self, segment: str) -> Path:
        return self.directory / (_digest(b"segment", segment) + _ENDING)


def _replace(path: Path, blob: bytes) -> None:
    """Write a file whole, or leave what is there."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, _WRITING, 0o600)
    except FileNotFoundError:  # the directory was removed meanwhile
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, _WRITING, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  # a descriptor
            left = memoryview(blob)
            while left:
                left = left[file.write(left) :]
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _digest(kind: bytes, name: str) -> str:
    return blake2b(name.encode(), digest_size=16, person=b"backup." + kind).hexdigest()
