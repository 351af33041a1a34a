"""Load, publishers, ingestion and random faults for half an hour: nothing may grow or be left.

Two services answer open-loop requests, one of them through a proxy; a refresher publishes, a worker
ingests what an emitter emits, and a second refresher stands by that is killed now and then. The
server is killed, hung, filled up, loses its disk and its functions; connections are cut, replies
lost; blobs are damaged; segments come and go by the hundred. Meanwhile memory, open files and
threads of every process are sampled.

In the end all must be as promised again, every answer have been right, the counts be exactly what
was emitted, no process have grown after the warm-up (`soak_samples` says by how much), and a
service that closes leave no thread and no file behind.

Usage: soak.py [--minutes 30] [--seed N] [--csv FILE]
Exit code 0 when all of that holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from load_hiccups import watched_machine
from load_requests import NAME
from load_stage import (
    Process,
    Service,
    Settings,
    emitter,
    ingester,
    prepare,
    refresher,
    wait_for_recovery,
)
from load_tally import Phase, percentiles
from soak_monkey import SoakMonkey
from soak_samples import WARM_UP_S, Sampler, curve, growths, write

import banditcore as bc
from faults.server import MortalServer
from proxy import proxy_before

# glibc keeps freed memory, the more the larger what was freed, and resident memory then goes up in
# steps for a quarter of an hour though nothing leaks. So it gives back what it can.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}

WITHIN_S = 60.0  # of the cap: what users have seen is forgotten as fast as it comes
_COUNTED_S = 120.0


class Soak:
    """One run. `sound` tells whether all that was promised was seen."""

    def __init__(self, settings: Settings, minutes: float) -> None:
        self._settings = settings
        self._seconds = 60 * minutes
        self._phase = Phase()
        self.sound = True

    def run(self) -> Sampler:
        """Do it, and say what was seen."""
        settings = self._settings
        with ExitStack() as stack:
            hiccups = stack.enter_context(watched_machine())
            begun = time.perf_counter()
            server = stack.enter_context(closing(MortalServer(settings.kind)))
            proxy = stack.enter_context(proxy_before(server.path))
            before = prepare(settings, server.url)
            services: dict[str, Service] = {}
            companions = {
                "refresher": refresher(settings, server.url),
                "standby": refresher(settings, server.url),
                "ingester": ingester(settings, server.url),
                "emitter": emitter(settings, server.url),
            }
            for companion in companions.values():
                stack.callback(_kill_if_alive, companion)
            for number, (name, url) in enumerate((("service", server.url), ("proxied", proxy.url))):
                services[name] = self._service(url, number)
                stack.callback(_kill_if_alive, services[name])
            processes: dict[str, Process] = {**companions, **services}
            watched = {n: p.process.pid for n, p in processes.items() if n != "standby"}
            sampler = Sampler(watched)
            stack.callback(sampler.stop)
            dice = random.Random(settings.seed)  # noqa: S311 - it has to be repeatable
            monkey = SoakMonkey(server, proxy, processes["standby"], dice)
            self._harm(monkey, list(services.values()), processes)
            monkey.heal()
            for service in services.values():
                recovery_s, phase = wait_for_recovery(service)
                self._phase.add(phase)
                print(f"all as promised again after {recovery_s:.1f} s")
            sampler.stop()
            self._settle(processes, before, server.url)
            for name, service in services.items():
                left = service.end()
                if left["threads"] or left["files"]:
                    self._accuse(f"{name} left behind {left}")
            for what, times in sorted(monkey.done.items()):
                print(f"{times:6d}  {what}")
            idle_s = hiccups.longest(begun, time.perf_counter())
            print(f"a process that only slept overslept {1e3 * idle_s:.0f} ms at most")
        self._answers()
        self._grown(sampler)
        return sampler

    def _service(self, url: str, number: int) -> Service:
        made = Service(self._settings, url, "--within", str(WITHIN_S), seed=number)
        if made.started["errors"]:
            self._accuse(f"service {number} did not start well: {made.started}")
        return made

    def _harm(
        self, monkey: SoakMonkey, services: list[Service], processes: dict[str, Process]
    ) -> None:
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            monkey.strike()
            for service in services:
                self._phase.add(service.phase())
            for name, process in processes.items():
                if process.process.poll() is not None:
                    raise RuntimeError(f"{name} ended by itself")

    def _settle(self, processes: dict[str, Process], before: tuple[int, int], url: str) -> None:
        """End who emits; when all is applied, the counts must be what was emitted."""
        told = json.loads(processes["emitter"].finish()[-1])
        if not told["trials"] == told["accepted"] == told["acknowledged"]:
            self._accuse(f"the emitter was not confirmed everything: {told}")
        wanted = before[0] + told["trials"], before[1] + told["successes"]
        deadline = time.monotonic() + _COUNTED_S
        while (found := _counted(url)) != wanted and time.monotonic() < deadline:
            time.sleep(0.5)
        print(f"{told['trials']:,} events emitted; trials, successes counted: {found} of {wanted}")
        if found != wanted:
            self._accuse("the counts are not what was emitted")
        for name in ("ingester", "refresher", "standby"):
            processes[name].finish()

    def _answers(self) -> None:
        for kind, tally in self._phase.tallies.items():
            times = " ".join(percentiles(tally.service))
            labels: Counter[str] = +tally.labels
            print(
                f"{kind}: {tally.samples:,} requests; p50, p99, p99.9, max in ms: {times}; "
                f"{dict(labels)}; {tally.exceptions.total()} exceptions"
            )
            for what, times_seen in (tally.exceptions + tally.wrong).most_common(5):
                self._accuse(f"{kind}: {times_seen} times {what}")

    def _grown(self, sampler: Sampler) -> None:
        print("\nmedian memory in MB until that minute")
        print("\n".join(curve(sampler.samples)))
        warm_up_s = min(WARM_UP_S, self._seconds / 3)
        print(f"\nfrom the first quarter after {warm_up_s / 60:.1f} minutes to the last:")
        for each in growths(sampler.samples, warm_up_s):
            words = (
                f"{each.name:10} {each.what:10} {each.first:8.1f} -> {each.last:8.1f}"
                f" (may grow by {each.allowed:.1f})"
            )
            print(words)
            if each.is_too_much:
                self._accuse(f"it grew: {words}")

    def _accuse(self, what: str) -> None:
        self.sound = False
        print(f"WRONG: {what}", flush=True)


def _counted(url: str) -> tuple[int, int]:
    with bc.connect(url) as store:
        bandit = bc.Bandit(NAME, store)
        counts = [bandit.counts(segment) for segment in bandit.segments()]
    return (
        int(sum(each.trials.sum() for each in counts)),
        int(sum(each.successes.sum() for each in counts)),
    )


def _kill_if_alive(process: Process) -> None:
    if process.process.poll() is None:
        process.kill()


def main() -> int:
    """Run as the command line says; 0 when all that was promised was seen."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second, each service")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--kind", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--csv", type=Path, help="write all samples there")
    options = parser.parse_args()
    print(f"{options.minutes:g} minutes on {options.kind}, seed {options.seed}", flush=True)
    os.environ.update(_ALLOCATOR)  # of the processes that are started
    with tempfile.TemporaryDirectory(prefix="bcs") as directory:
        settings = Settings(
            directory=Path(directory),
            seed=options.seed,
            seconds=0.0,
            rate=options.rate,
            threads=4,
            arms=1000,
            max_age=20.0,
            poll=1.0,
            every=5.0,
            budget=0.1,
            events=200.0,
            kind=options.kind,
        )
        soak = Soak(settings, options.minutes)
        try:
            sampler = soak.run()
        except BaseException:
            said = settings.directory / "errors"
            if said.exists():
                print(said.read_text(errors="replace")[-5000:], file=sys.stderr)
            raise
        if options.csv is not None:
            write(sampler.samples, options.csv)
    print(f"all as promised, seed {options.seed}" if soak.sound else "WRONG")
    return 0 if soak.sound else 1


if __name__ == "__main__":
    sys.exit(main())
