"""The files of a data directory: what is private, what is removed, what never is."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from banditcore.errors import CorruptDataError, InvalidValueError, StoreUnfitError
from banditcore.store.embedded.data_directory import DataDirectory
from banditcore.store.embedded.server import EmbeddedServer
from embedded_uses import client_of, opened, stopped


@pytest.fixture
def files(directory: Path) -> DataDirectory:
    made = DataDirectory(directory)
    made.prepare()
    return made


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def listener(path: Path) -> None:
    """Leave a socket at `path`, as a killed server does."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.fixture
def elsewhere(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds something dear, and a socket."""
    dear = directory.parent / "work"
    (dear / "sub").mkdir(parents=True)
    (dear / "sub" / "thesis.tex").write_text("years")
    listener(dear / "server.sock")
    monkeypatch.chdir(dear)
    return dear


@pytest.mark.parametrize(
    "recorded",
    [
        "",
        ".",
        "server.sock",
        "./sub/thesis.tex",
        "{dear}/server.sock",
        "{dear}/sub/server.sock",
        "banditcore-abcdefgh/server.sock",
        "{dear}/banditcore-abcdefgh/other.sock",
        "{dear}/banditcore-abcdefgh/../server.sock",
        "{dear}/banditcore-abcdefgh",
    ],
)
def test_what_a_file_names_is_never_deleted(
    files: DataDirectory, elsewhere: Path, recorded: str
) -> None:
    (elsewhere / "banditcore-abcdefgh").mkdir()
    listener(elsewhere / "banditcore-abcdefgh" / "server.sock")
    before = tree(elsewhere)
    files.elsewhere.write_text(recorded.format(dear=elsewhere))
    with pytest.raises(CorruptDataError, match=r"socket\.path is .*absolute path"):
        files.socket()
    assert files.place_socket() is None
    assert tree(elsewhere) == before
    assert not files.elsewhere.exists()
    assert files.socket() == files.directory / "server.sock"


def test_only_a_socket_of_ours_goes_and_nothing_beside_it(
    files: DataDirectory, elsewhere: Path
) -> None:
    scratch = elsewhere / "banditcore-abcdefgh"
    scratch.mkdir()
    files.elsewhere.write_text(f"{scratch}/server.sock")
    (scratch / "server.sock").write_text("no socket")
    files.place_socket()
    assert tree(scratch) == ["server.sock"]

    (scratch / "server.sock").unlink()
    listener(scratch / "server.sock")
    (scratch / "dear").write_text("mine")
    files.elsewhere.write_text(f"{scratch}/server.sock")
    files.place_socket()
    assert tree(scratch) == ["dear"]

    (scratch / "dear").unlink()
    listener(scratch / "server.sock")
    link = elsewhere / "banditcore-ijklmnop"
    link.symlink_to(scratch)
    files.elsewhere.write_text(f"{link}/server.sock")
    files.place_socket()
    assert tree(scratch) == ["server.sock"]

    files.elsewhere.write_text(f"{scratch}/server.sock")
    files.place_socket()
    assert not scratch.exists()


def test_an_empty_record_hinders_no_start(directory: Path, elsewhere: Path) -> None:
    DataDirectory(directory).prepare()
    (directory / "socket.path").touch()
    before = tree(elsewhere)
    with opened(directory) as client:
        assert client.ping()
    assert tree(elsewhere) == before


def test_a_record_that_cannot_be_written_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = directory.parent / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    inside = directory / ("x" * 120)
    files = DataDirectory(inside)
    files.prepare()
    (inside / "socket.new").mkdir()  # in the way
    with pytest.raises(StoreUnfitError, match=r"no server can be started on .*socket\.new"):
        EmbeddedServer.open(inside)
    assert list(scratch.iterdir()) == []
    assert not files.elsewhere.exists()
    (inside / "socket.new").rmdir()
    use = EmbeddedServer.open(inside)
    assert use.socket_path.parent.parent == scratch
    with client_of(use) as client:
        assert client.ping()
    use.close()
    stopped(inside)


@pytest.mark.parametrize("name", ["users.lock", "launch.lock", "server.lock", "server.log"])
def test_files_that_cannot_be_opened_are_an_error_of_ours(directory: Path, name: str) -> None:
    DataDirectory(directory).prepare()
    (directory / name).unlink(missing_ok=True)
    (directory / name).mkdir()
    (directory / "server.log.1").mkdir()
    (directory / "server.log.1" / "full").touch()
    kinds = InvalidValueError if name == "users.lock" else StoreUnfitError
    with pytest.raises(kinds, match=rf"{directory}'.*[Dd]irectory") as caught:
        EmbeddedServer.open(directory)
    assert isinstance(caught.value.__cause__, OSError)
    (directory / name).rmdir()


def test_missing_directories_are_made_private(directory: Path) -> None:
    before = os.umask(0o022)
    try:
        with opened(directory / "a" / "b") as client:
            assert client.ping()
        with opened(directory / "a" / "c") as client:
            assert client.ping()
    finally:
        os.umask(before)
    for made in (directory, directory / "a", directory / "a" / "b", directory / "a" / "c"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700, made
