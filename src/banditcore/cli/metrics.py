"""Answers scrapes of Prometheus while a command runs: ``--metrics-port``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from banditcore.cli.output import Output
from banditcore.errors import InvalidValueError, describe
from banditcore.metrics import Metrics

__all__ = ["configure", "serve"]

_MOST = 65_535


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--metrics-port",
        type=_port,
        metavar="9100",
        help="answer scrapes of Prometheus there meanwhile; 0 takes a free port",
    )
    parser.add_argument(
        "--metrics-host",
        metavar="HOST",
        help="the address to listen on (default: 127.0.0.1, this machine only)",
    )


@contextmanager
def serve(port: int | None, host: str | None, output: Output) -> Iterator[Metrics | None]:
    """Answer scrapes meanwhile, and yield the metrics; None, and nothing, without a port.

    Raises
    ------
    InvalidValueError
        prometheus-client is not installed, or there is a host and no port.
    BanditCoreError
        Nobody can listen there.
    """
    if port is None:
        if host is not None:
            raise InvalidValueError(describe("--metrics-host", host, "name a --metrics-port too"))
        yield None
        return
    try:
        from banditcore.prometheus import PrometheusMetrics  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise InvalidValueError(describe("--metrics-port", port, str(error))) from error
    metrics = PrometheusMetrics()
    host = host or "127.0.0.1"
    with metrics.serving(port, host) as taken:
        output.warn(f"metrics: http://{host}:{taken}/metrics")
        yield metrics


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to {_MOST}")
    return int(text)
