"""``banditcore bench``: this machine's speed and errors, beside peers in the same run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from banditcore.benchmarking.contests import contests
from banditcore.benchmarking.effort import Effort
from banditcore.benchmarking.machine import describe_machine
from banditcore.benchmarking.timing import Row, measure
from banditcore.cli.arguments import positive
from banditcore.cli.output import Output, Shown
from banditcore.errors import InvalidValueError, describe

HELP = "compare speed and errors with numpy, scipy and other libraries on this machine"
DESCRIPTION = (
    f"{HELP}. Methods of one task are timed in turn; times and ratios are medians over the rounds, "
    "with the least and the greatest. Errors: how far frequencies are from the exact law, in "
    "standard errors (se; about 1 is chance), or the greatest absolute error."
)

_COLUMNS = (
    "task",
    "method",
    "time",
    "least",
    "most",
    "unit",
    "ratio",
    "least",
    "most",
    "pairs/s",
    "error",
    "of",
    "note",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--quick", action="store_true", help="less work: fewer arms, rounds and decisions"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="tasks with this in their name (default: all)"
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help="times that every method is timed (default: 9; 3 with --quick)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=2,
        metavar="N",
        help="threads of the rows with several (default: 2)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the posteriors and the peers (default: 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write machine and results there, too, as JSON (default: nowhere)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    quick = arguments.quick
    rounds = arguments.rounds or (3 if quick else 9)
    tasks = [
        (name, set_up)
        for name, set_up in contests(_effort(arguments))
        if arguments.only.lower() in name.lower()
    ]
    if not tasks:
        raise InvalidValueError(describe("--only", arguments.only, "no task has that in its name"))
    rows: list[Row] = []
    with output.progress("bench") as advance:
        for done, (name, set_up) in enumerate(tasks):
            advance(done, len(tasks), name)
            rows.extend(measure(set_up(), rounds=rounds, least_s=0.002 if quick else 0.05))
    machine = describe_machine()
    document = {
        "machine": machine,
        "options": {
            "quick": quick,
            "rounds": rounds,
            "threads": arguments.threads,
            "seed": arguments.seed,
        },
        "rows": [asdict(row) for row in rows],
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")
    output.document(document)
    output.table(
        f"{machine['cpu']}, {machine['cpus']} CPUs, kernel {machine['kernel']}; "
        f"Python {machine['python']}, {_versions(machine['packages'])}",
        list(_COLUMNS),
        [_line(row) for row in rows],
    )
    return 0


def _effort(arguments: argparse.Namespace) -> Effort:
    quick = arguments.quick
    return Effort(
        arms=(100, 1_000) if quick else (100, 1_000, 10_000),
        prepared=(1_000,) if quick else (1_000, 10_000, 100_000, 1_000_000),
        cells=100_000 if quick else 1_000_000,
        error_s=0.05 if quick else 3.0,
        decisions=20_000 if quick else 1_000_000,
        simulated=1_000 if quick else 10_000,
        threads=arguments.threads,
        seed=arguments.seed,
    )


def _versions(packages: object) -> str:
    assert isinstance(packages, dict)  # noqa: S101 (of `describe_machine`)
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in packages.items())


def _line(row: Row) -> tuple[object, ...]:
    return (
        row.task,
        row.method,
        *(_number(value) for value in (row.time, row.time_low, row.time_high)),
        row.unit,
        *(_number(value) for value in (row.ratio, row.ratio_low, row.ratio_high)),
        _number(row.pairs_per_second),
        "-" if row.error is None else f"{row.error:.3g} {row.error_unit}",
        Shown(row.error_of, "-" if row.error_of is None else f"{row.error_of:,}"),
        row.note,
    )


def _number(value: float | None) -> Shown:
    if value is None:
        return Shown(None, "-")
    return Shown(value, f"{value:,.0f}" if value >= 1000 else f"{value:.3g}")
