"""The judge of the load sees each kind of wrong answer, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from load_requests import DEFAULT, Judge, K, Known, Request, requests

from banditcore.serving import Recommendation

NOW = 1_790_000_000.0
ASKED = Request("bank", "IN/mobile", "u", frozenset({"IN/mobile:77"}))
ARMS = tuple(f"IN/mobile:{i}" for i in range(K))
ELSEWHERE = tuple(f"US/web:{i}" for i in range(K))
NOTHING = Known({}, None)
FRESH = Known({}, int((NOW - 10) * 1e6))


def answer(
    arms: tuple[str, ...] = ARMS,
    source: str = "IN/mobile",
    degraded: tuple[str, ...] = (),
    *,
    old: float = 10.0,
    told: float | None = None,
) -> Recommendation:
    if source == "default":
        return Recommendation(arms, source, None, None, degraded, None)
    age = max(0.0, old) if told is None else told
    return Recommendation(arms, source, int((NOW - old) * 1e6), age, degraded, None)


def wrong(
    given: Recommendation, known: Known = NOTHING, *, within: timedelta | None = None
) -> list[str]:
    judge = Judge(max_age=100.0, within=within)
    return judge.wrong(ASKED, given, NOW, NOW, known)


@pytest.mark.parametrize(
    "given",
    [
        answer(),
        answer(old=99.0),
        answer(old=1000.0, degraded=("stale",)),
        answer(source="IN"),
        answer(source="", arms=ELSEWHERE),
        answer(DEFAULT[:K], "default", ("default",)),
        answer(old=-60.0),
    ],
)
def test_what_is_right(given: Recommendation) -> None:
    assert wrong(given) == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (answer(ARMS[:9]), "9 distinct arms of 9, not 10"),
        (answer((*ARMS[:9], ARMS[0])), "9 distinct arms of 10, not 10"),
        (answer((*ARMS[:9], "IN/mobile:77")), "an excluded arm"),
        (answer(old=101.0), "unlabelled and too old"),
        (answer(old=-3700.0), "unlabelled and from the future"),
        (answer(told=5.0), "a false age"),
        (answer(source="US"), "source 'US' for 'IN/mobile'"),
        (answer(ELSEWHERE), "an arm of another segment"),
        (answer(degraded=("late",)), "unknown labels ('late',)"),
        (answer(degraded=("seen",)), "'seen' without caps"),
        (answer(DEFAULT[:K], "default"), "source 'default' with ()"),
        (answer(degraded=("default",)), "source 'IN/mobile' with ('default',)"),
    ],
)
def test_what_is_wrong(given: Recommendation, what: str) -> None:
    assert what in wrong(given)


def test_an_ancestor_may_answer_only_while_the_segment_itself_is_not_fresh() -> None:
    assert wrong(answer(source="IN"), FRESH) == ["an ancestor, though its own segment is fresh"]
    assert wrong(answer(source="IN"), Known({}, int((NOW - 101) * 1e6))) == []


def test_what_a_user_has_seen_stays_away_for_the_time_of_the_cap() -> None:
    shown = Known({"IN/mobile:3": NOW - 50}, None)
    day, minute = timedelta(days=1), timedelta(seconds=50)
    assert wrong(answer(), shown, within=day) == ["an arm that its user has seen"]
    assert wrong(answer(degraded=("seen",)), shown, within=day) == ["an arm that its user has seen"]
    assert wrong(answer(), shown, within=minute) == []


def test_marks_are_known_to_the_next_request() -> None:
    judge = Judge(max_age=100.0, within=timedelta(days=1))
    judge.mark("u", "IN/mobile:3", 4e9)
    assert judge.known(ASKED).shown == {"IN/mobile:3": 4e9}


def test_labels_tell_an_ancestor() -> None:
    judge = Judge(max_age=100.0)
    assert judge.labels(ASKED, answer(source="IN")) == ("ancestor",)
    assert judge.labels(ASKED, answer(degraded=("stale",))) == ("stale",)
    assert judge.labels(ASKED, answer(DEFAULT[:K], "default", ("default",))) == ("default",)


def test_requests_are_the_same_for_a_seed_and_of_all_kinds() -> None:
    made = requests(7, 100)
    assert made == requests(7, 100)
    assert made != requests(8, 100)
    assert {each.kind for each in made} == {"bank", "live", "caps"}
    assert all(each.user is not None for each in made if each.kind == "caps")
    assert any(each.marks for each in made)
    assert any(each.exclude for each in made)
