"""The soak, for a minute: that it starts, does harm, and finds every count and answer right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "faults" / "soak.py"


def test_answers_and_counts_are_right_and_nothing_is_left_behind() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", "1", "--seed", "11", "--rate", "100"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "events emitted" in done.stdout, done.stdout + done.stderr
    # Within a minute memory still grows: caches fill.
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG: ")]
    assert [line for line in wrong if "it grew" not in line] == []
    assert re.search(r"[1-9]\d*  server: ", done.stdout)
    for what in ("bank", "live", "caps", "mark"):
        assert re.search(rf"^{what}: [1-9]", done.stdout, re.MULTILINE)
