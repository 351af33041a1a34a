"""Event logs: exact offsets, exact events, one reject per bad record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.logs import ColumnMap, EventLog, LogBatch, Position
from banditcore.logs.lines import LineReader

NOW = 1_700_000_000.0
T0 = 1_600_000_000


def log_of(path: Path, text: str | bytes, columns: ColumnMap | None = None, **options) -> EventLog:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return EventLog(path, columns, now=lambda: NOW, **options)


def only(log: EventLog, **options) -> LogBatch:
    (batch,) = log.batches(**options)
    return batch


def rows_of(batches) -> list[tuple]:
    return [
        row
        for b in batches
        for row in zip(
            b.events.segments,
            b.events.arms,
            b.events.trials.tolist(),
            b.events.successes.tolist(),
            b.events.times.tolist(),
            b.offsets.tolist(),
            strict=True,
        )
    ]


# --- what is read ------------------------------------------------------------------------------


def test_csv_rows_become_events_with_their_end_offsets(tmp_path):
    head, one, two = "segment,arm,reward,time\n", f"IN/m,a,1,{T0}\n", f"US,b,0.25,{T0}.5\n"
    log = log_of(tmp_path / "x.csv", head + one + two)
    batch = only(log)
    ends = [len(head + one), len(head + one + two)]
    assert rows_of([batch]) == [
        ("IN/m", "a", 1.0, 1.0, T0, ends[0]),
        ("US", "b", 1.0, 0.25, T0 + 0.5, ends[1]),
    ]
    digest = hashlib.sha256((head + one + two).encode()).hexdigest()
    assert batch.end == Position(ends[1], 3, digest)
    assert batch.rejects == []
    assert (log.size, log.tail, log.format) == (ends[1], None, "csv")


def test_jsonl_rows_become_events(tmp_path):
    records = [
        {"segment": "IN", "arm": 79, "trials": 3, "successes": 2, "time": T0, "more": [1]},
        {"segment": "", "arm": "é", "trials": 0, "successes": True, "time": "2020-09-13T12:26:40Z"},
    ]
    text = "".join(json.dumps(record) + "\r\n" for record in records)
    batch = only(log_of(tmp_path / "x.ndjson", text))
    ends = [len(json.dumps(records[0])) + 2, len(text)]
    assert rows_of([batch]) == [("IN", "79", 3, 2, T0, ends[0]), ("", "é", 0, 1, T0, ends[1])]


def test_templates_cut_and_join_columns(tmp_path):
    columns = ColumnMap.parse(
        ["segment=s-{u:.3}/{d}{{}}", "arm=item", "reward=click", "time=at", "event_id={d}:{item}"]
    )
    text = f"u,d,item,click,at\nabcdef,x,7,1,{T0}\nab,y,8,0,{T0}\n"
    events = only(log_of(tmp_path / "x.csv", text, columns)).events
    assert events.segments == ["s-abc/x{}", "s-ab/y{}"]
    assert events.event_ids == ["x:7", "y:8"]


def test_constants_need_no_column(tmp_path):
    columns = ColumnMap(segment="=IN/m", arm="item", trials="=0", reward="=1", time=None)
    events = only(log_of(tmp_path / "x.csv", "item\n7\n", columns)).events
    assert (events.segments, events.arms) == (["IN/m"], ["7"])
    assert (events.trials[0], events.successes[0], events.times[0]) == (0, 1, NOW)
    events = only(log_of(tmp_path / "x.csv", "item\n7\n", ColumnMap("=", "item", "=1", time=None)))
    assert events.events.segments == [""]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2019-11-24 00:00:17.004101+00:00", 1574553617.004101),
        ("2019-11-24T01:00:17+01:00", 1574553617.0),
        ("2019-11-24T00:00:17Z", 1574553617.0),
        ("1574553617.25", 1574553617.25),
        ("1.574553617e9", 1574553617.0),
    ],
)
def test_times(tmp_path, time, seconds):
    text = f"segment,arm,reward,time\nIN,a,1,{time}\n"
    assert only(log_of(tmp_path / "x.csv", text)).events.times.tolist() == [seconds]


def test_quoted_newlines_quotes_and_blank_lines_keep_offsets_exact(tmp_path):
    parts = [
        b"\xef\xbb\xbf\r\n",
        b'"segment",arm,"no""te",reward,time\r\n',
        b'IN,a,"two\r\nlines, and ""more""\n",1,%d\r\n' % T0,
        b"\n\r\n",
        b"IN,b,,0,%d\n" % T0,
    ]
    log = log_of(tmp_path / "x.csv", b"".join(parts))
    batch = only(log)
    assert batch.events.arms == ["a", "b"]
    assert batch.offsets.tolist() == [len(b"".join(parts[:3])), len(b"".join(parts))]
    assert (batch.end.offset, batch.end.line) == (len(b"".join(parts)), 8)


def test_other_encodings(tmp_path):
    text = f"segment,arm,reward,time\nÅland,a,1,{T0}\n"
    log = log_of(tmp_path / "x.csv", text.encode("latin-1"), encoding="latin-1")
    assert only(log).events.segments == ["Åland"]
    assert len(only(log_of(tmp_path / "x.csv", text, encoding="utf-8-sig")).events) == 1


@settings(max_examples=150, deadline=None)
@given(
    table=st.lists(
        st.lists(st.text('ab ,"\n\r;', max_size=5), min_size=3, max_size=3), min_size=1, max_size=6
    ),
    ending=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    size=st.integers(1, 3),
)
def test_any_csv_is_read_as_the_csv_module_reads_it(tmp_path_factory, table, ending, quoting, size):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    out = io.StringIO()
    if any("\r" in value for row in table for value in row):
        quoting = csv.QUOTE_ALL  # the writer leaves a lone "\r" bare when lines end with "\n"
    writer = csv.writer(out, lineterminator=ending, quoting=quoting)
    writer.writerow(["u", "v", "w"])
    starts = [len(out.getvalue())]
    for row in table:
        writer.writerow(row)
        starts.append(len(out.getvalue()))
    # Letters around each value, so that every row is a valid event.
    columns = ColumnMap(segment="s{u}{w}s", arm="a{v}a", reward="=1", time=None)
    batches = list(log_of(path, out.getvalue(), columns).batches(size=size))
    assert [(r[0], r[1], r[5]) for r in rows_of(batches)] == [
        (f"s{u}{w}s", f"a{v}a", end) for (u, v, w), end in zip(table, starts[1:], strict=True)
    ]
    assert [b.end.offset for b in batches[:-1]] == starts[size::size][: len(batches) - 1]


# --- bad records -------------------------------------------------------------------------------

GOOD = f"IN,a,1,{T0}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("IN,a,1", "3 values, but the header names 4 columns"),
        ("IN,a,1,2,3", "5 values, but the header names 4 columns"),
        (f"IN,a,x,{T0}", "reward is 'x': a number is needed"),
        (f"IN,a,,{T0}", "reward is '': a number is needed"),
        (f"IN,a,1_0,{T0}", "reward is '1_0': a number is needed"),
        (f"IN,a,1e999,{T0}", "reward is inf: finite and not negative"),
        (f"IN[0]//,a,1,{T0}", "segment is 'IN[0]//': a path has no empty part"),
        (f"IN,a,-0.5,{T0}", "reward is -0.5: finite and not negative"),
        (f"IN,a,1.5,{T0}", "reward is 1.5: at most the trials of its event"),
        ("IN,a,1,4e8", "time is 400000000.0: seconds since 1970 (UTC) are meant"),
        ("IN,a,1,4102444800", "time is 4102444800.0: more than 3600 s ahead of the clock"),
        (f"IN,a,1,{T0}000", "s ahead of the clock (1700000000); check clock and unit"),
        ("IN,a,1,2019-11-24 00:00:17", "it says no time zone"),
        ("IN,a,1,20191124T", "time is '20191124T': seconds since 1970, or ISO 8601 with an offset"),
        ("IN,a,1,", "time is '': seconds since 1970, or ISO 8601 with an offset"),
        (f"IN,,1,{T0}", "arm is '': an id has 1 to 256 UTF-8 bytes, this has 0"),
        (f"IN,{'é' * 150},1,{T0}", "an id has 1 to 256 UTF-8 bytes, this has 300"),
        (f"IN//m,a,1,{T0}", "segment is 'IN//m': a path has no empty part"),
        (f'"IN"x,a,1,{T0}', "',' expected after '\"'"),
        (f'IN,"a,1,{T0}', "',' expected after '\"'"),
        (f"IN,a\rb,1,{T0}", "new-line character seen in unquoted field"),
        (f"{'x' * (1 << 20)},a,1,{T0}", "at most 1048576 bytes, this is longer"),
        (b"IN,\xff,1,%d" % T0, "not utf-8: invalid start byte at byte 3 of the line"),
        (b'IN,"\xff",1,%d' % T0, "not utf-8: invalid start byte at byte 4 of the line"),
        (b"IN,\xed\xa0\x80,1,%d" % T0, "not utf-8"),
    ],
)
def test_a_bad_csv_line_is_rejected_alone(tmp_path, line, reason):
    raw = line if isinstance(line, bytes) else line.encode()
    last = b'US,"b",0,%d\n' % T0  # closes quotes that the bad line may open
    text = b"segment,arm,reward,time\n%s\n" % GOOD.encode() + raw + b"\n" + last
    log = log_of(tmp_path / "x.csv", text)
    batch = only(log)
    assert batch.events.arms == ["a", "b"]
    (reject,) = batch.rejects
    assert reason in reject.reason
    assert (reject.line, reject.offset) == (3, len(text) - len(last) - len(raw) - 1)
    shown = raw.decode(errors="backslashreplace")
    assert reject.raw == (shown if len(shown) <= 4000 else shown[:3997] + "...")
    assert (batch.end.offset, batch.end.line, log.tail) == (len(text), 4, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON: Expecting property name"),
        ("[1]", "a JSON object is needed, not list"),
        ("[" * 100_000, "it nests too deeply"),
        ('{"segment": "IN"}', "it has no key 'arm'"),
        ({"reward": float("nan")}, "NaN is not a JSON number"),
        ({"reward": "1x"}, "reward is '1x': a number is needed"),
        ({"reward": None}, "reward is None: a number is needed"),
        ({"reward": 10**400}, "a number is needed"),
        ({"arm": None}, "arm is None: text or a whole number is needed"),
        ({"arm": 7.5}, "arm is 7.5: text or a whole number is needed"),
        ({"arm": True}, "arm is True: text or a whole number is needed"),
        ({"arm": "\ud800"}, "an id must be text that UTF-8 can encode"),
        ({"segment": ["IN"]}, "segment is ['IN']: text or a whole number is needed"),
        ({"time": True}, "time is True: seconds since 1970, or ISO 8601"),
        ({"time": [1]}, "time is [1]: seconds since 1970, or ISO 8601"),
        (b'{"arm": "\xff"}', "not utf-8: invalid start byte at byte 9 of the line"),
        (b"x" * (2 << 20), "a line has at most 1048576 bytes"),
    ],
)
def test_a_bad_json_line_is_rejected_alone(tmp_path, line, reason):
    good = {"segment": "IN", "arm": "a", "reward": 1, "time": T0}
    if isinstance(line, dict):
        line = json.dumps(good | line)
    raw = line if isinstance(line, bytes) else line.encode()
    text = json.dumps(good).encode() + b"\n" + raw + b"\n\n" + json.dumps(good).encode() + b"\n"
    batch = only(log_of(tmp_path / "x.jsonl", text))
    assert batch.events.arms == ["a", "a"]
    (reject,) = batch.rejects
    assert reason in reject.reason
    assert (reject.line, reject.offset) == (2, text.index(b"\n") + 1)
    assert batch.end.offset == len(text)


def test_many_bad_rows_are_each_found(tmp_path):
    lines = [f"IN,a{i},{2 if i % 3 else 1},{T0}\n" for i in range(1000)]
    batch = only(log_of(tmp_path / "x.csv", "segment,arm,reward,time\n" + "".join(lines)))
    assert batch.events.arms == [f"a{i}" for i in range(0, 1000, 3)]
    assert [reject.line for reject in batch.rejects] == [i + 2 for i in range(1000) if i % 3]


def test_good_rows_keep_their_offsets_among_bad_ones(tmp_path):
    lines = ["IN,a", f"IN,b,1,{T0}", f"IN,c,x,{T0}", f"IN,d,1,{T0}", f"IN,e,2,{T0}", "IN"]
    text = "segment,arm,reward,time\n" + "".join(line + "\n" for line in lines)
    batch = only(log_of(tmp_path / "x.csv", text))
    assert batch.events.arms == ["b", "d"]
    assert batch.offsets.tolist() == [text.index("IN,c"), text.index("IN,e")]
    assert [reject.line for reject in batch.rejects] == [2, 4, 6, 7]


def test_a_well_formed_record_of_several_lines_is_rejected_whole(tmp_path):
    # Its second line looks like an event; it is text inside quotes and must not count.
    text = f'segment,arm,reward,time\nIN,"x\n{GOOD}\n",1\n{GOOD}\n'
    batch = only(log_of(tmp_path / "x.csv", text))
    assert len(batch.events) == 1
    assert [(r.line, r.raw) for r in batch.rejects] == [(2, f'IN,"x\n{GOOD}\n",1')]


def test_a_stray_quote_swallows_nothing(tmp_path):
    lines = [f"IN,a{i},1,{T0},{'x' * 1000}\n" for i in range(2000)]
    lines[5] = f'IN,"a,1,{T0},\n'
    batch = only(log_of(tmp_path / "x.csv", "segment,arm,reward,time,note\n" + "".join(lines)))
    assert len(batch.events) == 1999
    assert [(r.line, r.raw) for r in batch.rejects] == [(7, lines[5][:-1])]
    assert batch.rejects[0].reason == (
        "it opens a quote that is still open 100 lines or 65536 bytes on"
    )


@pytest.mark.parametrize(
    ("lines", "size", "outcome"),
    [
        (100, 20, "event"),
        (101, 20, "reject"),
        (64, 1024, "event"),
        (65, 1024, "reject"),
        (1, 1 << 16, "event"),
        (1, (1 << 16) + 1, "reject"),
    ],
)
def test_a_record_goes_on_for_100_lines_and_64_kib_at_most(tmp_path, lines, size, outcome):
    more = ["x" * (size - 1) + "\n"] * lines
    more[-1] = "x" * (size - 2) + '"\n'
    first = f'IN,a,1,{T0},"' + "x" * 10_000 + "\n"  # does not count
    head = "segment,arm,reward,time,note\n"
    batch = only(log_of(tmp_path / "x.csv", head + first + "".join(more)))
    if outcome == "event":
        assert (batch.events.arms, batch.rejects) == (["a"], [])
    else:
        assert batch.events.arms == []
        assert [r.line for r in batch.rejects] == list(range(2, lines + 3))
        assert "a quote that is still open" in batch.rejects[0].reason


@pytest.mark.parametrize("good", [99, 100, 5000])
def test_no_more_than_99_lines_wait_behind_an_open_quote(tmp_path, good):
    head = "segment,arm,reward,time\n"
    path = tmp_path / "x.csv"
    log = log_of(path, head + f'IN,"a,1,{T0}\n' + f"{GOOD}\n" * good)
    batches = list(log.batches())
    if good > 99:
        (batch,) = batches
        assert len(batch.events) == good
        assert [r.line for r in batch.rejects] == [2]
        assert log.tail is None
        return
    assert batches == []
    assert log.tail is not None
    assert (log.tail.line, log.tail.offset) == (2, len(head))
    assert log.tail.reason == (
        "line 2 opens a quote that the file does not close: left for the next run; the lines "
        "after it wait too. If nothing more comes, correct that line, or give it the quote that "
        "closes the value"
    )
    # Nothing was read of it, so it can be corrected in place.
    log = log_of(path, head + f'IN,"a",1,{T0}\n' + f"{GOOD}\n" * good)
    assert len(only(log).events) == good + 1


def test_a_file_of_stray_quotes_is_read_in_steps_of_a_bounded_size(tmp_path, monkeypatch):
    read = 0
    plain = LineReader.read

    def counted(self, *most):
        nonlocal read
        raw = plain(self, *most)
        read += len(raw)
        return raw

    monkeypatch.setattr(LineReader, "read", counted)
    bad = 'x","' + "x" * 96 + "\n"  # each closes the quote before it, and opens one
    long = "y" * 500_000 + "\n"
    log = log_of(tmp_path / "x.csv", "segment,arm,reward,time\n" + (bad * 99 + long) * 2)
    read = 0
    assert len(only(log).rejects) == 200
    # Each bad line twice, as a line and as a record, and 64 KiB and a byte on; the long ones once.
    assert read <= 198 * (2 * len(bad) + (1 << 16) + 1) + 2 * len(long)


ODD = [
    "1",
    "0",
    "0.5",
    " 1",
    "1 ",
    "\t1",
    "1_0",
    "inf",
    "nan",
    "0x1",
    "١",
    "1e0",
    "",
    "+1",
    "1.",
    "2",
]
ODD_TIMES = [str(T0), f"{T0} ", f"{T0:_}", "2020-09-13T12:26:40Z", " 2020-09-13T12:26:40Z", "1.6e9"]
ODD_IDS = ["a", "", "a[0]", "[0]/ is", "//", "x" * 257, "\1", "row 0: "]
ODD_JSON = [1, 0.5, True, None, "1", " 1", "nan", 10**400, 2, [1]]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([*ODD_IDS, 7, None]),
            st.sampled_from([*ODD_IDS, 7, True, "\ud800"]),
            st.sampled_from([*ODD, *ODD_JSON]),
            st.sampled_from([*ODD, *ODD_JSON]),
            st.sampled_from([*ODD_TIMES, *ODD_TIMES, T0, True]),
        ),
        min_size=1,
        max_size=12,
    ),
    format_=st.sampled_from(["csv", "jsonl"]),
)
def test_a_record_counts_whatever_its_neighbours_are(tmp_path_factory, rows, format_):
    names = ("segment", "arm", "successes", "trials", "time")
    path = tmp_path_factory.mktemp("odd") / f"x.{format_}"
    if format_ == "jsonl":
        good = dict(zip(names, ("IN", "a", 1, 1, T0), strict=True))
        records = [good, *(dict(zip(names, row, strict=True)) for row in rows)]
        text = "".join(json.dumps(record) + "\n" for record in records)
    else:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([names, ("IN", "a", "1", "1", T0)])
        writer.writerows([[str(v).replace("\ud800", "?") for v in row] for row in rows])
        text = out.getvalue()
    alone, *others = (list(log_of(path, text).batches(size=size)) for size in (1, 2, 5, 100))
    for batches in others:
        assert rows_of(batches) == rows_of(alone)
        assert [r for b in batches for r in b.rejects] == [r for b in alone for r in b.rejects]


@pytest.mark.parametrize("name", ["reward", "trials", "time"])
@pytest.mark.parametrize("odd", [" 1", "1 ", "1_0", "inf", "nan", "0x1", "١", "1\xa0", ""])
def test_a_number_is_decimal_and_bare(tmp_path, name, odd):
    row = {"segment": "IN", "arm": "a", "reward": "1", "trials": "1", "time": str(T0), name: odd}
    text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    batch = only(log_of(tmp_path / "x.csv", text))
    assert len(batch.events) == 0
    assert batch.rejects[0].reason.startswith(f"{name} is {odd!r}: ")


def test_an_id_may_hold_nul_in_any_record(tmp_path):
    pad = f"{GOOD}\n" * 100
    text = f'segment,arm,reward,time\n{pad}IN,a\0b,1,{T0}\nIN,"a\0b",1,{T0}\n'
    batch = only(log_of(tmp_path / "x.csv", text))
    assert batch.events.arms[100:] == ["a\0b", "a\0b"]
    record = {"segment": "IN", "arm": "a\0b", "reward": 1, "time": T0}
    batch = only(log_of(tmp_path / "x.jsonl", json.dumps(record) + "\n"))
    assert batch.events.arms == ["a\0b"]


# --- the end of a growing file -----------------------------------------------------------------


def test_an_unfinished_last_line_waits_for_its_newline(tmp_path):
    path = tmp_path / "x.csv"
    head = f"segment,arm,reward,time\n{GOOD}\n"
    log = log_of(path, head + f"IN,b,1,{T0}")
    batch = only(log)
    assert (len(batch.events), batch.end.offset, batch.end.line) == (1, len(head), 2)
    assert log.tail is not None
    assert (log.tail.line, log.tail.offset) == (3, len(head))
    assert log.tail.reason == (
        "line 3 has no newline: left for the next run; end the file with a newline if it is "
        "complete"
    )
    with path.open("a") as out:
        out.write("7\nIN,c,0,1600000001\n")
    rest = only(log, start=batch.end)
    assert rest.events.times.tolist() == [float(f"{T0}7"), T0 + 1] or rest.rejects
    assert [r.line for r in rest.rejects] == [3]  # the time had not been written to its end
    assert rest.events.arms == ["c"]
    assert log.tail is None
    assert rest.end.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_open_quote_at_the_end_is_unfinished(tmp_path):
    log = log_of(tmp_path / "x.csv", f'segment,arm,reward,time\n{GOOD}\nIN,"b\nc\n')
    assert len(only(log).events) == 1
    assert log.tail is not None
    assert log.tail.reason.startswith("line 3 opens a quote that the file does not close")
    log = log_of(tmp_path / "x.jsonl", '{"segment":"IN","arm":"a","reward":1,"time":16e8}\n{"a')
    assert len(only(log).events) == 1
    assert log.tail is not None
    assert log.tail.line == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_going_on_from_any_batch_gives_the_same_events(tmp_path, size):
    lines = [f'IN,"a\n{i}",{0 if i % 4 else 9},{T0 + i}\n' for i in range(10)]
    text = "segment,arm,reward,time\n" + "\n".join(lines)
    log = log_of(tmp_path / "x.csv", text)
    whole = list(log.batches(size=size))
    assert len(whole) == -(-10 // size)
    for i, batch in enumerate(whole):
        again = list(EventLog(log.path, now=lambda: NOW).batches(batch.end, size=size))
        assert rows_of(again) == rows_of(whole[i + 1 :])
        assert [b.end for b in again] == [b.end for b in whole[i + 1 :]]
        assert [r for b in again for r in b.rejects] == [
            r for b in whole[i + 1 :] for r in b.rejects
        ]
    assert sum(len(b.rejects) for b in whole) == 3


# --- identity ----------------------------------------------------------------------------------


def test_the_fingerprint_is_of_header_and_first_record(tmp_path):
    head, first = "segment,arm,reward,time,note\n", f'{GOOD},"x\ny"\n'
    log = log_of(tmp_path / "x.csv", head + first + f"US,b,0,{T0},\n")
    expected = hashlib.sha256((head + first).encode()).hexdigest()
    assert log.fingerprint == expected
    assert log_of(tmp_path / "other.csv", head + first).fingerprint == expected
    assert log_of(tmp_path / "y.csv", head + first[1:]).fingerprint != expected
    bare = log_of(tmp_path / "z.csv", head + first[:-1])  # the first record is unfinished
    assert bare.fingerprint == hashlib.sha256(head.encode()).hexdigest()
    assert list(bare.batches()) == []


def test_a_changed_or_shorter_file_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    text = f"segment,arm,reward,time\n{GOOD}\nIN,b,1,{T0}\n"
    end = only(log_of(path, text)).end
    log_of(path, text + f"IN,c,1,{T0}\n").verify(end)
    for other in (text.replace("b", "c"), text[: -len(f"IN,b,1,{T0}\n")]):
        log = log_of(path, other)
        with pytest.raises(InvalidValueError, match="--source NAME"):
            log.verify(end)
        with pytest.raises(InvalidValueError, match=f"the {end.offset} bytes ingested before"):
            log.batches(end)
    with pytest.raises(InvalidValueError, match="--source NAME"):
        log.verify(Position(-1, 0, end.digest))


def test_a_file_that_is_cut_while_it_is_read_is_named(tmp_path):
    log = log_of(tmp_path / "x.csv", f"segment,arm,reward,time\n{GOOD}\n" * 1)
    digests = log.digests([1, log.size])
    next(digests)
    os.truncate(log.path, 5)
    with pytest.raises(InvalidValueError, match=r"x\.csv': it was cut below byte"):
        next(digests)


def test_a_file_that_was_replaced_meanwhile_is_refused(tmp_path):
    log = log_of(tmp_path / "x.csv", f"segment,arm,reward,time\n{GOOD}\n")
    (tmp_path / "y").write_bytes(log.path.read_bytes())
    (tmp_path / "y").replace(log.path)
    with pytest.raises(InvalidValueError, match="another file took its place"):
        list(log.batches())


# --- files that are no logs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"\xef\xbb\xbf", "the file is empty"),
        ("x.csv", b"\n\n", "it has no complete line"),
        ("x.csv", b"segment,arm,reward,time", "it has no complete line"),
        ("x.csv", b"\x1f\x8b\x08\0", "it is gzip data: unpack"),
        ("x.csv", b"PK\x03\x04\x14\0", "it is a zip archive"),
        ("x.parquet", b"PAR1\x15\x04", "it is Parquet"),
        ("x.csv", "segment,arm\n".encode("utf-16"), "it is UTF-16 text"),
        ("x.csv", b"segment,\0\n", "it holds NUL bytes"),
        ("x.txt", b"segment,arm,reward,time\n", "name it, csv or jsonl (--format)"),
        ("x.csv", b"segment,item,reward,time\n", "no column 'arm'. It has 'segment', 'item', "),
        ("x.csv", b"segment,arm,time\n", "either reward or successes must be a column"),
        ("x.csv", b"segment,arm,reward,successes,time\n", "either reward or successes must be"),
        ("x.csv", b"segment;arm;reward;time\n", "Values are separated by commas"),
        ("x.csv", b"segment,arm,reward,time,arm\n", "it has the column 'arm' twice"),
        ("x.csv", b"segment,\xff\n", "not utf-8"),
        ("x.csv", b'segment,"arm"x\n', "expected after"),
        ("x.jsonl", b"segment,arm\n", "no JSON object stands in its first lines"),
        ("x.jsonl", b'[{"arm": 1}]\n', "no JSON object stands in its first lines"),
        ("x.jsonl", b'{"arm": 1}\n', "no column 'segment'; no column 'time'. It has 'arm'"),
    ],
)
def test_files_that_are_no_logs(tmp_path, name, content, message):
    with pytest.raises(InvalidValueError, match=r"x\.") as caught:
        log_of(tmp_path / name, content)
    assert message in str(caught.value)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path, tmp_path / "pipe.csv", Path("/dev/null")):
        with pytest.raises(InvalidValueError, match="a regular file is needed"):
            EventLog(path, format="csv")
    with pytest.raises(InvalidValueError, match="No such file"):
        EventLog(tmp_path / "none.csv")
    with pytest.raises(InvalidValueError, match="it cannot be read: embedded null"):
        EventLog("a\0.csv")


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32-le", "cp037", "rot13", "base64", "no", "a\0", "idna", "punycode"]
)
def test_encodings_that_cannot_be(tmp_path, encoding):
    with pytest.raises(InvalidValueError, match="encoding is"):
        log_of(tmp_path / "x.csv", "segment,arm,reward,time\n", encoding=encoding)
    with pytest.raises(InvalidValueError, match="encoding is"):
        log_of(tmp_path / "x.jsonl", '{"arm": 1}\n', encoding=encoding)


def test_format_and_size_are_checked(tmp_path):
    text = f"segment,arm,reward,time\n{GOOD}\n"
    assert len(only(log_of(tmp_path / "x.log", text, format="csv")).events) == 1
    with pytest.raises(InvalidValueError, match="csv or jsonl"):
        log_of(tmp_path / "x.csv", text, format="parquet")
    for size in (0, -1, True, 1.5):
        with pytest.raises(InvalidValueError, match="size is"):
            log_of(tmp_path / "x.csv", text).batches(size=size)


# --- the map -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["arm"], "FIELD=COLUMN"),
        (["item=arm"], "FIELD=COLUMN"),
        (["arm=a", "arm=b"], "mapped twice"),
        (["segment="], "segment is ''"),
        (["segment={a"], "no valid template"),
        (["segment={}"], "between braces"),
        (["segment={a!r}"], "between braces"),
        (["segment={a:>8}"], "between braces"),
        (["segment={a:{b}}"], "between braces"),
        (["reward={a}x"], "a number is one column"),
        (["reward==x"], "a constant here is a number"),
        (["reward==-1"], "a constant here is a number"),
        (["trials==nan"], "a constant here is a number"),
        (["trials==1_0"], "trials is '=1_0': a constant here is a number"),
        (["reward== 1"], "reward is '= 1': a constant here is a number"),
        (["reward==١"], "a constant here is a number"),
        (["reward=a", "successes=b"], "give one of them"),
        (["event_id==x"], "would make all events one"),
    ],
)
def test_maps_that_cannot_be(pairs, message):
    with pytest.raises(InvalidValueError, match=message):
        ColumnMap.parse(pairs)


def test_a_mapping_is_a_map(tmp_path):
    text = "item,click\n7,1\n"
    fields = {"segment": "=IN", "arm": "item", "reward": "click", "time": None}
    log = log_of(tmp_path / "x.csv", text, fields)
    assert only(log).events.arms == ["7"]
    same = log_of(tmp_path / "y.csv", text, ColumnMap(**fields))
    assert log.reading == same.reading == "csv utf-8 segment='=IN' arm='item' reward='click'"
    with pytest.raises(InvalidValueError, match=r"^columns is 'item': one of segment, arm, "):
        log_of(tmp_path / "x.csv", text, {**fields, "item": "arm"})
    with pytest.raises(InvalidTypeError, match=r"^arm is 7: a str is needed"):
        log_of(tmp_path / "x.csv", text, {**fields, "arm": 7})


@pytest.mark.parametrize(
    ("path", "columns", "message"),
    [
        ("x.csv", "arm=item", r"^columns is 'arm=item': a ColumnMap"),
        ("x.csv", ["arm"], r"^columns is \['arm'\]: a ColumnMap"),
        ("x.csv", 0, r"^columns is 0: a ColumnMap"),
        (3, None, r"^path is 3: a str or a Path"),
    ],
)
def test_what_is_no_path_and_no_map(path, columns, message):
    with pytest.raises(InvalidTypeError, match=message):
        EventLog(path, columns)


def test_how_a_log_is_read_tells_maps_apart(tmp_path):
    text = "segment,arm,reward,time,x\n"
    maps = [None, {"time": None}, {"arm": "x"}, {"segment": "{arm}"}, {"trials": "=1"}]
    readings = [log_of(tmp_path / "x.csv", text + "a,b,1,2,3\n", each).reading for each in maps]
    assert len(set(readings)) == len(maps)
    assert readings[0] == log_of(tmp_path / "y.csv", text, {"reward": "reward"}).reading


def test_a_template_reaches_columns_and_nothing_else(tmp_path):
    columns = ColumnMap(segment="{arm.__class__}", reward="=1", time=None)
    with pytest.raises(InvalidValueError, match=r"no column 'arm\.__class__'"):
        log_of(tmp_path / "x.csv", "arm\n7\n", columns)
    log = log_of(tmp_path / "x.csv", "arm,arm.__class__\n7,IN\n", columns)
    assert only(log).events.segments == ["IN"]
