"""Ids are 1..256 bytes of UTF-8; segment paths have no empty part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.identifiers import (
    MAX_ID_BYTES,
    check_arm,
    check_bandit,
    check_id,
    check_segment,
)

CHECKS = [check_arm, check_bandit, check_segment]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "value", ["a", "item-17", "a b", "{x}", "nul\0", "line\n", "é", "a" * 256, "é" * 128]
)
def test_an_id_of_1_to_256_bytes_is_returned_as_it_is(check, value):
    assert check(value) is value


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", ["a" * 257, "é" * 129, "𝄞" * 65])
def test_the_limit_counts_bytes_not_characters(check, value):
    with pytest.raises(InvalidValueError, match=f"this has {len(value.encode())}"):
        check(value)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [None, 3, b"item", ["a"], 1.0])
def test_only_a_str_is_an_id(check, value):
    with pytest.raises(InvalidTypeError, match="an id must be a str") as caught:
        check(value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("check", CHECKS)
def test_text_that_utf8_cannot_encode_is_refused(check):
    with pytest.raises(InvalidValueError, match="lone surrogate") as caught:
        check("a\ud800")
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)


@pytest.mark.parametrize(("check", "name"), [(check_arm, "arm"), (check_bandit, "bandit")])
def test_an_empty_id_is_refused_by_name(check, name):
    with pytest.raises(InvalidValueError, match=f"{name} is ''"):
        check("")


def test_the_empty_path_is_the_global_segment():
    assert check_segment("") == ""


@pytest.mark.parametrize("path", ["/", "IN/", "/IN", "IN//mobile", "IN/mobile/"])
def test_a_path_with_an_empty_part_is_refused(path):
    with pytest.raises(InvalidValueError, match="no empty part"):
        check_segment(path)


def test_a_path_is_limited_as_a_whole():
    assert check_segment("a/" * 127 + "aa")
    with pytest.raises(InvalidValueError, match="this has 257"):
        check_segment("a/" * 128 + "a")


@given(TEXT)
def test_an_id_is_accepted_exactly_if_its_length_in_bytes_fits(value):
    if 1 <= len(value.encode()) <= MAX_ID_BYTES:
        assert check_id("thing", value) == value
    else:
        with pytest.raises(InvalidValueError, match="thing is"):
            check_id("thing", value)


@given(st.lists(TEXT.filter(lambda part: part and "/" not in part), max_size=6))
def test_parts_joined_by_slashes_make_a_path(parts):
    path = "/".join(parts)
    if len(path.encode()) <= MAX_ID_BYTES:
        assert check_segment(path) == path
