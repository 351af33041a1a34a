from __future__ import annotations

from math import exp, log

import pytest

from banditcore.exploration import Exploration, ExplorationWatch, exploration
from banditcore.metrics import MetricsLimits


@pytest.mark.parametrize(
    ("first", "arms", "entropy", "effective"),
    [
        ([0, 0, 0, 0], 3, 0.0, 1.0),
        ([0, 1, 2, 3], 4, 1.0, 4.0),
        ([0, 1, 2, 3], 9, 1.0, 4.0),  # four slates can show no more than four
        ([0, 0, 1, 1], 2, 1.0, 2.0),
        ([0, 0, 1, 1], 4, 0.5, 2.0),
        ([0, 0, 0, 1], 2, -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(2), None),
        ([0, 0, 0], 1, 1.0, 1.0),  # nothing to choose from is no collapse
        ([2], 3, 1.0, 1.0),
    ],
)
def test_it_is_the_entropy_of_the_first_places(first, arms, entropy, effective):
    seen = exploration(first, arms)
    assert seen.entropy == pytest.approx(entropy, abs=1e-12)
    assert 0.0 <= seen.entropy <= 1.0
    expected = exp(entropy * log(min(arms, len(first)))) if effective is None else effective
    assert seen.effective_arms == pytest.approx(expected, abs=1e-12)


def test_a_segment_without_arms_has_nothing_to_collapse():
    assert exploration([], 0) == Exploration(1.0, 0.0)


def test_arms_may_be_anything_that_can_be_told_apart():
    assert exploration(["a", "a", "b", "b"], 2) == exploration([7, 7, 5, 5], 2)


def watch(below: float = 0.1, drop: float = 0.5) -> ExplorationWatch:
    return ExplorationWatch(MetricsLimits(entropy_below=below, entropy_drop=drop))


def history(watching: ExplorationWatch, *entropies: float) -> list[tuple[bool, int, int]]:
    found = []
    for entropy in entropies:
        watching.see("IN", Exploration(entropy, 1.0))
        collapsed, recovered = watching.news()
        found.append((watching.alarming(["IN"]) == 1, len(collapsed), len(recovered)))
    return found


def test_an_alarm_goes_on_and_off_once_with_the_level():
    assert history(watch(), 0.15, 0.1, 0.09, 0.05, 0.06, 0.1, 0.2) == [
        (False, 0, 0),
        (False, 0, 0),
        (True, 1, 0),
        (True, 0, 0),
        (True, 0, 0),
        (False, 0, 1),
        (False, 0, 0),
    ]


def test_a_sudden_drop_alarms_for_one_version():
    assert history(watch(), 0.9, 0.45, 0.22, 0.22) == [
        (False, 0, 0),
        (False, 0, 0),
        (True, 1, 0),
        (False, 0, 1),
    ]


def test_limits_can_switch_both_off():
    assert history(watch(below=0, drop=1), 1.0, 0.0, 0.0) == [(False, 0, 0)] * 3


def test_the_reason_is_told():
    watching = watch()
    watching.see("IN", Exploration(0.8, 9.0))
    watching.see("IN", Exploration(0.2, 2.0))
    watching.see("US", Exploration(0.01, 1.0))
    assert watching.news() == (
        {"IN": "from 0.800 to 0.200 at once", "US": "0.010 is below 0.1"},
        [],
    )


def test_of_several_segments_the_lowest_of_each_is_told():
    watching = watch()
    watching.see("IN", Exploration(0.5, 9.0))
    watching.see("US", Exploration(0.6, 2.0))
    assert watching.lowest(["IN", "US", "unseen"]) == Exploration(0.5, 2.0)
    assert watching.lowest(["US"]) == Exploration(0.6, 2.0)
    assert watching.lowest(["unseen"]) is None


def test_what_is_gone_is_forgotten_and_not_called_recovered():
    watching = watch()
    watching.see("IN", Exploration(0.9, 9.0))
    watching.see("US", Exploration(0.01, 1.0))
    watching.news()
    watching.forget_all_but(frozenset())
    assert watching.news() == ({}, [])
    assert (watching.lowest(["IN", "US"]), watching.alarming(["US"])) == (None, 0)
    watching.see("IN", Exploration(0.2, 2.0))  # no drop: it is a new one
    assert watching.news() == ({}, [])
