"""What the README shows first is the example, runs as it stands, and prints what it says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quickstart.py"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = r"[01]\.\d*"


def run(code: str, cwd: Path | None = None) -> str:
    # Without the address of a store: the example must need none.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BANDITCORE_")}
    if cwd is not None:
        environment["XDG_DATA_HOME"] = str(cwd)  # of the embedded server
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=cwd,
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


def python_block_with(text: str) -> str:
    blocks = PYTHON_BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    [block] = [block for block in blocks if text in block]
    return str(block)


def test_the_example_prints_what_it_should() -> None:
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) <= 30
    assert_is_its_output(run(source))


def test_the_readme_shows_the_example() -> None:
    _docstring, code = EXAMPLE.read_text().split("\n\n", 1)
    assert readme_block("python") == code


def test_the_readme_serves_as_it_says(directory: Path) -> None:
    directory.mkdir()
    block = python_block_with("warm_up(timeout_s=10)")
    # On a busy machine "seen" may stand there too.
    shown = "print(answer.arms, 'default' in answer.degraded)\n"
    assert run(block + shown, directory) == "('bestseller-1', 'bestseller-2') True\n"
    again = """
import banditcore as bc
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
with bc.connect() as store:
    shop = bc.Bandit("shop", store)
    worker = IngestWorker(shop, RedisStreamSource(shop))
    while worker.step():
        pass
    counts = shop.counts("IN/mobile")
    print(dict(zip(counts.arms, zip(counts.trials.tolist(), counts.successes.tolist()))))
"""
    expected = {"bestseller-1": (1.0, 1.0), "bestseller-2": (1.0, 0.0)}
    assert ast.literal_eval(run(again, directory)) == expected


BEFORE = """
import time
import banditcore as bc
sold_out = ["hat"]
store = bc.connect()
shop = bc.Bandit("shop", store)
shop.record("IN/mobile", "scarf", reward=1.0)
shop.record("IN/mobile", "hat")
shop.refresh()
recommender = bc.Recommender(shop)
recommender.warm_up()
"""
AFTER = """
recommender.close()
shop.close()
store.close()
"""


@pytest.mark.parametrize(
    ("what", "shown", "expected"),
    [
        ("recommend_many(", "answers.arms, answers[0].propensities", "[('scarf',)] * 3, [1.0]"),
        ("shop.flush()", "shop.counts('IN/mobile').trials.sum()", "2.0"),
        ("shown = time.time()", "shop.counts('IN/mobile').successes.sum()", "2.0"),
    ],
)
def test_the_readmes_other_blocks_run(
    directory: Path, what: str, shown: str, expected: str
) -> None:
    directory.mkdir()
    code = f"{BEFORE}{python_block_with(what)}print(({shown}) == ({expected})){AFTER}"
    assert run(code, directory) == "True\n"


def test_every_python_block_of_the_readme_is_run() -> None:
    # The example, serving, recommend_many, emit, late rewards, numbers.
    assert len(PYTHON_BLOCK.findall((ROOT / "README.md").read_text("utf-8"))) == 6


def test_the_readmes_numbers_have_the_shapes_it_says() -> None:
    block = python_block_with("thompson_topk")
    code = f"import numpy as np\nimport banditcore as bc\n{block}"
    shown = "print(best.shape, chance.shape, abs(chance.sum() - 2) < 1e-9)\n"
    assert run(code + shown) == "(1000, 2) (3,) True\n"


def test_the_readme_shows_its_output() -> None:
    assert_is_its_output(readme_block("text"))
