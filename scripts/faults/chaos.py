"""Kills producers, workers and the server at random, and then accounts for every event.

Producers record batches under names and events with ids, writers append to logs, workers ingest
the logs (two of them each log), an administrator adds and retires arms, a reader watches that no
count ever falls. Each is a process, and each is killed with SIGKILL again and again, as is the
server, which also hangs, fills up, loses its disk and its functions; connections are cut and
replies lost. In the end all that was left half done is sent again, and the counts of every arm
must be exactly what was emitted.

Beside them arms come and go by the thousand (`chaos_churn`), and a bandit fades so fast that its
landmarks move and its half-life changes under its writers (`chaos_fading`).

With --streams, emitters and workers of streams run beside them. Which events an emitter had under
way when it was killed is open; that none of them counts twice is not.

With --cluster all of it runs on three primaries with a replica each, of which primaries are killed
and hung, so that replicas take over, and slots move. A replica lacks what its primary had not sent
yet. In the end each producer sends again all that it ever sent, and what the failovers lost comes
back once. Emitters keep nothing to send again, so what a stream lost is counted as lost.

Usage: chaos.py [--minutes 10] [--seed N] [--kind valkey|redis] [--streams] [--cluster]
Exit code 0 when every event is accounted for.
"""

from __future__ import annotations

import argparse
import importlib
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import chaos_churn
import chaos_fading
from chaos_accounts import Accounts
from chaos_cluster import ClusterWorld, cluster_world
from chaos_monkey import Role, ServerWorld, server_world
from chaos_roles import LOGS, NAME, PRODUCERS, ROLES, finish_line, log_path

from banditcore import Bandit, connect
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog

RUNNING = (
    *("produce",) * PRODUCERS,
    *("write",) * LOGS,
    *("work",) * 2,
    *("administrate", "read"),
    *chaos_churn.RUNNING,
    *chaos_fading.RUNNING,
)
START_S = 120.0
ALL_ROLES = {**ROLES, **chaos_churn.ROLES, **chaos_fading.ROLES}


def streams() -> ModuleType:
    """Return what emits and applies streams; runs without them do not need it."""
    return importlib.import_module("chaos_streams")


def run(options: argparse.Namespace) -> bool:
    """Run everything and account for it."""
    world = cluster_world if options.cluster else server_world
    with world(options) as stage:
        with connect(stage.url, timeout_s=20) as store:
            chaos_fading.prepare(options, store)
        harm(options, stage)
        drain(options, stage.url)
        with connect(stage.url, timeout_s=20) as store:
            bandit = Bandit(NAME, store)
            for number in range(LOGS):
                finish_line(log_path(options.directory, number))
                ingest_log(bandit, EventLog(log_path(options.directory, number)))
            emissions = None
            if options.streams:
                streams().apply_rest(bandit)
                emissions = streams().Emissions(options)
            accounts = Accounts(options, bandit, emissions)
            accounts.settle()
    return accounts.sound


def harm(options: argparse.Namespace, stage: ServerWorld | ClusterWorld) -> None:
    """Start every process, do harm for as long as asked, kill them all, and heal the rest."""
    dice = random.Random(options.seed)  # noqa: S311 - it has to be repeatable
    names = RUNNING + (streams().RUNNING if options.streams else ())
    roles = [
        Role(name, names[:i].count(name), stage.urls[i % 2], options)
        for i, name in enumerate(names)
    ]
    monkey = stage.monkey(roles, dice)
    try:
        logs = [log_path(options.directory, number) for number in range(LOGS)]
        deadline = time.monotonic() + START_S
        while not all(map(Path.exists, logs)):
            time.sleep(0.1)
            if time.monotonic() > deadline:
                raise RuntimeError("the processes do not start")
        deadline = time.monotonic() + 60 * options.minutes
        while time.monotonic() < deadline:
            time.sleep(0.05 + 0.5 * dice.random())
            monkey.strike()
            for role in roles:
                if role.process.poll() is not None:
                    raise RuntimeError(f"{role.name} ended by itself")
    finally:
        for role in roles:
            role.kill()
    for what, times in sorted(monkey.done.items()):
        print(f"{times:6d}  {what}")
    monkey.heal()


def drain(options: argparse.Namespace, url: str) -> None:
    """Let each producer send what it was killed over."""
    for name, count in (("produce", PRODUCERS), ("churn", chaos_churn.CHURNERS)):
        for number in range(count):
            role = Role(name, number, url, options, "--drain")
            if role.process.wait(300):
                raise RuntimeError("what was left could not be sent")


def main() -> int:
    """Parse the command line and run; 0 when every event is accounted for."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--kind", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--streams", action="store_true", help="emit and apply streams too")
    parser.add_argument("--cluster", action="store_true", help="on a cluster that fails over")
    parser.add_argument("--start", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
        role = ALL_ROLES.get(options.role) or streams().ROLES[options.role]
        role(options)
        return 0
    print(f"{options.minutes:g} minutes on {options.kind}, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bcx") as directory:
        options.directory = Path(directory)
        try:
            sound = run(options)
        finally:
            said = options.directory / "errors"
            print(said.read_text(errors="replace")[-3000:], file=sys.stderr)
    print(f"every event is accounted for, seed {options.seed}" if sound else "WRONG")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
