"""Serving under load while faults strike: no exception, every label right, every answer allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "faults" / "load.py"
SMALL = ("--rate", "300", "--threads", "2", "--arms", "200", "--seed", "11", "--untimed")
QUICK = ("--max-age", "1", "--poll", "0.1", "--every", "0.3")


def loaded(*more: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *SMALL, *QUICK, *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no promise was broken, seed 11" in done.stdout
    return done.stdout


def rows(said: str) -> dict[str, int]:
    """Return how many requests from memory each fault saw."""
    found = re.findall(r"^(\S.*?) +memory +([\d,]+) ", said, re.MULTILINE)
    return {fault: int(samples.replace(",", "")) for fault, samples in found}


def test_a_server_that_is_killed_and_blobs_that_are_damaged() -> None:
    said = rows(loaded("--seconds", "2", "--faults", "server killed,corrupt blobs"))
    assert said.keys() == {"server killed", "corrupt blobs"}
    assert min(said.values()) > 100


@pytest.mark.slow
@pytest.mark.long
def test_every_fault_and_every_cold_start() -> None:
    said = loaded("--seconds", "4", "--starts")
    assert len(rows(said)) == 19
    starts = re.findall(r"^(?:down|loading|hung|corrupt blobs) +(?:yes|no) ", said, re.MULTILINE)
    assert len(starts) == 8
