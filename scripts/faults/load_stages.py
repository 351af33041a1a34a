"""The servers that `load.py` makes faults on, each with a load on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager

from load_faults import PROXY_FAULTS, SERVER_FAULTS, Stage
from load_fleets import CLUSTER_FAULTS, SENTINEL_FAULTS
from load_stage import Service, Settings, accompanied, prepare

from clusters import running_cluster
from faults.server import MortalServer
from proxy import proxy_before
from sentinels import watched_servers


@contextmanager
def server_stage(settings: Settings) -> Iterator[Stage]:
    """Start a server and a load on it."""
    with closing(MortalServer(settings.kind)) as server, _loaded(settings, server.url) as stage:
        stage.server = server
        yield stage


@contextmanager
def proxy_stage(settings: Settings) -> Iterator[Stage]:
    """Start a server and a load on it, of which the service alone goes through a proxy."""
    with (
        closing(MortalServer(settings.kind)) as server,
        proxy_before(server.path) as proxy,
        _loaded(settings, server.url, through=proxy.url) as stage,
    ):
        stage.server, stage.proxy = server, proxy
        yield stage


@contextmanager
def sentinel_stage(settings: Settings) -> Iterator[Stage]:
    """Start a primary with a replica, sentinels, and a load on them."""
    with watched_servers(settings.kind) as watched, _loaded(settings, watched.url) as stage:
        stage.watched = watched
        yield stage


@contextmanager
def cluster_stage(settings: Settings) -> Iterator[Stage]:
    """Start a cluster and a load on it."""
    options = {"appendonly": "yes", "appendfsync": "everysec"}
    with running_cluster(settings.kind, options) as cluster, _loaded(settings, cluster.url) as it:
        it.cluster = cluster
        yield it


@contextmanager
def _loaded(settings: Settings, url: str, through: str | None = None) -> Iterator[Stage]:
    prepare(settings, url)
    with accompanied(settings, url) as publisher:
        service = Service(settings, through or url)
        try:
            yield Stage(settings, service, publisher, random.Random(settings.seed), url)  # noqa: S311
            left = service.end()
            if left["threads"] or left["files"]:
                raise RuntimeError(f"the service left behind {left}")
        finally:
            service.kill()


STAGES = (
    (server_stage, SERVER_FAULTS),
    (proxy_stage, PROXY_FAULTS),
    (sentinel_stage, SENTINEL_FAULTS),
    (cluster_stage, CLUSTER_FAULTS),
)
