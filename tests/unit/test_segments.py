"""Segment paths form a tree below the global segment."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.segments import (
    GLOBAL,
    ancestors,
    is_within,
    lineage,
    parent,
    with_ancestors,
)

PARTS = st.lists(st.sampled_from(["IN", "IN2", "mobile", "new", "a b", "é"]), max_size=5)
PATHS = PARTS.map("/".join)


@pytest.mark.parametrize(
    ("segment", "above"),
    [("IN/mobile/new", "IN/mobile"), ("IN/mobile", "IN"), ("IN", ""), ("", None)],
)
def test_parent(segment, above):
    assert parent(segment) == above


def test_lineage_ends_in_the_global_segment():
    assert lineage("IN/mobile/new") == ["IN/mobile/new", "IN/mobile", "IN", ""]
    assert ancestors("IN/mobile/new") == ["IN/mobile", "IN", ""]
    assert lineage("") == [""]
    assert ancestors("") == []


def test_with_ancestors_puts_parents_first_and_each_once():
    assert with_ancestors(["b/x", "a/y/z", "b", "b/x"]) == ["", "a", "b", "a/y", "b/x", "a/y/z"]
    assert with_ancestors([]) == []


@pytest.mark.parametrize(
    ("segment", "root", "within"),
    [
        ("IN/mobile", "IN", True),
        ("IN", "IN", True),
        ("IN2", "IN", False),
        ("IN2/IN", "IN", False),
        ("IN", "IN/mobile", False),
        ("IN", "", True),
        ("", "", True),
        ("", "IN", False),
    ],
)
def test_is_within(segment, root, within):
    assert is_within(segment, root) is within


@given(PARTS)
def test_a_lineage_has_one_step_a_part(parts):
    path = "/".join(parts)
    steps = lineage(path)
    assert len(steps) == len(parts) + 1
    assert steps[-1] == GLOBAL
    for below, above in itertools.pairwise(steps):
        assert parent(below) == above


@given(PATHS, PATHS)
def test_within_means_that_the_root_is_in_the_lineage(segment, root):
    assert is_within(segment, root) == (root in lineage(segment))


@given(st.lists(PATHS, max_size=8))
def test_a_closed_list_holds_every_parent_before_its_children(paths):
    closed = with_ancestors(paths)
    assert len(set(closed)) == len(closed)
    assert set(closed) == {step for path in paths for step in lineage(path)}
    for place, segment in enumerate(closed):
        above = parent(segment)
        assert above is None or closed.index(above) < place
    assert with_ancestors(reversed(paths)) == closed
