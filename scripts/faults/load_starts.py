"""Cold starts of a service whose store is down, loads, hangs, or holds damage.

Each service is under load from its first moment, with the caller's default; with a backup it must
answer from that, labelled, and once the store is well every answer must become as promised.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing

from load_report import Report, answered
from load_requests import LEAVES, NAME
from load_stage import Service, Settings, prepare, refresher, wait_for_recovery

from banditcore.store import keys
from faults.server import MortalServer

_WARM_UP_S = 2.0
_KEYS = 5_000
_LOADING_S = 20.0  # longer than a start may take

Harm = Callable[[MortalServer], None]


def _down(server: MortalServer) -> None:
    server.kill()


def _loading(server: MortalServer) -> None:
    with server.admin.pipeline(transaction=False) as pipeline:
        for i in range(_KEYS):
            pipeline.set(f"k{i}", b"x")
        pipeline.execute()
    server.kill()
    server.start(key_load_delay=str(int(_LOADING_S * 1e6 / _KEYS)))


def _hung(server: MortalServer) -> None:
    server.stop()


def _corrupt(server: MortalServer) -> None:
    for segment in LEAVES:
        server.admin.setrange(keys.of_segment(NAME, segment).blob, 1_000, b"damaged")


HARMS: dict[str, Harm] = {
    "down": _down,
    "loading": _loading,
    "hung": _hung,
    "corrupt blobs": _corrupt,
}


def cold_starts(settings: Settings, report: Report) -> None:
    """Start services against harmed stores, with and without a backup, and print a table."""
    print(
        f"\n{'start, store is':24} {'backup':8} {'start s':>8} {'ready':>6} {'labels until well'}"
    )
    for name, harm in HARMS.items():
        for has_backup in (False, True):
            with closing(MortalServer(settings.kind)) as server:
                _start(settings, report, server, name, harm, has_backup=has_backup)


def _start(
    settings: Settings,
    report: Report,
    server: MortalServer,
    name: str,
    harm: Harm,
    *,
    has_backup: bool,
) -> None:
    prepare(settings, server.url)
    backup = settings.directory / "backup"
    more = ["--warm-up", str(_WARM_UP_S)]
    if has_backup:
        more += ["--backup", str(backup)]
        Service(settings, server.url, *more).end()
    harm(server)
    service = Service(settings, server.url, *more)
    try:
        first = answered(service.phase()).labels
        started = service.started
        if name == "loading":
            server.kill()
        server.heal()
        publisher = refresher(settings, server.url)
        try:
            _, seen = wait_for_recovery(service)
        finally:
            publisher.kill()
        tally = answered(seen)
        labels = {label: n for label, n in (first + tally.labels).items() if n}
        print(
            f"{name:24} {'yes' if has_backup else 'no':8} {started['warm_up_s']:8.2f} "
            f"{'yes' if all(started['ready']) else 'no':>6} {labels}",
            flush=True,
        )
        for what in (*tally.exceptions, *tally.wrong):
            report.accuse(f"start, {name}: {what}")
        if has_backup and not all(started["ready"]):
            report.accuse(f"start, {name}: the backup was not used: {started}")
        service.end()
    finally:
        service.kill()
        shutil.rmtree(backup, ignore_errors=True)
