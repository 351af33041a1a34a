"""The children of prometheus-client's metrics: found quickly, taken away, shared by processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

from banditcore.errors import InvalidValueError, describe

__all__ = ["Counts", "Gauges", "is_shared", "of_all_processes"]

_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_NEUTRAL = {"livemin": inf, "livemax": -inf, "livesum": 0.0}


def is_shared() -> bool:
    """Whether prometheus-client keeps all values in files that processes share."""
    shares: bool = ValueClass._multiprocess
    directory = os.environ.get(_MULTIPROCESS_VARIABLE)
    if (directory is not None) != shares:
        raise InvalidValueError(
            describe(
                _MULTIPROCESS_VARIABLE,
                directory,
                "it counts when prometheus_client is first imported: set it before, and leave it",
            )
        )
    return shares


def of_all_processes() -> CollectorRegistry:
    """Return what shows all that is in the shared directory."""
    registry = CollectorRegistry()
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError as error:
        directory = os.environ.get(_MULTIPROCESS_VARIABLE)
        raise InvalidValueError(
            describe(_MULTIPROCESS_VARIABLE, directory, "an existing directory, for this alone")
        ) from error
    return registry


class Counts:
    """A counter whose children are found faster than by prometheus-client."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, ...], Callable[[float], None]] = {}

    def add(self, count: float, *labels: str) -> None:
        """Add to the count of some labels."""
        try:
            increase = self._children[labels]
        except KeyError:
            increase = self._children[labels] = self._counter.labels(*labels).inc
        increase(count)


class Gauges:
    """Sets gauges, and takes away those of what is there no more.

    Shared by processes, a gauge cannot be taken away. It gets the value then that never decides
    what is shown of all processes.

    prometheus-client sets all of them to 0 in a forked child, which would then be shown as the
    lowest of all: they are set again before the child tells anything.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self.is_forked = False
        self._values: dict[Gauge, dict[tuple[str, ...], float]] = {}

    def set(self, gauge: Gauge, labels: tuple[str, ...], value: float) -> None:
        """Set one."""
        if self.is_forked:
            self.set_again()
        values = self._values.setdefault(gauge, {})
        if values.get(labels) != value:
            gauge.labels(*labels).set(value)
            values[labels] = value

    def show_only(
        self,
        gauge: Gauge,
        owner: tuple[str, ...],
        shown: Mapping[tuple[str, ...], float],
    ) -> None:
        """Set those whose first labels are `owner`, and take away the others that it had."""
        for labels, value in shown.items():
            self.set(gauge, labels, value)
        values = self._values.get(gauge, {})
        for labels in [each for each in values if each[: len(owner)] == owner]:
            if labels in shown:
                continue
            if self.is_shared:
                self.set(gauge, labels, _NEUTRAL[gauge._multiprocess_mode])
            else:
                gauge.remove(*labels)
                del values[labels]

    def set_again(self) -> None:
        """Set all that were set before a fork."""
        self.is_forked = False
        for gauge, values in list(self._values.items()):
            for labels, value in list(values.items()):
                gauge.labels(*labels).set(value)
