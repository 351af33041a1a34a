"""The demonstration job: ingests the logs, refreshes every segment, recommends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.bandit import Bandit
from banditcore.demo.openbandit import Campaign
from banditcore.ingest import ingest_log
from banditcore.logs import ColumnMap, EventLog
from banditcore.propensity import top_probabilities
from banditcore.serving import Recommender

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["COLUMNS", "CampaignReport", "DemoReport", "Slate", "SlateArm", "run_demo"]

COLUMNS = ColumnMap(
    segment="{user_feature_0:.8}/{user_feature_1:.8}",
    arm="item_id",
    reward="click",
    time="timestamp",
)
"""What the logs' columns mean; two anonymous features of the user make the segment."""

TOP = 3
_SLATE = 5
_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class SlateArm:
    """One arm of a slate, and what is believed of it.

    Attributes
    ----------
    arm : str
    mean, low, high : float
        Posterior mean of its click rate, and its central 90 % interval.
    top : float
        Probability that it is among the three best arms of the segment.
    """

    arm: str
    mean: float
    low: float
    high: float
    top: float


@dataclass(frozen=True, slots=True)
class Slate:
    """What was recommended in one segment, best first; `version` as in `Recommendation`."""

    segment: str
    source: str
    version: int | None
    arms: tuple[SlateArm, ...]


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """What became of one campaign.

    Attributes
    ----------
    bandit : str
    arms, segments : int
        Size of the catalogue; segments that were seen in the logs.
    applied, duplicate, refused : int
        Events of both logs. All are 0 when the logs were ingested before.
    trials, successes : float
        Counts of all segments, read back from the store.
    published : int
        Segments with new slates, ancestors included.
    failed : dict of str to str
        Segment -> why it has none.
    ingest_s, refresh_s, recommend_s : float
        Seconds for each step.
    requests : int
        How many recommendations were made in `recommend_s`.
    slate : Slate or None
        Of the segment with the most trials.
    """

    bandit: str
    arms: int
    segments: int
    applied: int
    duplicate: int
    refused: int
    trials: float
    successes: float
    published: int
    failed: dict[str, str]
    ingest_s: float
    refresh_s: float
    recommend_s: float
    requests: int
    slate: Slate | None


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demonstration did, campaign by campaign."""

    campaigns: tuple[CampaignReport, ...]

    @property
    def trials(self) -> float:
        """Trials of all campaigns, as the store holds them."""
        return sum(campaign.trials for campaign in self.campaigns)

    @property
    def successes(self) -> float:
        """Successes of all campaigns, as the store holds them."""
        return sum(campaign.successes for campaign in self.campaigns)

    @property
    def complete(self) -> bool:
        """Whether every event was usable and every segment got its slates."""
        return not any(c.failed or c.refused for c in self.campaigns)


def run_demo(
    store: Store,
    campaigns: Sequence[Campaign],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> DemoReport:
    """Take each campaign from its logs to recommendations. Running it again changes no count.

    Parameters
    ----------
    store : Store
        Where the bandits ``fashion-<campaign>`` are kept.
    campaigns : sequence of Campaign
        From `banditcore.demo.fetch`.
    progress : callable, optional
        Called with the campaigns done, their number, and the step that comes next.
    """
    reports = []
    for done, campaign in enumerate(campaigns):

        def say(step: str, done: int = done, name: str = campaign.name) -> None:
            if progress is not None:
                progress(done, len(campaigns), f"{name}: {step}")

        reports.append(_run(store, campaign, say))
    return DemoReport(tuple(reports))


def _run(store: Store, campaign: Campaign, say: Callable[[str], None]) -> CampaignReport:
    # No half-life: the logs are of 2019, and all of their evidence would have faded.
    bandit = Bandit(f"fashion-{campaign.name}", store, prior="empirical")
    say("ingest")
    began = time.perf_counter()
    ingested = [ingest_log(bandit, EventLog(path, COLUMNS)) for path in campaign.logs]
    items = campaign.items()
    segments = bandit.segments()
    for segment in segments:
        bandit.add_arms(segment, items)  # an item nobody was shown yet is a candidate, too
    ingest_s = time.perf_counter() - began
    say("refresh")
    began = time.perf_counter()
    refreshed = bandit.refresh()
    refresh_s = time.perf_counter() - began
    say("recommend")
    counts = bandit.counts("", descendants=True)
    slate, recommend_s, requests = _recommend(bandit, segments)
    return CampaignReport(
        bandit=bandit.name,
        arms=len(items),
        segments=len(segments),
        applied=sum(report.applied for report in ingested),
        duplicate=sum(report.duplicate for report in ingested),
        refused=sum(report.refused for report in ingested),
        trials=float(counts.trials.sum()),
        successes=float(counts.successes.sum()),
        published=len(refreshed.published),
        failed=dict(refreshed.failed),
        ingest_s=ingest_s,
        refresh_s=refresh_s,
        recommend_s=recommend_s,
        requests=requests,
        slate=slate,
    )


def _recommend(bandit: Bandit, segments: Sequence[str]) -> tuple[Slate | None, float, int]:
    if not segments:
        return None, 0.0, 0
    busiest = max(segments, key=lambda segment: float(bandit.counts(segment).trials.sum()))
    with Recommender(bandit) as recommender:
        recommender.warm_up()
        slate = _slate(bandit, recommender, busiest)
        began = time.perf_counter()
        for request in range(_REQUESTS):
            recommender.recommend(segments[request % len(segments)], k=10, user=f"user-{request}")
        return slate, time.perf_counter() - began, _REQUESTS


def _slate(bandit: Bandit, recommender: Recommender, segment: str) -> Slate:
    answer = recommender.recommend(segment, k=_SLATE, user="user-0")
    believed = bandit.posterior(answer.source)
    low, high = believed.interval(0.9)
    top = top_probabilities(believed.alpha, believed.beta, TOP)
    where = {arm: row for row, arm in enumerate(believed.arms)}
    rows = [where[arm] for arm in answer.arms]
    arms = tuple(
        SlateArm(
            believed.arms[row],
            float(believed.mean[row]),
            float(low[row]),
            float(high[row]),
            float(top[row]),
        )
        for row in rows
    )
    return Slate(segment, answer.source, answer.version, arms)
