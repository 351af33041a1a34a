"""Frequency caps: what they take, and what they forbid."""

from __future__ import annotations

import itertools
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore._packed import PackedIds
from banditcore.errors import BanditCoreError
from banditcore.serving.arm_index import ArmIndex, ArmIndexes
from banditcore.serving.caps import FrequencyCap, check_caps, horizon_s
from banditcore.store.seen_record import arm_hash, encode, exposure, forbidden, limits
from model_of_caps import CapModel

START = 1_790_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"times": 0},
        {"times": 1001},
        {"times": True},
        {"times": 1.0},
        {"within": 5},
        {"within": timedelta(0)},
        {"within": timedelta(seconds=1, microseconds=1)},
        {"within": timedelta(days=90, seconds=1)},
    ],
)
def test_what_is_no_cap_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BanditCoreError, match=next(iter(arguments))):
        FrequencyCap(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("caps", [FrequencyCap(), 3, [3], "x"])
def test_what_are_no_caps_is_refused(caps: object) -> None:
    with pytest.raises(BanditCoreError, match="caps"):
        check_caps(caps)  # type: ignore[arg-type]


def test_the_longest_window_counts() -> None:
    caps = check_caps([FrequencyCap(), FrequencyCap(3, timedelta(days=30)), FrequencyCap(2)])
    assert horizon_s(caps) == 30 * 86_400


CAPS = st.lists(
    st.builds(
        FrequencyCap,
        st.integers(1, 3),
        st.integers(1, 100).map(lambda seconds: timedelta(seconds=seconds)),
    ),
    min_size=1,
    max_size=3,
)
STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-90, 90)), max_size=25)


ARMS = ("a", "b", "c")


def _forbidden(caps: list[FrequencyCap], users: list[set[int]], now: float) -> list[set[str]]:
    """Return what each user may not be shown; half of the exposures come from his record."""
    records = [encode(sorted(held)[::2]) for held in users]
    known = [sorted(held)[1::2] for held in users]
    against = limits((cap.times, cap.within_s) for cap in caps)
    found = forbidden(against, records, known, int(now // 1))
    starts, places = ArmIndex(ARMS).find(found, np.arange(len(users)))
    return [{ARMS[place] for place in places[a:b]} for a, b in itertools.pairwise(starts)]


@given(CAPS, STEPS)
def test_they_forbid_what_an_exact_model_forbids(
    caps: list[FrequencyCap], steps: list[tuple[str, float]]
) -> None:
    """The clock goes forth and back, and two users take turns."""
    models, held, now = [CapModel(caps), CapModel(caps)], [set[int](), set[int]()], float(START)
    for i, (arm, later) in enumerate(steps):
        now += later
        assert _forbidden(caps, held, now) == [model.forbidden(now) for model in models]
        models[i % 3 == 0].mark(arm, now)
        held[i % 3 == 0].add(exposure(arm_hash(arm), int(now // 1)))


def test_an_index_finds_packed_arms_and_others() -> None:
    ids = [f"item-{i}" for i in range(100)] + ["é"]
    ends = np.cumsum([len(one.encode()) for one in ids], dtype=np.uint32)
    hashes = np.array([arm_hash(one) for one in (*ids[::-1], "none")], np.uint64)
    every = np.array([0, hashes.size]), hashes
    for arms in (tuple(ids), ids, PackedIds(ends, "".join(ids).encode(), 256)):
        starts, places = ArmIndex(arms).find(every, np.array([-1, 0]))
        assert starts.tolist() == [0, 0, 101]
        assert places.tolist() == list(range(101))[::-1]


def test_indexes_follow_what_is_served() -> None:
    indexes, first, other = ArmIndexes(), ("a", "b"), ("a", "c")
    index = indexes.of("IN", first)
    assert indexes.of("IN", first) is index
    assert indexes.of("US", first) is not index
    assert indexes.of("IN", other).arms is other
    kept, gone = indexes.of("US", first), indexes.of("IN", other)
    indexes.keep({"US"})
    assert indexes.of("US", first) is kept
    assert indexes.of("IN", other) is not gone
