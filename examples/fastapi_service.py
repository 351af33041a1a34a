"""An asynchronous recommendation service on FastAPI.

Run it with ``uvicorn --app-dir examples fastapi_service:app``, or ``python
examples/fastapi_service.py --port 8000``. It needs the extra ``examples``: ``pip install
".[examples]"`` in the checkout. The environment variable BANDITCORE_URL names the store; beside the
service run ``banditcore ingest --follow --bandit shop`` and ``banditcore refresh --every 60s
--bandit shop``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

import banditcore as bc
from banditcore.prometheus import PrometheusMetrics

LOG = logging.getLogger(__name__)
METRICS = PrometheusMetrics()


class Arms(BaseModel):
    """What a user was shown, or chose."""

    user: str = Field(min_length=1)
    segment: str
    arms: list[str]


@asynccontextmanager
async def running(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Make what a process needs, once, whether the store is there or not; let it go in the end."""
    store = await asyncio.to_thread(bc.connect, at_once=False)
    shop = bc.Bandit("shop", store)
    events = bc.Emitter(shop, when_full="drop")  # a request never waits for room
    recommender = bc.Recommender(
        shop,
        caps=[bc.FrequencyCap(times=1, within=timedelta(hours=24))],
        default=os.environ.get("BESTSELLERS", "").split(),
        backup=os.environ.get("BACKUP_DIRECTORY"),
        metrics=METRICS,
    )
    try:
        try:
            await asyncio.to_thread(recommender.warm_up, timeout_s=10)
        except (bc.StoreError, bc.NotReadyError) as error:  # looks go on in the background
            LOG.warning("not ready yet: %s", error)
        yield {"recommender": recommender, "events": events}
    finally:
        await recommender.aclose()
        try:
            await asyncio.to_thread(events.close, timeout_s=5)
        except bc.NotAcknowledgedError as error:
            LOG.error("events are lost: %s", error)  # noqa: TRY400 - the message says it all
        await asyncio.to_thread(store.close)


app = FastAPI(lifespan=running)


@app.exception_handler(bc.InvalidValueError)
async def refused(_: Request, error: Exception) -> JSONResponse:
    """Answer bad input: the message names the value and the remedy."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(bc.NotReadyError)
async def not_ready(_: Request, error: Exception) -> JSONResponse:
    """Answer while nothing was ever loaded and there is no default."""
    return JSONResponse({"detail": str(error)}, 503)


@app.get("/recommend")
async def recommend(
    request: Request, segment: str = "", k: int = 10, user: str | None = None
) -> dict[str, Any]:
    """Answer from memory, but for one bounded look at what the user has seen."""
    answer = await request.state.recommender.recommend_async(segment, k, user=user)
    return {name: getattr(answer, name) for name in ("arms", "source", "version", "degraded")}


@app.post("/shown", status_code=202)
async def shown(request: Request, body: Arms) -> None:
    """Take note of what was on the screen: a trial of each arm, and nothing to show again."""
    request.state.events.emit([bc.Event(body.segment, arm) for arm in body.arms])
    await request.state.recommender.mark_seen_async(body.user, body.arms)


@app.post("/chosen", status_code=202)
async def chosen(request: Request, body: Arms) -> None:
    """Take note of a reward. Its trial was counted when the arm was shown."""
    request.state.events.emit([bc.Event(body.segment, arm, 1.0, trials=0) for arm in body.arms])


@app.get("/ready")
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Tell a load balancer. Once true, an outage of the store does not change it."""
    is_ready = request.state.recommender.ready
    response.status_code = 200 if is_ready else 503
    return {"ready": is_ready}


@app.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus."""
    return Response(generate_latest(METRICS.exposed), media_type=CONTENT_TYPE_LATEST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port))
    # Uvicorn finishes what it has begun, then raises the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
