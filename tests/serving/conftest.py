"""What tests of recommenders share."""

from __future__ import annotations

import pytest


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not slow must not look so because the machine is busy."""
    monkeypatch.setattr("banditcore.serving.seen.LONGEST_ASK_S", 10.0)
