"""The chaos runs, for half a minute each: that they start, do harm and account for everything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "faults" / "chaos.py"


@pytest.mark.parametrize("world", [[], ["--cluster"]], ids=["one server", "cluster"])
def test_every_event_is_accounted_for(world: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", "0.5", "--seed", "11", "--streams", *world],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every event is accounted for, seed 11" in done.stdout
    assert re.search(r"[1-9]\d*  .*killed", done.stdout)
    rows = re.findall(
        r"^(?:producer|log|emitter|churner|fader) \d +(\d+)", done.stdout, re.MULTILINE
    )
    assert len(rows) == 11
    assert all(map(int, rows))
