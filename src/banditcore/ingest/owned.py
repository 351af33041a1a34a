"""A partition that a worker owns, and until when it may be sure of that."""

from __future__ import annotations

import threading
import time

from banditcore.ingest.delivery import DeliveryRun
from banditcore.ingest.partition import PartitionRun
from banditcore.ingest.report import PartitionMeter
from banditcore.ingest.sources import Ownership

__all__ = ["OwnedPartition"]

_RENEWALS = 4
"""In the time that an ownership lasts, so that a slow one loses nothing."""

_EVERY_S = 2.0  # where nothing needs renewal


class OwnedPartition:
    """One partition that a worker owns. Another thread may renew it while one applies events.

    Parameters
    ----------
    run : PartitionRun or DeliveryRun
        Applies its events.
    meter : PartitionMeter
        Of the run.
    ownership : Ownership or None
        What keeps others away; None where nothing does.
    asked : float
        When the ownership was asked for, by `time.monotonic`.

    Attributes
    ----------
    lost : bool
        Whether another owner was faster, or it was released.
    """

    def __init__(
        self,
        run: PartitionRun | DeliveryRun,
        meter: PartitionMeter,
        ownership: Ownership | None,
        asked: float,
    ) -> None:
        self.run = run
        self.meter = meter
        self.lost = False
        self._ownership = ownership
        self._asked = asked  # when the last renewal was sent
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Whether it is time for a renewal."""
        every_s = _EVERY_S if self._ownership is None else self._ownership.ttl_s / _RENEWALS
        return not self.lost and time.monotonic() >= self._asked + every_s

    def renew(self) -> bool:
        """Renew; False when another owner was faster."""
        with self._lock:
            asked = time.monotonic()
            if self._ownership is not None and not self.lost:
                self.lost = not self._ownership.renew()
            self._asked = asked
            return not self.lost

    def release(self) -> None:
        """Give it up."""
        with self._lock:
            self.lost = True
            if self._ownership is not None:
                self._ownership.release()
