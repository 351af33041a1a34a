"""The processes around a load: the service, the refresher, the ingest worker and emitters."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from load_requests import LEAVES, NAME
from load_tally import Phase

import banditcore as bc

_ANSWER_S = 60.0
_END_S = 90.0
_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """What all stages have in common; see `load.py`."""

    directory: Path
    seed: int
    seconds: float
    rate: float
    threads: int
    arms: int
    max_age: float
    poll: float
    every: float
    budget: float
    events: float
    kind: str


class Process:
    """A process of ours; what it says on stderr is kept in a file of the directory."""

    def __init__(self, directory: Path, *command: str) -> None:
        self._directory = directory
        self._command = [sys.executable, *command]
        self.start()

    def start(self) -> None:
        """Start it."""
        with (self._directory / "errors").open("ab") as said:
            self.process = subprocess.Popen(  # noqa: S603 - our own
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(
            target=_listen, args=(self.process, self._lines), daemon=True
        )
        self._listener.start()

    def line(self, timeout_s: float = _ANSWER_S) -> str:
        """Return the next line that it says."""
        return self._lines.get(timeout=timeout_s)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self._end()

    def finish(self) -> list[str]:
        """End it with SIGTERM; return all it said that was not read."""
        self.process.send_signal(signal.SIGTERM)
        self._end()
        said = []
        while not self._lines.empty():
            said.append(self._lines.get())
        if self.process.returncode:
            raise RuntimeError(f"{self._command[1:4]} ended with {self.process.returncode}")
        return said

    def _end(self) -> None:
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{self._command[1:4]} does not end") from None
        self._listener.join(_END_S)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def _listen(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)


class Service(Process):
    """A `load_service.py`; `started` is what it said of its start."""

    def __init__(self, settings: Settings, url: str, *more: str, seed: int = 0) -> None:
        super().__init__(
            settings.directory,
            *(str(_SCRIPTS / "load_service.py"), "--url", url),
            *("--seed", str(settings.seed + seed), "--rate", str(settings.rate)),
            *("--threads", str(settings.threads), "--arms", str(settings.arms)),
            *("--budget", str(settings.budget), "--max-age", str(settings.max_age)),
            *("--poll", str(settings.poll), *more),
        )
        self.started: dict[str, Any] = json.loads(self.line())

    def ask(self, **command: object) -> Any:
        """Say something and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def phase(self) -> Phase:
        """Return what happened since the last time."""
        return Phase.decoded(self.ask(do="phase"))

    def end(self) -> dict[str, list[str]]:
        """Close it; return which threads and files it left behind."""
        left: dict[str, list[str]] = self.ask(do="end")
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._end()
        if self.process.returncode:
            raise RuntimeError(f"the service ended with {self.process.returncode}")
        return left


def refresher(settings: Settings, url: str) -> Process:
    """Start `banditcore refresh --every`."""
    every = f"{settings.every:g}s"
    return _companion(settings, url, "refresh", "--bandit", NAME, "--every", every)


def ingester(settings: Settings, url: str) -> Process:
    """Start `banditcore ingest --follow`."""
    return _companion(settings, url, "ingest", "--bandit", NAME, "--follow")


def emitter(settings: Settings, url: str, seed: int = 0) -> Process:
    """Start a `load_emitter.py`."""
    return Process(
        settings.directory,
        *(str(_SCRIPTS / "load_emitter.py"), "--url", url, "--seed", str(settings.seed + seed)),
        *("--arms", str(settings.arms), "--rate", str(settings.events)),
    )


def _companion(settings: Settings, url: str, *words: str) -> Process:
    return Process(settings.directory, "-m", "banditcore", words[0], "--url", url, *words[1:])


def prepare(settings: Settings, url: str) -> tuple[int, int]:
    """Let the bandit have arms, counts and snapshots; return all trials and successes."""
    dice = np.random.default_rng(settings.seed)
    total = successful = 0
    with bc.connect(url, timeout_s=60) as store:
        bandit = bc.Bandit(NAME, store)
        for segment in LEAVES:
            trials = dice.integers(1, 200, settings.arms)
            successes = dice.binomial(trials, 0.1)
            bandit.record_batch(
                {
                    "segment": [segment] * settings.arms,
                    "arm": [f"{segment}:{i}" for i in range(settings.arms)],
                    "trials": trials.tolist(),
                    "successes": successes.tolist(),
                }
            )
            total, successful = total + int(trials.sum()), successful + int(successes.sum())
        failed = bandit.refresh().failed
        if failed:
            raise RuntimeError(f"the first refresh failed: {failed}")
    return total, successful


@contextmanager
def accompanied(settings: Settings, url: str) -> Iterator[Process]:
    """Refresh, ingest and emit beside the load; yield the refresher, which may be killed."""
    companions = [refresher(settings, url)]
    try:
        if settings.events:
            companions += [ingester(settings, url), emitter(settings, url)]
        yield companions[0]
        while companions:
            companions.pop().finish()
    finally:
        for companion in companions:
            companion.kill()


def wait_for_recovery(service: Service, timeout_s: float = 60.0) -> tuple[float, Phase]:
    """Wait until answers are as promised again; return how long that took, and what it saw."""
    begun, seen = time.monotonic(), Phase()
    while time.monotonic() - begun < timeout_s:
        time.sleep(0.25)
        phase = service.phase()
        seen.add(phase)
        tally = phase.of(("bank", "live", "caps"))
        if tally.samples and not set(+tally.labels) - {"ancestor"}:
            return time.monotonic() - begun, seen
    raise RuntimeError(f"answers stay degraded: {dict(tally.labels)}, {service.ask(do='state')}")
