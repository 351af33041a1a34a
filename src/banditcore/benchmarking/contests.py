"""The tasks that banditcore is compared in, those it loses included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from banditcore.benchmarking import draws, exact, slates
from banditcore.benchmarking.effort import Effort
from banditcore.benchmarking.timing import Contest

__all__ = ["contests"]

SetUp = Callable[[], Contest]


def contests(effort: Effort) -> list[tuple[str, SetUp]]:
    """Return each task's name, and what sets it up.

    Arrays of a million arms need room: set one up, measure and drop it at a time.
    """
    tasks: list[tuple[str, Callable[[Effort, str], Contest]]] = [
        ("Beta draw, one pair of parameters", draws.one_pair),
        ("median of 10,000 Beta distributions", draws.medians),
    ]
    for what, task, sizes in (
        ("Beta draw, {:,} arms", draws.many_parameters, effort.arms),
        ("top 10 of {:,} arms, one decision, seen once", slates.seen_once, effort.arms),
        ("top 10 of {:,} arms, in batches, seen once", slates.in_batches, effort.arms),
        ("top 10 of {:,} arms, prepared", slates.prepared, effort.prepared),
        ("preparing {:,} arms", slates.built, effort.prepared),
    ):
        tasks.extend((what.format(arms), partial(task, arms=arms)) for arms in sizes)
    tasks.extend(
        (
            ("best of 3 arms, one decision", slates.best_of_three),
            ("all of 1,000 arms in order", slates.all_in_order),
            ("request of 400 (user, item) pairs", slates.requests),
            ("P(rank) of 80 arms, 3 ranks", exact.ranks),
            ("P(best) of 10,000 arms", exact.winners),
            ("slate bank of 1,000 arms, encoded", exact.bank),
        )
    )
    return [(name, partial(task, effort, name)) for name, task in tasks]
