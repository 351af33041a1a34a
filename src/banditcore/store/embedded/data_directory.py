"""Names and protects the files of an embedded server's data directory."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from banditcore.errors import CorruptDataError, InvalidValueError, StoreUnfitError, describe

__all__ = ["DataDirectory", "is_locked"]

# sun_path has 108 bytes on Linux and 104 on macOS, a final NUL included.
_MAX_SOCKET_BYTES = 103

_SOCKET = "server.sock"
_SCRATCH = "banditcore-"
_SCRATCH_NAME = re.compile(_SCRATCH + r"[a-z0-9_]{8}")  # as mkdtemp makes them


class DataDirectory:
    """The names of everything in a data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.users = directory / "users.lock"
        self.launch = directory / "launch.lock"
        self.server = directory / "server.lock"
        self.supervisor = directory / "supervisor.lock"
        self.log = directory / "server.log"
        self.elsewhere = directory / "socket.path"

    def prepare(self) -> None:
        """Make the directory, open to nobody else.

        Missing directories above it are made private, too. One that exists and is empty becomes
        private; one that holds anything is left as it is.

        Raises
        ------
        InvalidValueError
            It cannot be made, or others may enter it.
        """
        try:
            _make_private(self.directory)
            mode = stat.S_IMODE(self.directory.stat().st_mode)
            if mode & 0o077 and not any(self.directory.iterdir()):
                self.directory.chmod(0o700)
                mode = 0o700
        except OSError as error:
            raise InvalidValueError(
                describe(
                    "the data directory",
                    str(self.directory),
                    f"it cannot be made or used ({error.strerror}); choose a directory you own",
                )
            ) from error
        if mode & 0o077:
            raise InvalidValueError(
                describe(
                    "the data directory",
                    str(self.directory),
                    f"others may enter it (mode {mode:04o}) and so reach the data; `chmod 700` "
                    "it, or choose a directory of its own",
                )
            )
        try:
            os.close(os.open(self.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise InvalidValueError(
                describe(
                    "the data directory",
                    str(self.directory),
                    f"it must be writable ({error.strerror}); choose a directory you own",
                )
            ) from error

    def socket(self) -> Path:
        """Return where the server listens.

        Raises
        ------
        CorruptDataError
            What is recorded is no place where a server of ours listens.
        """
        recorded = self._recorded()
        if recorded is None:
            return self.directory / _SOCKET
        if not _is_scratch_socket(recorded):
            raise CorruptDataError(
                describe(
                    str(self.elsewhere),
                    os.fspath(recorded),
                    f"the absolute path of {_SOCKET} in a temporary directory of ours is needed; "
                    "stop the server of this directory, and the next one writes it anew",
                )
            )
        return recorded

    def place_socket(self) -> Path | None:
        """Choose where a new server will listen; return a scratch directory if one is needed.

        The path of a socket has a short limit. Past it the socket lives in a private temporary
        directory, recorded here. What a killed server left is removed.
        """
        left = self._recorded()
        if left is not None:
            _remove_scratch(left)
            self.elsewhere.unlink()
        if len(os.fsencode(self.directory / _SOCKET)) <= _MAX_SOCKET_BYTES:
            return None
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH))  # mode 0700
        try:
            self._record(scratch / _SOCKET)
        except BaseException:
            scratch.rmdir()
            raise
        return scratch

    def _record(self, path: Path) -> None:
        if len(os.fsencode(path)) > _MAX_SOCKET_BYTES:
            raise StoreUnfitError(
                describe(
                    "the temporary directory",
                    tempfile.gettempdir(),
                    "its path and the data directory's are both too long for a socket; set "
                    "TMPDIR to a shorter one",
                )
            )
        # Whole or not at all: half a path would be another one.
        half_written = self.elsewhere.with_suffix(".new")
        half_written.write_bytes(os.fsencode(path))
        half_written.replace(self.elsewhere)

    def _recorded(self) -> Path | None:
        try:
            return Path(os.fsdecode(self.elsewhere.read_bytes()))
        except FileNotFoundError:
            return None


def is_locked(path: Path) -> bool:
    """Tell whether another open file holds `path` locked. Takes it for microseconds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    finally:
        os.close(descriptor)


def _make_private(directory: Path) -> None:
    """Make a directory and those missing above it with mode 0700; `mkdir` gives the latter 0777."""
    if directory.is_dir():
        return
    if not directory.parent.exists():
        _make_private(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


def _is_scratch_socket(path: Path) -> bool:
    """Tell whether `path`, read from a file, has the form of those that `place_socket` makes."""
    return (
        path.is_absolute()
        and ".." not in path.parts
        and path.name == _SOCKET
        and _SCRATCH_NAME.fullmatch(path.parent.name) is not None
    )


def _remove_scratch(path: Path) -> None:
    """Remove what a killed server left at `path`.

    It was read from a file, which may be damaged or forged: nothing but a socket of our name goes,
    and a directory of our name once it is empty.
    """
    if not _is_scratch_socket(path) or path.parent.is_symlink():
        return
    with suppress(OSError):  # gone already, or not ours: whatever stays there does no harm
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    with suppress(OSError):
        path.parent.rmdir()
