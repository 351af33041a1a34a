"""Kills producers, workers and the server at random, and then accounts for every event.

Producers record batches under names and events with ids, writers append to logs, workers ingest
the logs (two of them each log), an administrator adds and retires arms, a reader watches that no
count ever falls. Each is a process, and each is killed with SIGKILL again and again, as is the
server, which also hangs, fills up, loses its disk and its functions; connections are cut and
replies lost. In the end all that was left half done is sent again, and the counts of every arm
must be exactly what was emitted.

With --streams, emitters and workers of streams run beside them. Which events an emitter had under
way when it was killed is open; that none of them counts twice is not.

Usage: chaos.py [--minutes 10] [--seed N] [--kind valkey|redis] [--streams]
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
from contextlib import closing
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import chaos_churn
import chaos_fading
from chaos_accounts import Accounts
from chaos_monkey import Monkey, Role
from chaos_roles import LOGS, NAME, PRODUCERS, ROLES, finish_line, log_path

from banditcore import Bandit, connect
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog
from faults.server import MortalServer
from proxy import Proxy, proxy_before
from servers import wait_until

RUNNING = (
    *("produce",) * PRODUCERS,
    *("write",) * LOGS,
    *("work",) * 2,
    *("administrate", "read"),
    *chaos_churn.RUNNING,
    *chaos_fading.RUNNING,
)
ALL_ROLES = {**ROLES, **chaos_churn.ROLES, **chaos_fading.ROLES}


def streams() -> ModuleType:
    """Return what emits and applies streams; runs without them do not need it."""
    return importlib.import_module("chaos_streams")


def run(options: argparse.Namespace) -> bool:
    """Run everything and account for it."""
    with closing(MortalServer(options.kind)) as server, proxy_before(server.path) as proxy:
        with connect(server.url, timeout_s=20) as store:
            chaos_fading.prepare(options, store)
        harm(options, server, proxy)
        proxy.heal()
        server.heal()
        drain(options, server)
        with connect(server.url, timeout_s=20) as store:
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


def harm(options: argparse.Namespace, server: MortalServer, proxy: Proxy) -> None:
    """Start every process, do harm for as long as asked, and kill them all."""
    dice = random.Random(options.seed)  # noqa: S311 - it has to be repeatable
    urls = (proxy.url, server.url)
    names = RUNNING + (streams().RUNNING if options.streams else ())
    roles = [
        Role(name, names[:i].count(name), urls[i % 2], options) for i, name in enumerate(names)
    ]
    monkey = Monkey(server, proxy, roles, dice)
    try:
        logs = [log_path(options.directory, number) for number in range(LOGS)]
        wait_until(lambda: all(map(Path.exists, logs)), "the processes do not start")
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


def drain(options: argparse.Namespace, server: MortalServer) -> None:
    """Let each producer send what it was killed over."""
    for name, count in (("produce", PRODUCERS), ("churn", chaos_churn.CHURNERS)):
        for number in range(count):
            role = Role(name, number, server.url, options, "--drain")
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
