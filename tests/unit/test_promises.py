"""What docs/reliability.md names as the proof of a promise is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
FILE = re.compile(r"\b((?:tests|scripts|benchmarks)/[\w/]*\w(?:\.py|/))")
TEST = re.compile(r"`(?:tests/serving/)?(test_\w+\.py)::(test_\w+)`")


def test_every_file_is_there() -> None:
    named = set(FILE.findall(PAGE))
    assert len(named) > 40
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_test_is_there() -> None:
    named = set(TEST.findall(PAGE))
    assert len(named) > 25
    serving = ROOT / "tests" / "serving"
    assert {
        (file, test)
        for file, test in named
        if f"def {test}(" not in (serving / file).read_text("utf-8")
    } == set()
