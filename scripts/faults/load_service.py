"""A service process under open-loop load, which `load.py` and `soak.py` start and ask.

Requests have intended start times, a Poisson process that waits for nobody. Several threads take
them in turn. Whoever finds its request overdue makes it at once, and its latency counts from the
intended time, so that a stall is not hidden by the requests that it kept from being made.

It reads commands from stdin, a JSON document a line, and answers each with one:
``{"do": "phase"}``: what happened since the last time; ``{"do": "clock", "shift": s}``: from now
on the clock of this process is so much ahead; ``{"do": "state"}``: what each recommender says of
its looks; ``{"do": "held"}``: how many segments it holds; ``{"do": "end"}``: closes everything, as
``with`` does, and tells which threads and files are left.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from load_requests import DEFAULT, KINDS, LEAVES, NAME, UNKNOWN, Judge, Request, requests
from load_tally import Phase, Slow, Stall, Tally

import banditcore as bc

_BEAT_S = 0.002
_LEAST_STALL_S = 0.003
_TAKEN_UP_S = 10.0
_LEAP_S = 1800.0


class Schedule:
    """When each request is due: gaps are exponential, so that bursts occur."""

    def __init__(self, rate: float, seed: int) -> None:
        self._rate = rate
        self._dice = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self._lock = threading.Lock()
        self._due = time.perf_counter()
        self._number = -1

    def take(self) -> tuple[int, float]:
        """Return the number of the next request and its time by `time.perf_counter`."""
        with self._lock:
            self._number += 1
            self._due += self._dice.expovariate(self._rate)
            return self._number, self._due


class Generator:
    """Makes requests in several threads and counts what becomes of them."""

    def __init__(self, options: argparse.Namespace, makers: dict[str, bc.Recommender]) -> None:
        self._makers = makers
        within = timedelta(seconds=options.within)
        self._judges = {
            kind: Judge(options.max_age, within if kind == "caps" else None) for kind in makers
        }
        self._requests = requests(options.seed, options.arms)
        self._schedule = Schedule(options.rate, options.seed)
        self._slow_s = options.budget / 2
        self._phases = [_new_phase() for _ in range(options.threads)]
        self._spare = [_new_phase() for _ in range(options.threads)]
        self._total = _new_phase()
        self._counting = [threading.Lock() for _ in range(options.threads)]
        self._stop = threading.Event()
        self._stalls: list[Stall] = []
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"load-{number}", daemon=True)
            for number in range(options.threads)
        ]
        self._threads.append(threading.Thread(target=self._idle, name="load-idle", daemon=True))
        for thread in self._threads:
            thread.start()

    def phase(self) -> Phase:
        """Return what happened since the last time, and begin anew."""
        total = self._total
        total.clear()
        total.stalls, self._stalls = self._stalls, []
        for number in range(len(self._phases)):
            with self._counting[number]:
                old, self._phases[number] = self._phases[number], self._spare[number]
            total.add(old)
            old.clear()
            self._spare[number] = old
        return total

    def stop(self) -> None:
        """Make no more requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_TAKEN_UP_S)

    def _idle(self) -> None:
        while not self._stop.is_set():
            processor, begun = time.process_time(), time.perf_counter()
            time.sleep(_BEAT_S)
            ended = time.perf_counter()
            if ended - begun > _BEAT_S + _LEAST_STALL_S:
                stall = Stall(begun + _BEAT_S, ended, time.process_time() - processor)
                self._stalls.append(stall)

    def _work(self, number: int) -> None:
        while not self._stop.is_set():
            which, due = self._schedule.take()
            left = due - time.perf_counter()
            if left > 0:
                time.sleep(left)
            self._make(number, self._requests[which % len(self._requests)], due)

    def _make(self, number: int, request: Request, due: float) -> None:
        recommender, judge = self._makers[request.kind], self._judges[request.kind]
        known = judge.known(request)
        before, processor, begun = time.time(), time.thread_time(), time.perf_counter()
        answer, error = None, None
        try:
            answer = recommender.recommend(
                request.segment, user=request.user, exclude=request.exclude
            )
        except Exception as raised:  # noqa: BLE001 - none is allowed: it is counted
            error = raised
        ended, after = time.perf_counter(), time.time()
        processor = time.thread_time() - processor
        with self._counting[number]:
            phase = self._phases[number]
            tally = phase.tallies[request.kind]
            tally.took(ended - begun, ended - due)
            if ended - begun > self._slow_s:
                phase.slow.append(Slow(request.kind, begun, ended, processor))
            if answer is None:
                tally.exceptions[f"{type(error).__name__}: {error}"] += 1
                return
            if 0 <= after - before < _LEAP_S:  # else somebody set the clock meanwhile
                for what in judge.wrong(request, answer, before, after, known):
                    tally.wrong[what] += 1
            for label in judge.labels(request, answer):
                tally.labels[label] += 1
        if request.marks and request.user is not None and answer.arms:
            self._mark(number, recommender, request.user, answer.arms[0])

    def _mark(self, number: int, recommender: bc.Recommender, user: str, arm: str) -> None:
        moment, begun = time.time(), time.perf_counter()
        stored, error = False, None
        try:
            stored = recommender.mark_seen(user, [arm], now=moment)
        except Exception as raised:  # noqa: BLE001
            error = raised
        took = time.perf_counter() - begun
        self._judges["caps"].mark(user, arm, moment)
        with self._counting[number]:
            tally = self._phases[number].tallies["mark"]
            tally.took(took, took)
            tally.labels["kept"] += not stored
            if error is not None:
                tally.exceptions[f"{type(error).__name__}: {error}"] += 1


def _new_phase() -> Phase:
    return Phase({kind: Tally() for kind in KINDS})


def _commands() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


def serve(options: argparse.Namespace) -> None:
    """Make recommenders, load them, and go on until told to end."""
    shift = [0.0]
    clock = time.time
    time.time = lambda: clock() + shift[0]
    with ExitStack() as stack:
        store = stack.enter_context(bc.connect(options.url, timeout_s=2.0, at_once=False))
        caps = [bc.FrequencyCap(times=1, within=timedelta(seconds=options.within))]
        backup = options.backup
        makers = {
            kind: stack.enter_context(
                bc.Recommender(
                    bc.Bandit(NAME, store),
                    # One of them follows whatever comes and goes, as a service's only one would.
                    None if kind == "caps" else (*LEAVES, UNKNOWN),
                    budget=options.budget,
                    max_age=options.max_age,
                    default=DEFAULT,
                    mode="live" if kind == "live" else "bank",
                    poll_s=options.poll,
                    backup=None if backup is None else backup / kind,
                    caps=caps if kind == "caps" else (),
                )
            )
            for kind in KINDS
            if kind != "mark"
        }
        begun = time.perf_counter()
        errors = []
        for recommender in makers.values():
            try:
                recommender.warm_up(timeout_s=options.warm_up)
            except bc.BanditCoreError as error:  # a service says so, and goes on with its default
                errors.append(f"{type(error).__name__}: {error}")
        took = time.perf_counter() - begun
        generator = Generator(options, makers)
        _say({"warm_up_s": took, "errors": errors, "ready": [m.ready for m in makers.values()]})
        for command in _commands():
            if command["do"] == "phase":
                _say(generator.phase().encoded())
            elif command["do"] == "clock":
                shift[0] = float(command["shift"])
                _say({})
            elif command["do"] == "state":
                _say({kind: repr(made.polling) for kind, made in makers.items()})
            elif command["do"] == "held":
                _say({kind: len(made._loader.rungs) for kind, made in makers.items()})
            else:
                break
        generator.stop()
    _say({"threads": _threads_left(), "files": _files_left()})


def _threads_left() -> list[str]:
    return [each.name for each in threading.enumerate() if each is not threading.main_thread()]


def _files_left() -> list[str]:
    """Return what is open besides the standard streams, if this system tells.

    Clients of nodes that a cluster has lost hang together in circles: the collector closes them.
    """
    gc.collect()
    place = Path("/proc/self/fd")
    found = []
    for file in list(place.iterdir()) if place.exists() else []:
        try:
            target = str(file.readlink())
        except FileNotFoundError:  # the listing's own
            continue
        if int(file.name) > 2 and not target.startswith("anon_inode"):
            found.append(target)
    return found


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--arms", type=int, required=True, help="of a segment")
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--max-age", type=float, default=5.0)
    parser.add_argument("--poll", type=float, default=0.5)
    parser.add_argument("--within", type=float, default=86_400.0, help="seconds of the cap")
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--backup", type=Path)
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
