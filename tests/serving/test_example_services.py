"""The services in examples/, each as a process of its own that is called over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

from banditcore.bandit import Bandit
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store.connect import connect
from banditcore.store.event_streams import partitions
from faults.server import MortalServer
from servers import wait_until
from streamed import running, stored

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["fastapi_service", "flask_service", "plain_service"]
ARMS = ["hat", "scarf", "shoe"]


@pytest.fixture
def server() -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


class Service:
    """A running example and a client of it."""

    def __init__(self, name: str, url: str, **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BANDITCORE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", "--port", "0"],
            env={
                **kept,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "BANDITCORE_URL": url,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        base = self.process.stdout.readline().strip()
        assert base, self.process.communicate()[1]
        self.answers = 0
        # A proxy of the environment has no business here.
        self._client = httpx.Client(base_url=base, timeout=60, trust_env=False)

    def get(self, path: str, **query: str | int) -> tuple[int, Any]:
        answer = self._client.get(path, params=query)
        return answer.status_code, answer.json()

    def answer(self, segment: str, **query: str | int) -> tuple[list[str], str]:
        """Return arms and source of an answer that is all it should be.

        On a machine that is busy a look at what the user has seen may take too long.
        """
        answers = []

        def is_whole() -> bool:
            status, answer = self.get("/recommend", segment=segment, **query)
            assert status == 200
            assert answer["version"] > 0
            self.answers += 1
            answers.append(answer)
            assert answer["degraded"] in ([], ["seen"])
            return answer["degraded"] == []

        wait_until(is_whole, "what users have seen cannot be looked up")
        return answers[-1]["arms"], answers[-1]["source"]

    def status(self, path: str, **query: str | int) -> int:
        return self._client.get(path, params=query).status_code

    def post(self, path: str, body: object) -> int:
        return self._client.post(path, json=body).status_code

    def text(self, path: str) -> str:
        return self._client.get(path).raise_for_status().text

    def terminate(self) -> str:
        """End it as a machine does that wants to stop it; return what it said."""
        self._client.close()
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, out) == (0, ""), err
        with pytest.raises(ProcessLookupError):  # its session is empty
            os.killpg(self.process.pid, 0)
        return err

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self.process.kill()
        self.process.communicate()


def publish(server: MortalServer) -> None:
    with connect(server.url, timeout_s=30) as store:
        shop = Bandit("shop", store)
        shop.record_batch({"segment": ["IN"] * 3, "arm": ARMS, "reward": [1, 0, 0]})
        assert shop.refresh().published == ("", "IN")


@contextmanager
def ingesting(server: MortalServer) -> Iterator[Bandit]:
    with connect(server.url) as store:
        shop = Bandit("shop", store)
        with running(IngestWorker(shop, RedisStreamSource(shop))):
            yield shop


def body(*arms: str, segment: str = "IN", user: str = "u1") -> dict[str, object]:
    return {"user": user, "segment": segment, "arms": list(arms)}


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_and_what_it_is_told_is_counted(name: str, server: MortalServer) -> None:
    publish(server)
    with Service(name, server.url) as service:
        assert service.get("/ready") == (200, {"ready": True})
        [first, second], source = service.answer("IN/mobile", k=2, user="u1")
        assert source == "IN"
        assert {first, second} < set(ARMS)

        assert service.post("/shown", body(first)) == 202
        wait_until(  # the mark, too, may be stored late
            lambda: set(service.answer("IN", user="u1")[0]) == set(ARMS) - {first},
            "within 24 hours it is shown again",
        )
        assert set(service.answer("IN", user="u2")[0]) == set(ARMS)

        assert service.post("/chosen", body(first)) == 202
        expected = {arm: (1.0, 1.0 if arm == "hat" else 0.0) for arm in ARMS}
        trials, successes = expected[first]
        expected[first] = (trials + 1, successes + 1)
        with ingesting(server) as shop:
            wait_until(lambda: stored(shop.store, "shop") == {"IN": expected}, "not counted")

        counted = re.findall(
            r'^banditcore_request_seconds_count\{bandit="shop",rung="(.+)"\} (.+)$',
            service.text("/metrics"),
            re.MULTILINE,
        )
        assert {"segment", "parent"} <= {rung for rung, _ in counted}
        assert sum(float(count) for _, count in counted) == service.answers
        assert service.terminate() == ""


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_and_changes_nothing(name: str, server: MortalServer) -> None:
    publish(server)
    with Service(name, server.url) as service:
        for query in (
            {"segment": "IN", "k": 0},
            {"segment": "IN", "k": "ten"},
            {"segment": "IN//mobile"},
            {"segment": "IN", "user": ""},
        ):
            assert service.status("/recommend", **query) == 422, query
        for bad in (
            body("hat", ""),
            body("hat", segment="IN//mobile"),
            body("hat", user=""),
            {**body("hat"), "arms": "hat"},
            {**body("hat"), "arms": ["hat", 7]},
            {**body("hat"), "user": 7},
            {"user": "u1", "segment": "IN"},
            ["hat"],
        ):
            assert service.post("/shown", bad) == 422, bad
            assert service.post("/chosen", bad) == 422, bad
        if name != "fastapi_service":  # its answers are pydantic's
            why = "k is 'ten': a whole number is needed"
            assert service.get("/recommend", segment="IN", k="ten") == (422, {"detail": why})
        status, answer = service.get("/nothing")
        assert (status, list(answer)) == (404, ["detail"])
        assert set(service.answer("IN", user="u1")[0]) == set(ARMS)  # nothing was marked
        assert service.terminate() == ""  # what was accepted would be sent now
    with connect(server.url) as store:
        assert partitions.load(store, "shop") is None


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_without_the_store_and_loses_no_event(name: str, server: MortalServer) -> None:
    publish(server)
    with Service(name, server.url) as service:
        assert service.get("/ready") == (200, {"ready": True})
        server.kill()
        _, answer = service.get("/recommend", segment="IN", user="u1")
        assert (set(answer["arms"]), answer["source"]) == (set(ARMS), "IN")
        assert answer["degraded"] == ["seen"]
        assert service.get("/recommend", segment="IN")[1]["degraded"] == []
        assert service.post("/shown", body("hat", user="u2")) == 202
        _, answer = service.get("/recommend", segment="IN", user="u2")
        assert set(answer["arms"]) == set(ARMS) - {"hat"}  # this process remembers
        assert service.get("/ready") == (200, {"ready": True})
        server.start()
        with ingesting(server) as shop:
            wait_until(
                lambda: stored(shop.store, "shop")["IN"]["hat"] == (2.0, 1.0), "the event is lost"
            )
        server.kill()
        # A look for new snapshots may have met the outage.
        said = service.terminate().splitlines()
        assert [line for line in said if "snapshots are not refreshed until" not in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_without_the_store(name: str, server: MortalServer) -> None:
    publish(server)
    server.kill()
    with Service(name, server.url, BESTSELLERS="sock") as service:
        assert service.get("/ready") == (503, {"ready": False})
        _, answer = service.get("/recommend", segment="IN", user="u1")
        assert (answer["arms"], answer["degraded"]) == (["sock"], ["default", "seen"])
        assert service.post("/shown", body("hat")) == 202
        server.start()
        wait_until(lambda: service.status("/ready") == 200, "it does not become ready")
        assert service.get("/recommend", segment="IN")[1]["degraded"] == []
        with ingesting(server) as shop:
            wait_until(
                lambda: stored(shop.store, "shop")["IN"]["hat"] == (2.0, 1.0), "the event is lost"
            )
        assert "not ready yet: " in service.terminate()


@pytest.mark.parametrize("name", NAMES)
def test_without_anything_to_answer_with_it_says_so(name: str, server: MortalServer) -> None:
    with Service(name, server.url) as service:
        assert service.status("/recommend", segment="IN") == 503
        assert service.terminate().startswith("not ready yet: ")


@pytest.mark.slow  # it waits five seconds for the store
@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_delivered_before_the_end_is_said(name: str, server: MortalServer) -> None:
    publish(server)
    with Service(name, server.url) as service:
        assert service.get("/ready") == (200, {"ready": True})
        server.kill()
        assert service.post("/shown", body("hat")) == 202
        assert "events are lost: " in service.terminate()
