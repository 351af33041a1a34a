"""A recommendation service on the standard library, to see what it takes without a framework.

Run it with ``python examples/plain_service.py --port 8000``. It needs the extra ``metrics``: ``pip
install ".[metrics]"`` in the checkout. The environment variable BANDITCORE_URL names the store;
beside the service run ``banditcore ingest --follow --bandit shop`` and ``banditcore refresh --every
60s --bandit shop``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from prometheus_client import generate_latest

import banditcore as bc
from banditcore.prometheus import PrometheusMetrics

LOG = logging.getLogger(__name__)
METRICS = PrometheusMetrics()
MOST_BYTES = 65_536


class Server(ThreadingHTTPServer):
    """A thread for each request. The last ones are waited for."""

    daemon_threads = False
    recommender: bc.Recommender
    events: bc.Emitter


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = 5.0  # seconds for a client to send what it has begun

    def do_GET(self) -> None:
        """Answer /recommend?segment=...&k=...&user=..., /ready and /metrics."""
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/recommend":
            self._answer(self._recommend, asked)
        elif url.path == "/ready":
            ready = self.server.recommender.ready
            self._send(200 if ready else 503, {"ready": ready})
        elif url.path == "/metrics":
            self._send(200, generate_latest(METRICS.exposed), "text/plain; version=0.0.4")
        else:
            self._send(404, {"detail": f"there is no {url.path}"})

    def do_POST(self) -> None:
        """Take /shown and /chosen: ``{"user": ..., "segment": ..., "arms": [...]}``."""
        length = int(self.headers.get("Content-Length", "0"))
        if not 0 < length <= MOST_BYTES:
            self._send(413, {"detail": f"a body of 1 to {MOST_BYTES} bytes is needed"})
        elif self.path == "/shown":
            self._answer(self._shown, self.rfile.read(length))
        elif self.path == "/chosen":
            self._answer(self._chosen, self.rfile.read(length))
        else:
            self._send(404, {"detail": f"there is no {self.path}"})

    def _recommend(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Answer from memory, but for one bounded look at what the user has seen."""
        try:
            k = int(asked.get("k", "10"))
        except ValueError as error:
            raise ValueError(f"k is {asked['k']!r}: a whole number is needed") from error
        answer = self.server.recommender.recommend(
            asked.get("segment", ""), k, user=asked.get("user")
        )
        return {name: getattr(answer, name) for name in ("arms", "source", "version", "degraded")}

    def _shown(self, body: bytes) -> None:
        """Take note of what was on the screen: a trial of each arm, and nothing to show again."""
        user, segment, arms = parsed(body)
        self.server.events.emit([bc.Event(segment, arm) for arm in arms])
        self.server.recommender.mark_seen(user, arms)

    def _chosen(self, body: bytes) -> None:
        """Take note of a reward. Its trial was counted when the arm was shown."""
        _, segment, arms = parsed(body)
        self.server.events.emit([bc.Event(segment, arm, 1.0, trials=0) for arm in arms])

    def _answer(self, work: Callable[[Any], object], given: object) -> None:
        try:
            content = work(given)
        except (ValueError, bc.InvalidTypeError) as error:  # InvalidValueError is a ValueError
            self._send(422, {"detail": str(error)})
        except bc.NotReadyError as error:  # nothing was ever loaded, and there is no default
            self._send(503, {"detail": str(error)})
        else:
            self._send(200 if content else 202, content)

    def _send(self, status: int, content: object, kind: str = "application/json") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of single requests."""


def parsed(body: bytes) -> tuple[str, str, list[str]]:
    """Return user, segment and arms of a request; banditcore checks what they hold."""
    match json.loads(body):
        case {"user": str(user), "segment": str(segment), "arms": list(arms)} if user:
            return user, segment, arms
    raise ValueError("user and segment are strings, arms is a list of strings")


def serve(port: int, recommender: bc.Recommender, events: bc.Emitter) -> None:
    """Answer requests until SIGTERM."""
    with Server(("127.0.0.1", port), Handler) as server:
        server.recommender, server.events = recommender, events
        # As Ctrl-C. A handler may take no lock, so it cannot start a thread that calls shutdown().
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def main(port: int) -> None:
    """Make what a process needs, whether the store is there or not; let it go in the end."""
    with bc.connect(at_once=False) as store:
        shop = bc.Bandit("shop", store)
        events = bc.Emitter(shop, when_full="drop")  # a request never waits for room
        with bc.Recommender(
            shop,
            caps=[bc.FrequencyCap(times=1, within=timedelta(hours=24))],
            default=os.environ.get("BESTSELLERS", "").split(),
            backup=os.environ.get("BACKUP_DIRECTORY"),
            metrics=METRICS,
        ) as recommender:
            try:
                recommender.warm_up(timeout_s=10)
            except (bc.StoreError, bc.NotReadyError) as error:  # looks go on in the background
                LOG.warning("not ready yet: %s", error)
            serve(port, recommender, events)
        try:
            events.close(timeout_s=5)
        except bc.NotAcknowledgedError as error:
            LOG.error("events are lost: %s", error)  # noqa: TRY400 - the message says it all


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    main(parser.parse_args().port)
