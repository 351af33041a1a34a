"""Each script that measures tells what it does, and does nothing else, when asked for help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts" / "measuring").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_of_a_script(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    usage, described = done.stdout.split("\n\n")[:2]
    assert usage.startswith(f"usage: {script.name} [-h]")
    first = script.read_text("utf-8").partition('"""')[2].splitlines()[0]
    assert " ".join(described.split()).startswith(first)
