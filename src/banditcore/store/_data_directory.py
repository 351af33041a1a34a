"""Names and protects the files of an embedded server's data directory."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from banditcore.errors import InvalidValueError, StoreUnfitError, describe

__all__ = ["DataDirectory"]

# sun_path has 108 bytes on Linux and 104 on macOS, a final NUL included.
_MAX_SOCKET_BYTES = 103


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
        """Make the directory, open to nobody else; raise InvalidValueError if it cannot be."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        """Return where the server listens."""
        if self.elsewhere.exists():
            return Path(os.fsdecode(self.elsewhere.read_bytes()))
        return self.directory / "server.sock"

    def place_socket(self) -> Path | None:
        """Choose where a new server will listen; return a scratch directory if one is needed.

        The path of a socket has a short limit. Past it the socket lives in a private temporary
        directory, recorded here.
        """
        if self.elsewhere.exists():
            left_by_crash = self.socket().parent
            shutil.rmtree(left_by_crash, ignore_errors=True)
            self.elsewhere.unlink()
        if len(os.fsencode(self.directory / "server.sock")) <= _MAX_SOCKET_BYTES:
            return None
        scratch = Path(tempfile.mkdtemp(prefix="banditcore-"))  # mode 0700
        path = scratch / "server.sock"
        if len(os.fsencode(path)) > _MAX_SOCKET_BYTES:
            scratch.rmdir()
            raise StoreUnfitError(
                describe(
                    "the temporary directory",
                    tempfile.gettempdir(),
                    "its path and the data directory's are both too long for a socket; set "
                    "TMPDIR to a shorter one",
                )
            )
        self.elsewhere.write_bytes(os.fsencode(path))
        return scratch
