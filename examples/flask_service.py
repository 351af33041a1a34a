"""A recommendation service on Flask, with a thread for each request.

Run it with ``gunicorn --threads 8 --chdir examples 'flask_service:create_app()'``, or, on Flask's
own server, ``python examples/flask_service.py --port 8000``. It needs the extra ``examples``: ``pip
install ".[examples]"`` in the checkout; gunicorn comes extra. The environment variable
BANDITCORE_URL names the store; beside the service run ``banditcore ingest --follow --bandit shop``
and ``banditcore refresh --every 60s --bandit shop``.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import signal
from datetime import timedelta

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException, UnprocessableEntity
from werkzeug.serving import make_server

import banditcore as bc
from banditcore.prometheus import PrometheusMetrics

LOG = logging.getLogger(__name__)


def create_app() -> Flask:
    """Make what a process needs, once, whether the store is there or not."""
    store = bc.connect(at_once=False)
    shop = bc.Bandit("shop", store)
    events = bc.Emitter(shop, when_full="drop")  # a request never waits for room
    metrics = PrometheusMetrics()
    recommender = bc.Recommender(
        shop,
        caps=[bc.FrequencyCap(times=1, within=timedelta(hours=24))],
        default=os.environ.get("BESTSELLERS", "").split(),
        backup=os.environ.get("BACKUP_DIRECTORY"),
        metrics=metrics,
    )

    @atexit.register
    def close() -> None:
        recommender.close()
        try:
            events.close(timeout_s=5)
        except bc.NotAcknowledgedError as error:
            LOG.error("events are lost: %s", error)  # noqa: TRY400 - the message says it all
        store.close()

    try:
        recommender.warm_up(timeout_s=10)
    except (bc.StoreError, bc.NotReadyError) as error:  # looks go on in the background
        LOG.warning("not ready yet: %s", error)
    app = Flask(__name__)

    @app.errorhandler(bc.InvalidValueError)
    @app.errorhandler(bc.InvalidTypeError)
    def refused(error: Exception) -> ResponseReturnValue:
        """Answer bad input: the message names the value and the remedy."""
        return {"detail": str(error)}, 422

    @app.errorhandler(bc.NotReadyError)
    def not_ready(error: Exception) -> ResponseReturnValue:
        """Answer while nothing was ever loaded and there is no default."""
        return {"detail": str(error)}, 503

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> ResponseReturnValue:
        """Answer in JSON where Flask would in HTML, such as to a path that there is not."""
        return {"detail": error.description}, error.code or 500

    @app.get("/recommend")
    def recommend() -> ResponseReturnValue:
        """Answer from memory, but for one bounded look at what the user has seen."""
        try:
            k = int(request.args.get("k", "10"))
        except ValueError as error:
            why = f"k is {request.args['k']!r}: a whole number is needed"
            raise UnprocessableEntity(why) from error
        answer = recommender.recommend(
            request.args.get("segment", ""), k, user=request.args.get("user")
        )
        return {name: getattr(answer, name) for name in ("arms", "source", "version", "degraded")}

    @app.post("/shown")
    def shown() -> ResponseReturnValue:
        """Take note of what was on the screen: a trial of each arm, and nothing to show again."""
        user, segment, arms = body()
        events.emit([bc.Event(segment, arm) for arm in arms])
        recommender.mark_seen(user, arms)
        return {}, 202

    @app.post("/chosen")
    def chosen() -> ResponseReturnValue:
        """Take note of a reward. Its trial was counted when the arm was shown."""
        _, segment, arms = body()
        events.emit([bc.Event(segment, arm, 1.0, trials=0) for arm in arms])
        return {}, 202

    @app.get("/ready")
    def ready() -> ResponseReturnValue:
        """Tell a load balancer. Once true, an outage of the store does not change it."""
        return {"ready": recommender.ready}, 200 if recommender.ready else 503

    @app.get("/metrics")
    def exposed() -> ResponseReturnValue:
        """Tell Prometheus."""
        return Response(generate_latest(metrics.exposed), content_type=CONTENT_TYPE_LATEST)

    return app


def body() -> tuple[str, str, list[str]]:
    """Return user, segment and arms of a request; banditcore checks what they hold."""
    match request.get_json():
        case {"user": str(user), "segment": str(segment), "arms": list(arms)} if user:
            return user, segment, arms
    raise UnprocessableEntity("user and segment are strings, arms is a list of strings")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    server = make_server("127.0.0.1", parser.parse_args().port, create_app(), threaded=True)
    # As Ctrl-C. A handler may take no lock, so it cannot start a thread that calls shutdown().
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # nothing of single requests
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
