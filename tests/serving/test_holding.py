"""Snapshots that a process holds are replaced as a whole, and never again once it let go of all."""

from __future__ import annotations

import pytest

from banditcore.serving.blobs import rung_of
from banditcore.serving.holding import HeldSnapshots
from banditcore.serving.rung import Rung
from banditcore.slate_format import encode
from published import snapshot


@pytest.fixture
def held() -> HeldSnapshots:
    held = HeldSnapshots()
    held.put({"IN": rung("IN"), "US": rung("US")}, {"IN": b"in", "US": b"us"})
    return held


def rung(segment: str) -> Rung:
    return rung_of(encode(snapshot(segment)), "home", segment, 1 << 30)


def test_who_reads_keeps_what_he_got(held: HeldSnapshots) -> None:
    rungs, headers = held.both()
    before = dict(rungs), dict(headers)
    newer = rung("IN")
    held.put({"IN": newer}, {})
    assert held.both() == ({**rungs, "IN": newer}, headers)
    held.put({"ES": newer}, {"ES": b"es"})
    held.drop({"IN"})
    assert held.both() == ({"US": rungs["US"], "ES": newer}, {"US": b"us", "ES": b"es"})
    assert (rungs, headers) == before


def test_only_what_is_missing_is_restored(held: HeldSnapshots) -> None:
    old, new = rung("IN"), rung("ES")
    before = held.rungs
    held.put_missing({"IN": (old, b"old"), "ES": (new, b"es")}, lambda path: path not in held.rungs)
    assert held.both() == ({**before, "ES": new}, {"IN": b"in", "US": b"us", "ES": b"es"})
    assert held.unconfirmed() == 0
    held.put({"US": held.rungs["US"].unconfirmed()}, {})
    assert held.unconfirmed() == 1


def test_nothing_is_taken_once_all_was_let_go(held: HeldSnapshots) -> None:
    held.clear()
    late = rung("IN")
    held.put({"IN": late}, {"IN": b"in"})
    held.put_missing({"IN": (late, b"in")}, lambda _path: True)
    assert held.both() == ({}, {})
