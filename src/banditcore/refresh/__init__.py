"""From counts to published slates: once, or for as long as a service runs."""

from __future__ import annotations

from banditcore.refresh.companion import Refresher
from banditcore.refresh.counting import RefreshableBandit
from banditcore.refresh.dask_cluster import on_dask
from banditcore.refresh.job import refresh
from banditcore.refresh.report import RefreshReport

__all__ = ["RefreshReport", "RefreshableBandit", "Refresher", "on_dask", "refresh"]
