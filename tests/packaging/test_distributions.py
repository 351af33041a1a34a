"""What is shipped: the source distribution builds the wheel, and the wheel works without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Made by builds, tools and tests, or of use in a clone only.
NOT_SHIPPED = shutil.ignore_patterns(
    ".*", "build", "dist", "venv", "*.egg-info", "__pycache__", "*.pyc", "*.so", "_*.cpp"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout, without anything that was made from them."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(ROOT, copy, ignore=NOT_SHIPPED)
    return copy


@pytest.fixture(scope="module")
def sources(tree: Path) -> frozenset[str]:
    """The tree's files, listed before a build adds its own."""
    return frozenset(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built(tree: Path, sources: frozenset[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution, and the wheel that was built from it."""
    assert "src/banditcore/__init__.py" in sources
    into = tmp_path_factory.mktemp("dist")
    # Offline and quick: the build tools are those of this environment.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return into


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel's contents and nothing else."""
    into = tmp_path_factory.mktemp("installed")
    [wheel] = built.glob("*.whl")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--disable-pip-version-check", "--target", str(into), str(wheel)),
        ],
        check=True,
    )
    return into


def run(installed: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_the_sdist_is_the_whole_project(sources: frozenset[str], built: Path) -> None:
    name = f"banditcore-{version()}"
    with tarfile.open(built / f"{name}.tar.gz") as archive:
        members = [member.name for member in archive if member.isfile()]
    made = {"PKG-INFO", "setup.cfg"}
    info = "src/banditcore.egg-info/"
    shipped = {member.removeprefix(f"{name}/") for member in members}
    assert {path for path in shipped if not path.startswith(info)} == sources | made
    # The kinds that are forgotten easily, in case the tree itself lacks them.
    for needed in (
        "_sampling.pyx",
        "_sampling.pyi",
        "_race.pyx",
        "py.typed",
        "cpp/kernel/kernel.h",
        "cpp/kernel/dispatch.cpp",
    ):
        assert f"src/banditcore/{needed}" in shipped
    assert "src/banditcore/store/functions/library.lua" in shipped


def test_the_wheel_has_what_runs_and_no_sources(sources: frozenset[str], built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
    package = {path.removeprefix("src/") for path in sources if path.startswith("src/")}
    runs = {path for path in package if Path(path).suffix in {".py", ".pyi", ".lua"}}
    info = f"banditcore-{version()}.dist-info"
    described = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    compiled = {path for path in members if path.endswith(".so")}
    names = sorted(path.partition(".")[0] for path in compiled)
    modules = (
        "_answer _exposures _hash_index _packed _poisson_binomial _race _rises _sampling _user_keys"
    )
    assert names == [f"banditcore/{name}" for name in modules.split()]
    assert members == (
        runs
        | compiled
        | {"banditcore/py.typed", f"{info}/licenses/LICENSE"}
        | {f"{info}/{name}" for name in described}
    )


def test_the_wheel_works_on_its_own(installed: Path) -> None:
    code = (
        "import banditcore as bc;"
        "from banditcore.store.functions.texts import library_source;"
        "print(bc.__file__);"
        "print(bc.__version__);"
        "print(bc.thompson_topk([900.0, 1.0], [1.0, 900.0], 2).tolist());"
        "print(library_source('library.lua').splitlines()[0].split('_')[0])"
    )
    assert run(installed, sys.executable, "-c", code).splitlines() == [
        str(installed / "banditcore" / "__init__.py"),
        version(),
        "[0, 1]",
        "#!lua name=banditcore",
    ]


def test_the_wheel_brings_the_command(installed: Path) -> None:
    command = str(installed / "bin" / "banditcore")
    assert run(installed, command, "--help").startswith("usage: banditcore ")
