"""What docs/reliability.md names exists, and each command runs the tests of its row."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for table in re.findall(r"^\| promise [^\n]*\n((?:\|[^\n]*\n)+)", GUIDE, re.MULTILINE)
    for line in table.splitlines()[1:]
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
OF_MAKE = {"statemachine": "tests/faults"}  # others run scripts


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def functions(path: Path) -> set[str]:
    """Return the names of all functions of a file, or of all Python files in a folder."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {
        node.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def run_by(command: str) -> list[Path]:
    """Return the files and folders that a command runs, after a look at its other words."""
    program, *words = shlex.split(command)
    if program == "make":
        target, *variables = words
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), command
        for variable in variables:
            assert f"$({variable.partition('=')[0]})" in MAKEFILE, command
        return [ROOT / OF_MAKE.get(target, "scripts")]
    assert program == "pytest", command
    paths = [ROOT / word for word in words if word.startswith(("tests", "benchmarks"))]
    if "-k" in words:
        found = {name for path in paths for name in functions(path) if name.startswith("test_")}
        for word in words[words.index("-k") + 1].split(" or "):
            assert any(word in name for name in found), command
    return paths


def test_there_are_promises() -> None:
    assert len(ROWS) > 40
    assert all(len(row) == 3 and all(row) for row in ROWS)


def test_every_file_named_anywhere_exists() -> None:
    named = re.findall(r"`((?:tests|scripts|benchmarks)/[^` :]*)", GUIDE)
    assert [name for name in named if not (ROOT / name).exists()] == []
    linked = re.findall(r"\]\(([^)#:]+)", GUIDE)
    assert [name for name in linked if not (ROOT / "docs" / name).exists()] == []


def test_every_test_named_anywhere_exists() -> None:
    """Those of tests/serving go without their folder."""
    named = re.findall(r"`(?:tests/serving/)?(test_\w+\.py)::(test_\w+)`", GUIDE)
    assert len(named) > 25
    serving = ROOT / "tests" / "serving"
    assert [(file, test) for file, test in named if test not in functions(serving / file)] == []


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_the_command_runs_what_the_row_names(row: tuple[str, str, str]) -> None:
    _, tests, commands = row
    run = [path for command in quoted(commands) for path in run_by(command)]
    assert run
    assert [path for path in run if not path.exists()] == []
    files = [ROOT / name for name in quoted(tests) if "/" in name]
    assert [file for file in files if not any(file.is_relative_to(path) for path in run)] == []


@pytest.mark.parametrize("command", sorted({c for row in ROWS for c in quoted(row[2])}))
def test_a_command_leaves_no_slow_test_out_unsaid(command: str) -> None:
    files = [path for path in run_by(command) if command.startswith("pytest") and path.is_file()]
    slow = [file.name for file in files if "mark.slow" in file.read_text("utf-8")]
    assert not slow or '-m ""' in command


@pytest.mark.parametrize("name", re.findall(r"(?:rule|fault) `(\w+)`", GUIDE))
def test_a_rule_or_a_fault_is_one_of_the_state_machine(name: str) -> None:
    faults = (ROOT / "tests/faults/trouble.py").read_text("utf-8")
    assert name in functions(ROOT / "tests/faults/machine.py") or f'"{name}"' in faults
