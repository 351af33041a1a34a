"""Frequency caps: what they take, and what they forbid."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import BanditCoreError
from banditcore.serving.arm_index import ArmIndex
from banditcore.serving.caps import FrequencyCap, check_caps, forbidden, horizon_s
from banditcore.store.seen_record import arm_hash, exposure
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


@given(CAPS, STEPS)
def test_they_forbid_what_an_exact_model_forbids(
    caps: list[FrequencyCap], steps: list[tuple[str, float]]
) -> None:
    """The clock goes forth and back."""
    model, held, now = CapModel(caps), set(), float(START)
    index = ArmIndex(("a", "b", "c"))
    for arm, later in steps:
        now += later
        exposures = np.array(sorted(held), np.uint64)
        assert index.among(forbidden(caps, exposures, int(now // 1))) == model.forbidden(now)
        model.mark(arm, now)
        held.add(exposure(arm_hash(arm), int(now // 1)))


def test_arms_that_share_a_hash_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"a": 3 << 24, "b": 7 << 24, "c": 3 << 24, "d": 3 << 24, "e": 9 << 24}
    monkeypatch.setattr("banditcore.serving.arm_index.arm_hash", shared.__getitem__)
    index = ArmIndex(tuple(shared))
    assert index.among(np.array([3 << 24], np.uint64)) == {"a", "c", "d"}
    assert index.among(np.array([9 << 24, 3 << 24, 1 << 24], np.uint64)) == {"a", "c", "d", "e"}
    assert index.among(np.array([10 << 24], np.uint64)) == set()


def test_an_index_of_other_arms_is_made_from_the_one_before() -> None:
    arms = tuple(f"item-{i}" for i in range(100))
    before = ArmIndex(arms)
    for changed in (
        tuple(reversed(arms)),
        (*arms[50:], "new", "newer"),
        tuple("x".join(arms).split("x")),
        (),
    ):
        index = ArmIndex(changed, before)
        for arm in (*arms, "new", "newer"):
            found = index.among(np.array([arm_hash(arm)], np.uint64))
            assert found == ({arm} if arm in changed else set())
