"""What a measurement was made on."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from banditcore.sampling import active_kernel

__all__ = ["describe_machine"]

_CPUINFO = Path("/proc/cpuinfo")
_PACKAGES = ("banditcore", "numpy", "scipy", "mabwiser", "river", "mkl_random")


def describe_machine() -> dict[str, object]:
    """Return the machine, the kernel in use, the date (UTC), and versions by package.

    A package that is not installed has None for a version.
    """
    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "kernel": active_kernel(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _cpu() -> str:
    """Return the processor's name as Linux has it, else what Python knows."""
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
