"""Which columns of a log hold what, and how texts are put together from them."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = ["ColumnMap", "Source", "is_decimal", "parse_source"]

_CUT = re.compile(r"\.(\d{1,4})")
_TEXTS = ("segment", "arm", "event_id")
_FORMS = (
    'a column name, a template such as "{country}/{device:.8}", or "=" and a constant such as "=IN"'
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where one value of an event comes from: fixed text, with columns of the log between.

    Attributes
    ----------
    literals : tuple of str
        The m + 1 fixed texts around the m columns.
    columns : tuple of str
        (m,) names of columns; none for a constant.
    cuts : tuple of int or None
        (m,) how many leading characters of each column are taken; None takes all.
    """

    literals: tuple[str, ...]
    columns: tuple[str, ...] = ()
    cuts: tuple[int | None, ...] = ()

    @property
    def constant(self) -> str | None:
        """The text that every event has here, or None if it depends on the columns."""
        return None if self.columns else self.literals[0]

    @property
    def plain(self) -> bool:
        """Whether the value is exactly one whole column."""
        return self.literals == ("", "") and self.cuts == (None,)

    def render(self, values: Iterable[str]) -> str:
        """Return the text for one event, whose (m,) columns hold `values`."""
        text = [self.literals[0]]
        for value, cut, literal in zip(values, self.cuts, self.literals[1:], strict=True):
            text += (value[:cut], literal)
        return "".join(text)


def parse_source(name: str, spec: object) -> Source:
    """Parse what one field of a `ColumnMap` says.

    Parameters
    ----------
    name : str
        The field, for messages.
    spec : str
        A column name; a template: text with ``{column}`` or ``{column:.N}`` (its first N
        characters) in it, braces doubled where they are meant; or ``=`` and a constant text.
        A name between braces is looked up as it stands: ``{a.b}`` is the column "a.b".
    """
    if not isinstance(spec, str):
        raise InvalidTypeError(describe(name, spec, f"a str is needed: {_FORMS}"))
    if spec.startswith("="):
        return Source((spec[1:],))
    if spec == "":
        raise InvalidValueError(describe(name, spec, f"{_FORMS} is needed"))
    if "{" not in spec and "}" not in spec:
        return Source(("", ""), (spec,), (None,))
    try:
        parsed = list(string.Formatter().parse(spec))
    except ValueError as error:
        raise InvalidValueError(describe(name, spec, f"no valid template: {error}")) from error
    literals = [""]
    columns: list[str] = []
    cuts: list[int | None] = []
    for literal, column, cut, conversion in parsed:
        literals[-1] += literal
        if column is None:
            continue
        digits = _CUT.fullmatch(cut or "")
        if not column or conversion or (cut and digits is None):
            raise InvalidValueError(
                describe(name, spec, "between braces stands {column} or {column:.N}, no more")
            )
        columns.append(column)
        cuts.append(int(digits[1]) if digits else None)
        literals.append("")
    return Source(tuple(literals), tuple(columns), tuple(cuts))


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which columns of a log hold what.

    Each value is a column name (a key, in JSON lines), or ``=`` and a constant. `segment`,
    `arm` and `event_id` may also be templates of columns, such as ``"{country}/{device}"`` or
    ``"{user_feature_0:.8}"`` (the first 8 characters).

    Parameters
    ----------
    segment, arm : str
        Path of the pool of users, and id of the arm. ``segment="="`` is the global segment.
    reward : str, optional
        The reward in [0, 1] of one trial. The same as `successes`: give one of them. Without
        either, the columns named ``reward`` or ``successes``, and ``trials`` are used, as far
        as the log has them.
    successes, trials : str, optional
        Sum of rewards, and exposures resolved; trials are 1 when not given. ``trials="=0"``
        reads a log of late rewards.
    time : str or None
        Seconds since 1970, or ISO 8601 with an offset. None: the moment the log is read.
    event_id : str, optional
        What makes the event itself again when it is sent twice.
    """

    segment: str = "segment"
    arm: str = "arm"
    reward: str | None = None
    successes: str | None = None
    trials: str | None = None
    time: str | None = "time"
    event_id: str | None = None

    def __post_init__(self) -> None:
        for name, source in self.sources().items():
            if name in _TEXTS:
                continue
            if not source.plain and source.constant is None:
                raise InvalidValueError(
                    describe(name, getattr(self, name), "a number is one column or a constant")
                )
            if name != "time" and source.constant is not None:
                _check_number(name, source.constant)
        if self.event_id is not None and not self.sources()["event_id"].columns:
            raise InvalidValueError(
                describe("event_id", self.event_id, "a constant would make all events one")
            )
        if self.reward is not None and self.successes is not None:
            raise InvalidValueError(
                describe("reward", self.reward, "it means the same as successes: give one of them")
            )

    @classmethod
    def of(cls, columns: ColumnMap | Mapping[str, Any] | None) -> ColumnMap:
        """Return a map given as such, as a mapping from fields, or not at all: the default one.

        Raises
        ------
        InvalidTypeError
            If it is anything else.
        InvalidValueError
            If the mapping has a key that is no field.
        """
        if columns is None or isinstance(columns, ColumnMap):
            return columns or cls()
        if not isinstance(columns, Mapping):
            raise InvalidTypeError(
                describe("columns", columns, 'a ColumnMap, such as ColumnMap(arm="item_id")')
            )
        names = [field.name for field in fields(cls)]
        for key in columns:
            if key not in names:
                raise InvalidValueError(describe("columns", key, f"one of {', '.join(names)}"))
        return cls(**columns)

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> ColumnMap:
        """Make a map from texts such as ``"arm=item_id"``, as the command line has them.

        Raises
        ------
        InvalidValueError
            If a text is no pair, or names an unknown or the same field twice.
        """
        names = [field.name for field in fields(cls)]
        # A log's order tells its records apart, so ingestion takes no ids: they are not offered.
        offered = ", ".join(name for name in names if name != "event_id")
        given: dict[str, str] = {}
        for pair in pairs:
            name, equals, spec = pair.partition("=")
            if not equals or name not in names:
                raise InvalidValueError(
                    describe("map", pair, f"FIELD=COLUMN, where FIELD is one of {offered}")
                )
            if name in given:
                raise InvalidValueError(describe("map", pair, f"{name} is mapped twice: once"))
            given[name] = spec
        return cls(**given)

    def without_time(self) -> ColumnMap:
        """Return this map for a log without times: events are of the moment they are read."""
        return replace(self, time=None)

    def sources(self) -> dict[str, Source]:
        """Return the fields in use, each with where its value comes from."""
        specs = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: parse_source(name, spec)
            for name, spec in specs.items()
            if spec is not None or name in ("segment", "arm")
        }

    def columns(self) -> list[str]:
        """Return the names of all columns that are read, once each."""
        return list(dict.fromkeys(c for source in self.sources().values() for c in source.columns))

    def __str__(self) -> str:
        """Return the fields in use, such as ``segment='{country}' arm='item_id'``."""
        specs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(f"{name}={spec!r}" for name, spec in specs if spec is not None)

    def resolve(self, present: Collection[str]) -> ColumnMap | None:
        """Return this map with its outcome columns found among `present`.

        None if the map names no outcome and `present` has neither ``reward`` nor ``successes``.
        """
        if self.reward is not None or self.successes is not None:
            return self
        trials = "trials" if self.trials is None and "trials" in present else self.trials
        if "reward" in present and "successes" not in present:
            return replace(self, reward="reward", trials=trials)
        if "successes" in present and "reward" not in present:
            return replace(self, successes="successes", trials=trials)
        return None


def is_decimal(text: str) -> bool:
    """Whether only characters of decimal numbers stand in `text`; it may still be none."""
    # float() alone would take "1_000", "inf", "nan", digits of any script and blanks around: in
    # a log they are signs of damage or of another format.
    return not text.strip("0123456789.+-eE")


def _check_number(name: str, text: str) -> None:
    try:
        usable = is_decimal(text) and math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidValueError(describe(name, "=" + text, "a constant here is a number >= 0"))
