"""Serves under open-loop load while faults strike, and checks every single answer.

A service process answers requests whose start times were fixed before, from a published bank and
by live draws, with and without frequency caps, for segments of thousands of arms, while
`banditcore refresh --every` publishes, `banditcore ingest --follow` counts and an emitter emits.
Then one fault after the other: the server killed, hung, loading, full ..., connections half-open or
slow, replies lost, failovers, slots that move, blobs damaged, publishers killed, clocks that leap.

Every answer is checked: it was given without an exception, has k distinct arms that are neither
excluded nor seen by the user, comes from the segment or one above it; it is labelled if it is too
old, and its age is true. No request may take longer than the budget, less what the machine kept
it waiting: processes that only sleep show that, and a thread of the service that only sleeps, for
as long as it is not let run though no other thread of its process has a processor either.

Usage: load.py [--seconds 20] [--rate 1000] [--seed N] [--faults NAME,NAME] [--starts]
Exit code 0 when no promise was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from load_faults import Fault, Stage
from load_hiccups import Hiccups, watched_machine
from load_report import Measured, Report
from load_stage import Settings, wait_for_recovery
from load_stages import STAGES
from load_starts import cold_starts

_SETTLING_S = 1.0


def measure(stage: Stage, name: str, fault: Fault, hiccups: Hiccups) -> Measured:
    """Make a fault, wait until all is well, and return what was seen."""
    begun = time.perf_counter()
    fault(stage, stage.settings.seconds)
    recovery_s, recovering = wait_for_recovery(stage.service)
    left = stage.settings.seconds - (time.perf_counter() - begun)
    time.sleep(max(0.0, left))
    phase = stage.service.phase()
    phase.add(recovering)
    return Measured(name, phase, hiccups.longest(begun, time.perf_counter()), recovery_s)


def run(settings: Settings, wanted: list[str], report: Report, hiccups: Hiccups) -> None:
    """Make all faults that are wanted, or all."""
    for stage_of, faults in STAGES:
        chosen = {name: fault for name, fault in faults.items() if not wanted or name in wanted}
        if not chosen:
            continue
        with stage_of(settings) as stage:
            if stage.service.started["errors"]:
                report.accuse(f"it did not start well: {stage.service.started}")
            time.sleep(_SETTLING_S)
            wait_for_recovery(stage.service)
            for name, fault in chosen.items():
                report.add(measure(stage, name, fault, hiccups))


def parsed() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each fault, at least")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--threads", type=int, default=4, help="that make requests")
    parser.add_argument("--arms", type=int, default=2000, help="of a segment")
    parser.add_argument("--max-age", type=float, default=5.0, help="seconds")
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between looks")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between refreshes")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds")
    parser.add_argument("--events", type=float, default=200.0, help="a second; 0 for none")
    parser.add_argument("--kind", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--faults", default="", help="names between commas; all by default")
    parser.add_argument("--starts", action="store_true", help="cold starts too")
    parser.add_argument("--untimed", action="store_true", help="tell of slow requests only")
    return parser.parse_args()


def main() -> int:
    """Run as the command line says; 0 when no promise was broken."""
    options = parsed()
    wanted = [name for name in options.faults.split(",") if name]
    unknown = set(wanted) - {name for _, faults in STAGES for name in faults}
    if unknown:
        print(f"unknown faults {sorted(unknown)}", file=sys.stderr)
        return 2
    names = Settings.__dataclass_fields__.keys() - {"directory"}
    print(
        f"{options.rate:g} requests a second in {options.threads} threads, 5 segments of "
        f"{options.arms:,} arms, {options.events:g} events a second, seed {options.seed}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="bcl") as directory, watched_machine() as hiccups:
        settings = Settings(Path(directory), **{name: getattr(options, name) for name in names})
        report = Report(hiccups, settings.budget, strict=not options.untimed)
        try:
            report.head()
            run(settings, wanted, report, hiccups)
            report.end()
            if options.starts:
                cold_starts(settings, report)
        except BaseException:
            said = settings.directory / "errors"
            if said.exists():
                print(said.read_text(errors="replace")[-5000:], file=sys.stderr)
            raise
    print(f"no promise was broken, seed {options.seed}" if report.sound else "WRONG")
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
