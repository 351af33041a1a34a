"""The demonstration: real logs of a fashion shop, from file to slates."""

from __future__ import annotations

from banditcore.demo.openbandit import CAMPAIGNS, POLICIES, Campaign, fetch
from banditcore.demo.run import DemoReport, run_demo

__all__ = ["CAMPAIGNS", "POLICIES", "Campaign", "DemoReport", "fetch", "run_demo"]
