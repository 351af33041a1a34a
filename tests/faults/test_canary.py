"""A password in the address of a store shows nowhere: logs, reprs, metrics, errors, output."""

from __future__ import annotations

import gc
import logging
import re
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import banditcore as bc
from banditcore.cli import main
from banditcore.cli.live_state import LiveReader
from banditcore.emitting.replaying import replay
from banditcore.ingest import IngestWorker, WorkerReport
from banditcore.ingest.metering import IngestMeter
from banditcore.ingest.sources.redis_group import RedisGroupSource
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.prometheus import PrometheusMetrics
from banditcore.refresh.metering import RefreshMeter
from banditcore.store import leases
from refusals import CANARY
from servers import running_server, wait_until
from streamed import killed
from terminals import spawn

TELLTALE = re.compile("Canary")
"""Stands in the password as it is, quoted for a URL, and as the end of either."""


@dataclass
class Place:
    """A server that asks for the password, and how it is reached, rightly and wrongly."""

    server: object
    right: str
    wrong: str


@pytest.fixture
def place() -> Iterator[Place]:
    with running_server(options={"requirepass": CANARY}, tcp=True) as server:
        encoded = quote(CANARY, safe="")
        at = f"@127.0.0.1:{server.port}/0"
        yield Place(server, f"redis://:{encoded}{at}", f"redis://default:wrong-{encoded}{at}")


@pytest.fixture(autouse=True)
def _scanned(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Scan all logs, whatever their level and library, and all that was written."""
    with caplog.at_level(logging.DEBUG):
        yield
    for record in caplog.records:
        clean(record.getMessage(), repr(record.args), record.exc_text or "")
    clean(*capfd.readouterr())


def clean(*texts: str) -> None:
    for text in texts:
        assert not TELLTALE.search(text), text


def clean_error(error: BaseException) -> None:
    link: BaseException | None = error
    while link is not None:
        clean(str(link), repr(link), repr(link.args))
        link = link.__cause__ or link.__context__
    clean(*traceback.format_exception(error))


def clean_objects() -> None:
    """Scan the repr of every object of ours that is alive."""
    ours = [
        each for each in gc.get_objects() if str(type(each).__module__).startswith("banditcore")
    ]
    assert len(ours) > 5
    for each in ours:
        if not isinstance(each, BaseException):
            clean(repr(each), str(each))


@contextmanager
def clean_failure() -> Iterator[None]:
    with pytest.raises(bc.BanditCoreError) as caught:
        yield
    clean_error(caught.value)


def test_the_telltale_is_in_all_forms_of_the_password() -> None:
    for form in (CANARY, quote(CANARY, safe=""), repr(CANARY), CANARY.rpartition("#")[2]):
        with pytest.raises(AssertionError):
            clean(f"redis://:{form}@host")


def test_a_wrong_password_is_not_repeated(place: Place) -> None:
    with clean_failure():
        bc.connect(place.wrong)
    clean_objects()


def test_the_library_never_shows_it(place: Place, tmp_path: Path) -> None:
    metrics = PrometheusMetrics(CollectorRegistry())
    with bc.connect(place.right, timeout_s=60) as store:
        bandit = bc.Bandit("home", store, prior=bc.Prior(1, 30))
        bandit.record("IN", "a")
        emitter = bc.Emitter(bandit)
        emitter.emit([bc.Event("IN", "a", 1.0)])
        emitter.flush(60)
        source = RedisStreamSource(bandit)
        worker = IngestWorker(bandit, source)
        meter = IngestMeter(metrics, "home")
        worker.step()
        meter(worker.report())
        lease = leases.bandit_lease(store, "home", "refresh")
        lease.acquire()
        RefreshMeter(metrics, "home").run(bandit.refresh)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            bandit.refresh(executor=pool)
        refresher = bc.Refresher(bandit, on_notice=clean, on_report=lambda each: clean(repr(each)))
        refresher.step()
        group = RedisGroupSource(bandit, "clicks")
        sharing = IngestWorker(bandit, group)
        sharing.step()
        recommender = bc.Recommender(
            bandit,
            default=["a"],
            caps=[bc.FrequencyCap()],
            backup=tmp_path / "backup",
            metrics=metrics,
        )
        recommender.warm_up()
        recommender.mark_seen("u", ["a"])
        recommender.recommend("IN", user="u")
        reader = LiveReader(store, None, 5)
        clean(repr(reader.read()))
        clean_objects()
        killed(place.server)
        for failing in (
            recommender.reload,
            bandit.segments,
            bandit.refresh,
            lambda: RefreshMeter(metrics, "home").run(bandit.refresh),
            lambda: bandit.posterior("IN"),
            lambda: bc.Bandit("home", store, retry_for=0 * bandit.window).record("IN", "a"),
            worker.step,
            sharing.step,
            refresher.step,
            lambda: replay(store, "home", 0),
            lambda: bc.Recommender(bandit).warm_up(),
            lease.acquire,
            lambda: bc.verify_store(store),
            lambda: bc.export_bandit(bandit, tmp_path / "x"),
            lambda: bc.forget_bandit(store, "home"),
            reader.read,
            lambda: bc.connect(place.right, timeout_s=0.1),
        ):
            with clean_failure():
                failing()
        meter(worker_report_of(worker))
        answer = recommender.recommend("IN", user="u")
        assert "seen" in answer.degraded
        recommender.mark_seen("u", ["a"])
        clean(repr(answer), repr(recommender.seen_stats), repr(recommender.polling))
        with bc.connect(place.right, at_once=False) as later:
            clean(repr(later))
            with clean_failure():
                later.server_time()
            with bc.Recommender(bc.Bandit("home", later), backup=tmp_path / "backup") as restarted:
                restarted.warm_up(timeout_s=60)
                assert restarted.recommend("IN").degraded == ("stale",)
                clean(repr(restarted.polling), repr(dict(restarted.rejected)))
        emitter.emit([bc.Event("IN", "a", 1.0)])
        with suppress(bc.BanditCoreError):
            emitter.close(0.1)
        clean_objects()
        clean(generate_latest(metrics.exposed).decode())
        for file in (tmp_path / "backup").rglob("*"):
            clean(str(file), file.read_bytes().decode(errors="replace") if file.is_file() else "")
        source.close()
        group.close()
        recommender.close()


def worker_report_of(worker: IngestWorker) -> WorkerReport:
    """Let a worker that lost its store report as `run` would."""
    reports: list[WorkerReport] = []
    worker._on_report = reports.append
    worker._publish_report()
    clean(repr(reports))
    return reports[0]


@pytest.mark.parametrize("debug", ["0", "1"])
def test_commands_never_show_it(place: Place, tmp_path: Path, monkeypatch, capfd, debug) -> None:
    monkeypatch.setenv("BANDITCORE_DEBUG", debug)
    log, file = tmp_path / "log.csv", tmp_path / "home.bce"
    log.write_text("segment,arm,reward,time\nIN,a,1,1700000000\nIN,b,x,1700000000\n")
    commands = [
        ["ingest", str(log), "--bandit", "home"],
        ["refresh", "--bandit", "home"],
        ["recommend", "--bandit", "home", "--segment", "IN"],
        ["inspect"],
        ["inspect", "home"],
        ["inspect", "home", "IN"],
        ["dead-letters", "--bandit", "home"],
        ["verify"],
        ["export", str(file), "--bandit", "home"],
        ["import", str(file), "--bandit", "copy"],
        ["forget", "copy", "--yes"],
    ]

    def codes(url: str) -> list[int]:
        found = []
        for command in commands:
            found.append(main([*command, "--url", url]))
            clean(*capfd.readouterr())
        return found

    assert codes(place.right) == [0] * len(commands)
    live = [
        ["inspect", "--live"],
        ["ingest", "--follow"],
        ["ingest", "--follow", "--bandit", "home", "--stream", "clicks"],
        ["refresh", "--every", "60s"],
    ]
    commands += live
    assert set(codes(place.wrong)) == {3}
    killed(place.server)
    commands = [command for command in commands if command not in live]
    assert set(codes(place.right)) == {3}
    for command in live:  # which wait
        with spawn(*command, "--url", place.right, stdout=-1) as process:
            said = process.stderr.readline()
            process.terminate()
            out, err = process.communicate(timeout=60)
        assert said.startswith("waiting: ")
        assert process.returncode == 0
        clean(said, out, err)
    monkeypatch.setenv("BANDITCORE_URL", place.wrong)
    commands = live
    assert main(["inspect"]) == 3


def test_commands_that_go_on_never_show_it(place: Place) -> None:
    with bc.connect(place.right) as store:
        bandit = bc.Bandit("home", store)
        bandit.emit([bc.Event("IN", "a", 1.0)])
        bandit.flush(60)
        bandit.refresh()
        bandit.close(60)
    options = ("--url", place.right)
    watching = spawn("inspect", "--live", "--interval", "0.05s", "--json", *options, stdout=-1)
    following = spawn(
        *("ingest", "--follow", "--metrics-port", "0", "--report-every", "0.05s", *options),
        stdout=-1,
    )
    with watching, following:
        seen = [watching.stdout.readline()]
        url = following.stderr.readline()
        seen.append(url)

        def tells(outage: float) -> bool:
            with urlopen(url.removeprefix("metrics: ").strip()) as reply:
                seen.append(reply.read().decode())
            line = f'banditcore_ingest_outage{{bandit="home",source="stream"}} {outage}'
            return line in seen[-1]

        wait_until(lambda: tells(0.0), "no worker tells")
        killed(place.server)
        while '"error": null' in (line := watching.stdout.readline()):
            seen.append(line)
        seen.append(line)
        wait_until(lambda: tells(1.0), "no outage is told")
        for process in (watching, following):
            process.terminate()
            seen += process.communicate(timeout=60)
            assert process.returncode == 0
    clean(*seen)
    assert any("unreachable" in text for text in seen)
    assert any("waiting: " in text for text in seen)
