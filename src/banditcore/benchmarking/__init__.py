"""Measures banditcore beside its peers, speed and error in one run; `banditcore bench` shows it."""

from __future__ import annotations

__all__: list[str] = []
