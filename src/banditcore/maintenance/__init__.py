"""Care for what a store holds: verify it, move it, remove it."""

from __future__ import annotations

from banditcore.maintenance.exporting import export_bandit
from banditcore.maintenance.forget import forget_arm, forget_bandit, forget_segment
from banditcore.maintenance.importing import import_bandit
from banditcore.maintenance.verify import verify_store

__all__ = [
    "export_bandit",
    "forget_arm",
    "forget_bandit",
    "forget_segment",
    "import_bandit",
    "verify_store",
]
