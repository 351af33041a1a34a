"""What a segment, an event and a request take: bytes, and seconds of processors, not of the clock.

Run it from the repository, with the extra `test`:
``python scripts/measuring/measure_capacity.py``. It takes a minute or two; docs/capacity.md says
what follows. Processor time is that of this process and of the server (INFO cpu) together or apart,
so other work on the machine disturbs it little.
"""

from __future__ import annotations

import argparse
import http
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import banditcore as bc
from banditcore.benchmarking.workloads import clicks
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store import keys
from servers import binaries, running_server

ROOT = Path(__file__).parents[2]
ARMS = 1_000
SEGMENTS = 200
PAIRS = 400
"""Candidates of a request in the workload that all this is for."""

USERS = [f"u{i}" for i in range(1_000)]
SERVICES = ("fastapi_service", "flask_service", "plain_service")


def server_cpu(store: bc.Store) -> float:
    """Return the processor time the server has taken, in seconds."""
    facts = store.client.info("cpu")
    return float(facts["used_cpu_user"] + facts["used_cpu_sys"])


def cpu(store: bc.Store, work: Callable[[], object]) -> tuple[float, float]:
    """Return the processor seconds that work takes here, and in the server."""
    ours, theirs = time.process_time(), server_cpu(store)
    work()
    return time.process_time() - ours, server_cpu(store) - theirs


def say(what: str, *figures: str) -> None:
    """Print one line of the table."""
    print("| " + " | ".join((what, *figures)) + " |", flush=True)


def record(bandit: bc.Bandit, segments: int, arms: int) -> None:
    """Count impressions and clicks of all arms, a batch a segment."""
    ids = [f"item-{i:08}" for i in range(arms)]
    posterior = clicks(arms, 1)
    trials = np.round(posterior.alpha + posterior.beta)
    for number in range(segments):
        bandit.record_batch(
            {
                "segment": [f"S/{number}"] * arms,
                "arm": ids,
                "trials": trials,
                "successes": np.minimum(np.round(posterior.alpha), trials),
            }
        )


def segments(store: bc.Store) -> None:
    """Bytes of a segment in the server, and what drawing it takes."""
    for name, prior in (("fixed prior", bc.Prior(1, 30)), ("empirical prior", "empirical")):
        shop = bc.Bandit(f"shop {name}", store, prior=prior)
        record(shop, SEGMENTS, ARMS)
        ours, theirs = cpu(store, shop.refresh)
        say(
            f"refresh of a segment, {name}",
            f"{1e3 * ours / SEGMENTS:.1f} ms",
            f"{1e3 * theirs / SEGMENTS:.2f} ms",
        )
    of = keys.of_segment(shop.name, "S/7")
    sizes = {
        "counts": store.client.memory_usage(of.state, samples=0),
        "arm ids": store.client.memory_usage(of.arms, samples=0),
        "blob": store.client.memory_usage(of.blob, samples=0),
    }
    for what, size in sizes.items():
        say(f"bytes of a segment: {what}", f"{size:,}")


def events(store: bc.Store) -> None:
    """Bytes of an event in its stream, and what emitting and applying it takes."""
    shop = bc.Bandit("events", store)
    worker = IngestWorker(shop, RedisStreamSource(shop, retain_s=3600))
    rng = np.random.default_rng(1)
    n, batch = 200_000, 1_000

    def emit() -> None:
        for _ in range(n // batch):
            shop.emit(
                {
                    "segment": [f"S/{i}" for i in rng.integers(100, size=batch)],
                    "arm": [f"item-{i}" for i in rng.integers(ARMS, size=batch)],
                    "reward": (rng.random(batch) < 0.05).astype(float),
                }
            )
        shop.flush()

    def drain() -> None:
        while worker.step():
            pass

    emit()
    drain()  # segments and arms exist from now on
    before = store.client.info("memory")["used_memory"]
    emitted = cpu(store, emit)
    grown = store.client.info("memory")["used_memory"] - before
    applied = cpu(store, drain)
    say("bytes of an event in its stream", f"{grown / n:.0f}")
    for what, (ours, theirs) in {"emitting": emitted, "applying": applied}.items():
        say(f"{what} an event", f"{1e6 * ours / n:.2f} us", f"{1e6 * theirs / n:.2f} us")
    shop.close()


def requests(store: bc.Store) -> None:
    """Measure what a request over 400 candidates takes."""
    posterior = clicks(PAIRS, 1)
    shop = bc.Bandit("requests", store)
    record(shop, 1, PAIRS)
    shop.refresh()
    n = 20_000

    def drawn() -> None:
        bc.sample_beta(posterior.alpha, posterior.beta, size=n, threads=1)

    def decided() -> None:
        bc.thompson_topk(posterior.alpha, posterior.beta, 10, size=n, threads=1)

    for name, work in (("sample_beta", drawn), ("thompson_topk", decided)):
        ours, _ = cpu(store, work)
        rate = f"{PAIRS * n / ours:,.0f}"
        say(f"{name}, {PAIRS} arms, {n:,} rows", f"{1e6 * ours / n:.2f} us", "", rate)
    for mode in ("bank", "live"):
        for caps in ([], [bc.FrequencyCap()]):
            with bc.Recommender(shop, mode=mode, caps=caps, poll_s=None) as recommender:
                recommender.warm_up()
                for user in USERS if caps else ():
                    recommender.mark_seen(user, [f"item-{i:08}" for i in range(50)])

                def ask(recommender: bc.Recommender = recommender) -> None:
                    for i in range(n):
                        recommender.recommend("S/0", 10, user=USERS[i % len(USERS)])

                ask()
                ours, theirs = cpu(store, ask)
                name = f"recommend, {mode}" + (", with what the user has seen" if caps else "")
                rate = f"{PAIRS * n / (ours + theirs):,.0f}"
                say(name, f"{1e6 * ours / n:.1f} us", f"{1e6 * theirs / n:.1f} us", rate)

                def ask_many(recommender: bc.Recommender = recommender) -> None:
                    for _ in range(n // len(USERS)):
                        recommender.recommend_many("S/0", USERS, 10)

                ours, theirs = cpu(store, ask_many)
                rate = f"{PAIRS * n / (ours + theirs):,.0f}"
                name = name.replace("recommend", f"recommend_many of {len(USERS):,}")
                say(name, f"{1e6 * ours / n:.2f} us", f"{1e6 * theirs / n:.2f} us", rate)


def marks(store: bc.Store) -> None:
    """Measure what it takes to note the ten arms that a user was shown."""
    n = 10_000
    ids = [f"item-{i:08}" for i in range(PAIRS)]
    shop = bc.Bandit("requests", store)
    with bc.Recommender(shop, caps=[bc.FrequencyCap()], default=ids[:1]) as recommender:
        recommender.warm_up()

        def mark() -> None:
            for i in range(n):
                first = 10 * (i // len(USERS))
                recommender.mark_seen(USERS[i % len(USERS)], ids[first : first + 10])

        ours, theirs = cpu(store, mark)
        say("mark_seen of 10 arms", f"{1e6 * ours / n:.0f} us", f"{1e6 * theirs / n:.0f} us")


@contextmanager
def serving(name: str, url: str) -> Iterator[tuple[int, http.client.HTTPConnection]]:
    """Run an example; yield its process id and a connection."""
    pythons = os.pathsep.join([str(ROOT / "src"), *sys.path])
    with subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, ROOT / "examples" / f"{name}.py", "--port", "0"],
        env={**os.environ, "BANDITCORE_URL": url, "PYTHONPATH": pythons},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        at = urlsplit(process.stdout.readline().strip() if process.stdout else "")
        line = http.client.HTTPConnection(str(at.hostname), at.port, timeout=60)
        yield process.pid, line
        line.close()
        process.terminate()


def process_cpu(pid: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def services(store: bc.Store) -> None:
    """Measure what a request over HTTP takes, with the look at what the user has seen."""
    shop = bc.Bandit("shop", store)
    record(shop, 1, PAIRS)
    shop.refresh()
    n = 2_000
    for name in SERVICES:
        with serving(name, store.url) as (pid, line):

            def ask(line: http.client.HTTPConnection = line) -> None:
                for i in range(n):
                    line.request("GET", f"/recommend?segment=S/0&user={USERS[i % len(USERS)]}")
                    answer = line.getresponse()
                    if answer.status != http.HTTPStatus.OK:
                        raise RuntimeError(answer.read())
                    answer.read()

            ask()
            before, theirs = process_cpu(pid), server_cpu(store)
            ask()
            ours, theirs = process_cpu(pid) - before, server_cpu(store) - theirs
            rate = f"{PAIRS * n / (ours + theirs):,.0f}"
            say(f"HTTP, {name}", f"{1e6 * ours / n:.0f} us", f"{1e6 * theirs / n:.0f} us", rate)


def main() -> None:
    """Print a table for each kind of server."""
    for kind in binaries():
        with running_server(kind) as server, bc.connect(server.url) as store:
            facts = store.client.info("server")
            print(f"\n{kind} {facts.get('valkey_version', facts['redis_version'])}")
            say("what", "here", "the server", f"pairs a second and core, {PAIRS} a request")
            say("---", "---", "---", "---")
            segments(store)
            events(store)
            if kind == "valkey":
                requests(store)
                marks(store)
                services(store)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]).parse_args()
    main()
