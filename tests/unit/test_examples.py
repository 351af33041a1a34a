"""What the README shows first is the example, runs as it stands, and prints what it says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quickstart.py"
NUMBER = r"[01]\.\d*"


def run(code: str) -> str:
    # Without the address of a store: the example must need none.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BANDITCORE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def assert_is_its_output(printed: str) -> None:
    published, answer = printed.splitlines()
    assert published == "('', 'IN', 'US', 'IN/mobile')"
    match = re.fullmatch(rf"(\(.*\)) IN/mobile \[({NUMBER}) +({NUMBER})\]", answer)
    assert match is not None, answer
    # The order is drawn; the two arms are all there are, so one probability is the other's.
    assert sorted(ast.literal_eval(match[1])) == ["hat", "scarf"]
    assert match[2] == match[3]
    assert 0.0 < float(match[2]) < 1.0


def readme_block(language: str) -> str:
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_prints_what_it_should() -> None:
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) <= 30
    assert_is_its_output(run(source))


def test_the_readme_shows_the_example() -> None:
    _docstring, code = EXAMPLE.read_text().split("\n\n", 1)
    assert readme_block("python") == code


def test_the_readmes_numbers_have_the_shapes_it_says() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    [block] = re.findall(r"^```python\n([^`]*thompson_topk[^`]*)^```$", readme, re.MULTILINE)
    code = f"import numpy as np\nimport banditcore as bc\n{block}"
    shown = "print(best.shape, chance.shape, abs(chance.sum() - 2) < 1e-9)\n"
    assert run(code + shown) == "(1000, 2) (3,) True\n"


def test_the_readme_shows_its_output() -> None:
    assert_is_its_output(readme_block("text"))
