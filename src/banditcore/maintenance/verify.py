"""Reads back everything that a store holds, and says what is wrong with it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from banditcore.errors import (
    BanditCoreError,
    CorruptDataError,
    InvalidValueError,
    describe,
)
from banditcore.events import MAX_AHEAD_S
from banditcore.identifiers import check_bandit, check_segment
from banditcore.maintenance.bandit_checks import check_checkpoints, check_settings
from banditcore.maintenance.findings import Finding
from banditcore.maintenance.ownership import Ownership, tag
from banditcore.maintenance.segment_checks import KEY_TYPES, Problem, check_segment_dump
from banditcore.maintenance.strangers import OtherKeys
from banditcore.maintenance.stream_checks import check_other_sources, check_streams
from banditcore.segments import GLOBAL, with_ancestors
from banditcore.slate_format import decode
from banditcore.store import keys, keyspace, publish
from banditcore.store.counts import settings
from banditcore.store.counts.dump import SegmentDump, dump
from banditcore.store.counts.registry import decode_ids
from banditcore.store.counts.settings import Settings
from banditcore.store.seals import DIGITS

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["VerifyReport", "verify_store"]

_AT_ONCE = 32  # segments in memory
_PARTITION = re.compile(rb"\d{1,9}")
_OFFSET = re.compile(rb"\d{1,16}")
_STREAM_MARK = keys.mark_field("stream", "")  # then the partition


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read, and what is wrong.

    Attributes
    ----------
    bandits, segments, keys : int
        How many were read; ancestors that only have slates are segments too. `keys` is 0 when
        only one bandit was asked for: then the others' keys are not looked at.
    findings : tuple of Finding
        What was found, bandit by bandit.
    """

    bandits: int
    segments: int
    keys: int
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.is_note for finding in self.findings)


def verify_store(
    store: Store,
    bandit: str | None = None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> VerifyReport:
    """Check every invariant of what a store holds. Writes nothing; writers may go on.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str, optional
        Only this one. Default: all, and every other key that begins with ``bc:``.
    progress : callable, optional
        Called with the segments done, those there are, and the bandit and segment.

    Returns
    -------
    VerifyReport
        Each segment was read at one moment, different ones at different moments.

    Raises
    ------
    InvalidValueError
        There is no such bandit.
    StoreError
        The store cannot be read. What is damaged is a finding, and raises nothing.
    """
    check = _Verification(store, progress)
    names = check.bandits()
    if bandit is not None:
        if check_bandit(bandit) not in names:
            raise InvalidValueError(
                describe("bandit", bandit, f"the store has {', '.join(map(repr, names)) or 'none'}")
            )
        names = [bandit]
    check.total = sum(len(check.index(name)) for name in names)
    check.findings.clear()  # those of the index come again below
    if bandit is None:
        check.bandits()
    for name in names:
        check.bandit(name)
    if bandit is None:
        check.other_keys(names)
    return VerifyReport(len(names), check.done, check.keys, tuple(check.findings))


class _Verification:
    """One run: what was found so far, and how far it is."""

    def __init__(self, store: Store, progress: Callable[[int, int, str], None] | None) -> None:
        self.store = store
        self.findings: list[Finding] = []
        self.done = self.total = self.keys = 0
        self._progress = progress

    def report(
        self,
        where: str,
        what: str,
        remedy: str,
        *,
        bandit: str | None = None,
        segment: str | None = None,
        is_note: bool = False,
    ) -> None:
        self.findings.append(Finding(bandit, segment, where, what, remedy, is_note))

    def bandits(self) -> list[str]:
        """Return the names of all bandits."""
        return sorted(self._members(keys.BANDITS, check_bandit, None))

    def index(self, bandit: str) -> list[str]:
        """Return the segments of a bandit's index."""
        return sorted(self._members(keys.of_bandit(bandit).segments, check_segment, bandit))

    def bandit(self, bandit: str) -> None:
        """Check one bandit."""
        segments = self.index(bandit)
        kept, problems = check_settings(self.store, bandit, is_needed=bool(segments))
        self._report_all(bandit, (*problems, *check_checkpoints(self.store, bandit)))
        indexed = set(segments)
        paths = with_ancestors(segments)
        self.total += len(paths) - len(segments)
        marks: dict[int, int] = {}
        for first in range(0, len(paths), _AT_ONCE):
            batch = paths[first : first + _AT_ONCE]
            for path, dumped in zip(batch, self._dumps(bandit, batch), strict=True):
                self._check_dump(bandit, path, dumped, kept, indexed)
                _note_marks(dumped, marks)
                if dumped.types[4] == "string":
                    self._check_slates(bandit, path, dumped, segments)
                self.done += 1
                if self._progress is not None:
                    self._progress(self.done, self.total, f"{bandit} {path}".rstrip())

        self._report_all(bandit, check_streams(self.store, bandit, marks))
        self._report_all(bandit, check_other_sources(self.store, bandit))

    def _report_all(self, bandit: str, problems: Iterable[Problem]) -> None:
        for where, what, remedy, is_note in problems:
            self.report(where, what, remedy, bandit=bandit, is_note=is_note)

    def other_keys(self, bandits: Sequence[str]) -> None:
        """Find the keys that belong to nobody; check those of producers and jobs."""
        others = OtherKeys(self.store)
        damaged = {finding.where for finding in self.findings}  # and said so
        before = self._owned(bandits)
        problems = others.problems(before, self._owned_now, damaged)
        for bandit, (where, what, remedy, is_note) in problems:
            self.report(where, what, remedy, bandit=bandit, is_note=is_note)
        self.keys = others.keys

    def _owned_now(self) -> Ownership:
        return self._owned(self._quietly(self.bandits))

    def _owned(self, bandits: Sequence[str]) -> Ownership:
        """Return what the indexes account for."""
        owned = Ownership()
        for bandit in bandits:
            paths = self._quietly(partial(self.index, bandit))
            owned.add(self.store, bandit, with_ancestors({*paths, *self._imported(bandit)}))
        return owned

    def _imported(self, bandit: str) -> list[str]:
        [kind] = keyspace.types(self.store, [keys.of_bandit(bandit).settings])
        try:
            return settings.pending(self.store, bandit) if kind == "hash" else []
        except CorruptDataError:  # that the import has not ended is a finding already
            return []

    def _quietly(self, read: Callable[[], list[str]]) -> list[str]:
        before = len(self.findings)
        found = read()
        del self.findings[before:]  # they were reported when it was read first
        return found

    def _members(self, key: str, check: Callable[[object], str], bandit: str | None) -> list[str]:
        """Return the valid names in an index."""
        [kind] = keyspace.types(self.store, [key])
        if kind not in ("none", "set"):
            self.report(
                key, f"is a {kind}, not a set", "remove it, and import an export", bandit=bandit
            )
            return []
        if kind == "none":
            return []
        names = []
        for raw in keyspace.members(self.store, key):
            try:
                names.append(check(raw.decode()))
            except (UnicodeDecodeError, BanditCoreError) as error:
                self.report(key, f"has the member {raw!r}: {error}", "SREM it", bandit=bandit)
        return list(dict.fromkeys(names))  # a scan may show a member twice

    def _dumps(self, bandit: str, paths: Sequence[str]) -> list[SegmentDump]:
        return dump(self.store, bandit, paths, with_digests=False)

    def _check_dump(
        self,
        bandit: str,
        path: str,
        dumped: SegmentDump,
        kept: Settings | None,
        indexed: set[str],
    ) -> None:
        prefix = tag(keys.of_segment(bandit, path).state)
        for where, what, remedy, is_note in check_segment_dump(dumped, kept):
            place = f"{prefix}:{where}" if where in KEY_TYPES else f"{prefix}:s {where}"
            self.report(place, what, remedy, bandit=bandit, segment=path, is_note=is_note)
        # An ancestor that came to be since the index was read is in it by now.
        if dumped.fields and path not in indexed and path not in self._index_now(bandit):
            self.report(
                f"{prefix}:s", "has counts, but the index does not name it",
                f"SADD it to {keys.of_bandit(bandit).segments}", bandit=bandit, segment=path,
            )  # fmt: skip

    def _index_now(self, bandit: str) -> list[str]:
        return self._quietly(partial(self.index, bandit))

    def _check_slates(
        self, bandit: str, path: str, dumped: SegmentDump, segments: Sequence[str]
    ) -> None:
        key = keys.of_segment(bandit, path).blob
        remedy = "run `banditcore refresh`; recommenders go on with what they have"
        try:
            blob = publish.fetch_one(self.store, bandit, path)
            if not blob:  # withdrawn since
                return
            snapshot = decode(blob)
        except CorruptDataError as error:
            self.report(key, str(error), f"remove it, then {remedy}", bandit=bandit, segment=path)
            return
        whose = (snapshot.bandit, snapshot.segment)
        if whose != (bandit, path):
            what = f"holds the slates of {whose}"
            self.report(key, what, f"remove it, then {remedy}", bandit=bandit, segment=path)
        if snapshot.version > (dumped.time_ms / 1000 + MAX_AHEAD_S) * 1e6:
            what = f"has the version {snapshot.version}, ahead of the store's clock"
            self.report(key, what, remedy, bandit=bandit, segment=path)
        unknown = set(snapshot.arms).difference(_arms(dumped))
        below = _below(segments, path)
        for first in range(0, len(below), _AT_ONCE):
            if not unknown:
                break
            for other in self._dumps(bandit, below[first : first + _AT_ONCE]):
                unknown.difference_update(_arms(other))
        if unknown:
            what = f"{len(unknown)} of its arms are not registered there or below any more"
            self.report(key, what, remedy, bandit=bandit, segment=path, is_note=True)


def _below(segments: Sequence[str], path: str) -> Sequence[str]:
    """Return those of sorted segments that lie below a path: neighbours, but for the global one."""
    if path == GLOBAL:
        return segments
    # "0" comes after "/", and nothing between.
    return segments[bisect_left(segments, f"{path}/") : bisect_left(segments, f"{path}0")]


def _note_marks(dumped: SegmentDump, marks: dict[int, int]) -> None:
    """Raise the highest marks of the partitions of streams to those of a segment."""
    for field, value in dumped.fields.items():
        partition = field.removeprefix(_STREAM_MARK.encode())
        offset = value[:-DIGITS].partition(b" ")[2]
        # What is no mark, or damaged, is a finding of its own.
        if partition != field and _PARTITION.fullmatch(partition) and _OFFSET.fullmatch(offset):
            number = int(partition)
            marks[number] = max(marks.get(number, -1), int(offset))


def _arms(dumped: SegmentDump) -> list[str]:
    try:
        return decode_ids(dumped.registry)
    except CorruptDataError:  # a finding of its own
        return []
