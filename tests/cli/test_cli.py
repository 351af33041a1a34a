"""The commands, in this process and as processes of their own, against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.cli.arguments import duration
from banditcore.cli.output import age, span
from banditcore.store.counts import index
from terminals import on_a_terminal, spawn

T0 = 1_600_000_000


@pytest.fixture
def log(tmp_path) -> Path:
    """4 arms in 2 segments: IN/m has a: 2 of 3, b: 0 of 1; US has c: 1 of 1, d: 0 of 1."""
    rows = ["IN/m,a,1", "IN/m,a,1", "IN/m,a,0", "IN/m,b,0", "US,c,1", "US,d,0"]
    path = tmp_path / "log.csv"
    path.write_text("segment,arm,reward,time\n" + "".join(f"{row},{T0}\n" for row in rows))
    return path


@pytest.fixture
def store_by_environment(store, monkeypatch):
    monkeypatch.setenv("BANDITCORE_URL", store.url)
    return store


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys, *arguments: object):
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


def ingest(capsys, store, log, *more) -> dict:
    (result,) = run_json(capsys, "ingest", log, "--bandit", "b", "--url", store.url, *more)["logs"]
    return result


def applied(result: dict) -> tuple[int, int, int]:
    return result["applied"], result["duplicate"], result["refused"]


def test_from_log_to_recommendation(capsys, store, log):
    result = ingest(capsys, store, log)
    assert applied(result) == (6, 0, 0)
    assert (result["segments"], result["end"]["offset"]) == (2, log.stat().st_size)
    report = run_json(
        capsys, "refresh", "--bandit", "b", "--url", store.url, "--prior", "1,30", "--slates", "16"
    )
    assert report["published"] == ["", "IN", "US", "IN/m"]
    assert (report["failed"], report["superseded"]) == ({}, [])
    answer = run_json(
        capsys, "recommend", "--bandit", "b", "--segment", "IN/m/new", "-k", "5", "--user", "u",
        "--exclude", "b", "--url", store.url,
    )  # fmt: skip
    assert (answer["arms"], answer["source"], answer["propensities"]) == (["a"], "IN/m", [1.0])
    assert answer["version"] / 1e6 + answer["age_s"] > T0
    assert run_json(capsys, "inspect", "--url", store.url) == {
        "bandits": [{"bandit": "b", "segments": 2, "half_life_s": None}]
    }
    segments = run_json(capsys, "inspect", "b", "--url", store.url)["segments"]
    shown = [(s["segment"], s["arms"], s["trials"], s["successes"]) for s in segments]
    assert shown == [("", 0, 0, 0), ("IN", 0, 0, 0), ("US", 2, 2, 1), ("IN/m", 2, 4, 2)]
    below = [(s["all_trials"], s["all_successes"]) for s in segments]
    assert below == [(6, 3), (4, 2), (2, 1), (4, 2)]
    assert all(s["bytes"] > 100 and s["unusable"] is None for s in segments)
    assert all(s["version"] == answer["version"] for s in segments if s["segment"] == "IN/m")
    arms = run_json(capsys, "inspect", "b", "", "--prior", "1,30", "--url", store.url)["arms"]
    assert [(a["arm"], a["trials"], a["successes"]) for a in arms] == [
        ("a", 3, 2),
        ("c", 1, 1),
        ("b", 1, 0),
        ("d", 1, 0),
    ]
    assert arms[0]["mean"] == pytest.approx(3 / 34, abs=1e-12)  # Beta(1 + 2, 30 + 1)


def test_a_log_counts_once_and_grows(capsys, store, log):
    assert applied(ingest(capsys, store, log)) == (6, 0, 0)
    assert applied(ingest(capsys, store, log)) == (0, 0, 0)
    assert applied(ingest(capsys, store, log, "--rescan", "--batch-size", 2)) == (0, 6, 0)
    code, out, _ = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url)
    assert code == 0
    assert out == f"{log}: nothing new; {log.stat().st_size:,} bytes were ingested before\n"
    with log.open("a") as file:
        file.write(f"US,c,1,{T0}\nUS,c,0,{T0}")
    result = ingest(capsys, store, log)
    assert applied(result) == (1, 0, 0)
    assert (result["tail"]["line"], result["end"]["line"]) == (9, 8)
    _, _, err = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url)
    assert f"{log}: line 9 has no newline: left for the next run" in err
    assert Bandit("b", store).counts("", descendants=True).trials.sum() == 7


def test_a_changed_log_needs_a_name_of_its_own(capsys, store, log):
    ingest(capsys, store, log)
    log.write_text(log.read_text().replace("US,d,0", "US,d,1"))
    code, _, err = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url)
    assert code == 2
    assert "--source NAME" in err
    assert applied(ingest(capsys, store, log, "--source", "other")) == (6, 0, 0)


def test_the_log_itself_takes_no_refused_lines(capsys, store, log):
    with log.open("a") as file:
        file.write("US\n")
    before = log.read_text()
    code, _, err = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url, "--reject", log)
    assert code == 2
    assert "--reject is" in err
    assert log.read_text() == before
    assert Bandit("b", store).segments() == []


def test_a_refused_line_that_cannot_be_kept_stops_the_job_before_its_batch(capsys, store, log):
    with log.open("a") as file:
        file.write("US\n")
    code, _, err = run(
        capsys, "ingest", log, "--bandit", "b", "--url", store.url, "--reject", "/dev/full"
    )
    assert code == 1
    assert "/dev/full" in err
    assert Bandit("b", store).segments() == []


def test_bad_lines_are_kept_apart(capsys, store, log, tmp_path, monkeypatch):
    with log.open("a") as file:
        file.write(f"US,c,x,{T0}\nUS,c,1,{T0}\nUS\n")
    result = ingest(capsys, store, log)
    assert applied(result) == (7, 0, 2)
    beside = tmp_path / "log.csv.rejects"
    assert result["rejects"] == str(beside)
    kept = [json.loads(line) for line in beside.read_text().splitlines()]
    assert [(k["line"], k["raw"]) for k in kept] == [(8, f"US,c,x,{T0}"), (10, "US")]
    assert kept[0]["reason"] == "reward is 'x': a number is needed"
    chosen = tmp_path / "chosen.jsonl"
    code, out, err = run(
        capsys, "ingest", log, "--bandit", "c", "--url", store.url, "--strict", "--reject", chosen
    )
    assert code == 1
    assert "7 applied, 0 duplicate, 2 refused; 2 segments" in out
    assert f"2 refused, see {chosen}; the first: line 8: reward is 'x'" in err
    assert len(chosen.read_text().splitlines()) == 2


def test_a_log_of_which_nothing_can_be_used_is_1_and_is_read_again(capsys, store, log):
    wrong = ["--map", "reward=time"]
    code, out, err = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url, *wrong)
    assert code == 1
    assert "0 applied, 0 duplicate, 6 refused" in out
    assert "at most the trials" in err
    assert applied(ingest(capsys, store, log)) == (6, 0, 0)  # the right map begins anew


def test_another_map_does_not_count_twice(capsys, store, log):
    assert applied(ingest(capsys, store, log)) == (6, 0, 0)
    for more in ([], ["--rescan"]):
        code, out, err = run(
            capsys, "ingest", log, "--bandit", "b", "--url", store.url, "--map",
            "segment=x/{segment}", *more,
        )  # fmt: skip
        assert (code, out) == (2, "")
        assert "\"csv utf-8 segment='segment' arm='arm' reward='reward' time='time'\" before" in err
        assert "segment='x/{segment}'" in err
        assert "--source NAME" in err
    assert Bandit("b", store).counts("", descendants=True).trials.sum() == 6
    explicit = ["--map", "reward=reward", "time=time"]  # what was found without being told
    assert applied(ingest(capsys, store, log, *explicit, "--rescan")) == (0, 6, 0)


def test_refused_lines_are_remembered(capsys, store, log):
    with log.open("a") as file:
        file.write(f"US,c,x,{T0}\nUS,c,1,{T0}\nUS\n")
    for more in (["--batch-size", 2], [], ["--rescan"], []):
        result = ingest(capsys, store, log, *more)
        assert result["refused"] + result["refused_before"] == 2
    with log.open("a") as file:
        file.write(f"US,c,1,{T0}\nUS,c,y,{T0}\n")
    result = ingest(capsys, store, log)
    assert (result["refused"], result["refused_before"]) == (1, 2)
    code, out, _ = run(capsys, "ingest", log, "--bandit", "b", "--url", store.url)
    assert code == 0
    assert "; 3 lines were refused then, and are not read again: ingest them, mended, from" in out


def test_events_that_have_faded_are_pointed_out(capsys, store, log):
    with log.open("a") as file:
        file.write("".join(f"IN,a,1,{time.time():.0f}\n" for _ in range(6)))
    _, _, err = run(capsys, "ingest", log, "--bandit", "a", "--half-life", "1d", "--url", store.url)
    assert err == ""  # half of them is not most
    text = log.read_text().splitlines(keepends=True)
    log.write_text("".join(text[:-1]))
    _, _, err = run(capsys, "ingest", log, "--bandit", "b", "--half-life", "1d", "--url", store.url)
    assert (
        "6 of 11 events are older than 20 half-lives of 1d, which count as good as nothing" in err
    )
    _, _, err = run(capsys, "ingest", log, "--bandit", "c", "--url", store.url)
    assert err == ""


def test_maps_constants_and_logs_without_times(capsys, store, tmp_path):
    path = tmp_path / "clicks.ndjson"
    path.write_text('{"item": 7, "country": "IN"}\n{"item": 8, "country": "IN"}\n')
    result = ingest(
        capsys, store, path, "--no-time", "--map", "arm=item", "segment={country}/m", "trials==0",
        "--map", "reward==1",
    )  # fmt: skip
    assert applied(result) == (2, 0, 0)
    counts = Bandit("b", store).counts("IN/m")
    assert sorted(counts.arms) == ["7", "8"]
    assert (counts.trials.tolist(), counts.successes.tolist()) == ([0, 0], [1, 1])


def test_the_half_life_is_kept(capsys, store, log):
    ingest(capsys, store, log, "--half-life", "7d")
    (bandit,) = run_json(capsys, "inspect", "--url", store.url)["bandits"]
    assert bandit["half_life_s"] == 7 * 86400
    code, _, err = run(
        capsys, "ingest", log, "--bandit", "b", "--half-life", "1h", "--url", store.url
    )
    assert code == 2
    assert "kept with one of 7d: leave it out" in err


def test_workers_publish_the_same_segments(capsys, store, log):
    ingest(capsys, store, log)
    report = run_json(capsys, "refresh", "--bandit", "b", "--url", store.url, "--workers", 2)
    assert sorted(report["published"]) == ["", "IN", "IN/m", "US"]
    report = run_json(capsys, "refresh", "--bandit", "b", "--url", store.url, "--segment", "US")
    assert sorted(report["published"]) == ["", "US"]


def test_pipes_get_lines_with_tabs_and_no_control_characters(capsys, store):
    Bandit("b", store).record("IN", "\x1b[31mred\n[bold]", reward=1, time=T0)
    code, out, err = run(capsys, "inspect", "b", "IN", "--url", store.url)
    assert code == 0
    assert err == "# b, IN and below: posteriors, 90 % intervals\n"
    header, row = out.splitlines()
    assert header.split("\t") == ["arm", "trials", "successes", "mean", "low", "high"]
    assert row.split("\t")[:3] == ["\\x1b[31mred\\n[bold]", "1", "1"]
    run(capsys, "refresh", "--bandit", "b", "--url", store.url)
    _, out, _ = run(capsys, "recommend", "--bandit", "b", "--url", store.url)
    assert out.splitlines()[1] == "1\t\\x1b[31mred\\n[bold]\t1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["dance"], "invalid choice"),
        (["refresh", "--bandit", "b", "--prior", "0,1"], "prior a is 0"),
        (["refresh", "--bandit", "b", "--depth", "0"], "'0' is no whole number >= 1"),
        (["ingest", "x.csv", "--bandit", "b", "--half-life", "7"], "'7' is no duration"),
        (["ingest", "none.csv", "--bandit", "b"], "'none.csv': it cannot be read"),
        (["ingest", "LOG", "--bandit", "b", "--map", "arm=item"], "no column 'item'"),
        (["ingest", "LOG", "--bandit", ""], "bandit is ''"),
        (["ingest", "LOG", "LOG", "--bandit", "b", "--source", "s"], "a name is of one log"),
        (["ingest", "LOG", "--bandit", "b", "--no-time", "--map", "time=at"], "mapped as well"),
        (["ingest", "LOG", "--bandit", "b", "--encoding", "utf-16"], "convert to utf-8"),
        (["refresh", "--bandit", "no"], "bandit is 'no': the store has none yet"),
        (["recommend", "--bandit", "no"], "bandit is 'no': the store has none yet"),
        (["recommend", "--bandit", "no", "--segment", "a//b"], "a path has no empty part"),
        (["inspect", "no"], "bandit is 'no': the store has none yet"),
        (["ingest", "LOG", "--bandit", "b", "--map", "x=y"], "reward, successes, trials, time\n"),
        (["ingest", "pyproject.toml", "--bandit", "b"], "(--format)"),
        (["inspect", "--url", "http://x"], "store url cannot be used"),
    ],
)
def test_what_cannot_be_used_is_2_and_changes_nothing(
    capsys, store_by_environment, log, arguments, message
):
    given = [str(log) if argument == "LOG" else argument for argument in arguments]
    code, out, err = run(capsys, *given)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert index.bandits(store_by_environment) == []


def test_a_store_that_cannot_be_reached_is_3(capsys, tmp_path, log):
    url = f"unix://{tmp_path}/none"
    code, out, err = run(capsys, "ingest", log, "--bandit", "b", "--url", url)
    assert (code, out) == (3, "")
    assert err.startswith("banditcore: error: the store unix://")


def test_nothing_published_is_1(capsys, store, log):
    ingest(capsys, store, log)
    code, _, err = run(capsys, "recommend", "--bandit", "b", "--url", store.url)
    assert code == 1
    assert "no usable snapshot is published" in err


def test_debugging_shows_where_an_error_comes_from(capsys, monkeypatch, tmp_path):
    arguments = ["ingest", tmp_path / "none.csv", "--bandit", "b"]
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    monkeypatch.setenv("BANDITCORE_DEBUG", "1")
    code, out, shown = run(capsys, *arguments)
    assert (code, out) == (2, "")  # nothing but the traceback is added
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith(err)


def test_an_interrupt_is_130(capsys):
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        code, out, err = run(capsys, "bench", "--rounds", 10**9)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (code, out, err) == (130, "", "banditcore: interrupted\n")


def test_an_unknown_segment_is_2_and_a_close_one_is_named(capsys, store, log):
    ingest(capsys, store, log)
    code, out, err = run(capsys, "inspect", "b", "IN/n", "--url", store.url)
    assert (code, out) == (2, "")
    assert "segment is 'IN/n': nothing was recorded there or below; close to it: 'IN/m'" in err
    assert run(capsys, "inspect", "b", "IN", "--url", store.url)[0] == 0  # only below


def test_help_lists_commands_and_codes(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in ("demo", "ingest", "refresh", "recommend", "inspect", "bench", "exit codes", "130"):
        assert word in out
    for variable in ("URL", "SERVER", "KERNEL", "DEBUG"):
        assert f"  BANDITCORE_{variable} " in out


@pytest.mark.parametrize("command", ["demo", "ingest", "refresh", "recommend", "inspect", "bench"])
def test_help_explains_every_option(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "10000")  # an option, its text and its default on one line
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "event_id" not in out
    for option in re.split(r"\n  (?=-)", out.partition("options:")[2])[1:]:
        spelled, _, text = option.partition("  ")
        assert text.strip(), f"{spelled} has no text"
        takes_a_value = re.search(r" ([A-Z]{1,}|7d|{)", spelled) is not None
        said = ("default", "repeated", "never these", "which bandit", "where segment, ", "how the")
        assert not takes_a_value or any(word in text for word in said), option


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"banditcore {version('banditcore')}\n", "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90min", 5400), ("12h", 43200), ("7d", 604800), ("0.5w", 302400)],
)
def test_durations(text, seconds):
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    ("seconds", "exact", "rounded"),
    [
        (0.4, "0.4s", "0s"),
        (59, "59s", "59s"),
        (90, "90s", "1min"),
        (5400, "90min", "1h"),
        (7200.5, "7200.5s", "2h"),
        (604800, "7d", "7d"),
        (1e6, "1000000s", "11d"),
    ],
)
def test_durations_are_shown_as_options_take_them(seconds, exact, rounded):
    assert (span(seconds).text, age(seconds).text) == (exact.replace("1000000", "1e+06"), rounded)
    if "e" not in span(seconds).text:
        assert duration(span(seconds).text).total_seconds() == seconds
    assert span(seconds).value == age(seconds).value == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-1d", "0d", "1 d", "1m", "1d2h", "1e9w", "9" * 30 + "w"]
)
def test_no_durations(capsys, text):
    code, _, err = run(capsys, "ingest", "x", "--bandit", "b", f"--half-life={text}")
    assert code == 2
    assert "duration" in err


# --- as a process ------------------------------------------------------------------------------


def test_as_a_process(store, log):
    more = ["--bandit", "b", "--url", store.url, "--json"]
    with spawn("ingest", str(log), *more, stdout=subprocess.PIPE) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["logs"][0]["applied"] == 6
    with spawn("inspect", "nothing", "--url", store.url, stdout=subprocess.PIPE) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "banditcore: error: bandit is 'nothing': the store has 'b'\n"


def test_a_reader_that_went_away_is_no_error(store):
    read, write = os.pipe()
    os.close(read)
    with spawn("inspect", "--url", store.url, stdout=write) as process:
        os.close(write)
        _, err = process.communicate()
    assert (process.returncode, err) == (141, "no bandits yet\n")


def test_tables_fit_a_terminal_of_80_columns(capsys, store, log, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    url = ["--url", store.url]
    assert on_a_terminal(80, "inspect", *url) == "no bandits yet\n"
    with log.open("a") as file:  # numbers and names as wide as they get in practice
        file.write(f"81ce123c/2d03db55,{'i' * 12},1,{T0}\n" * 2000)
    run(capsys, "ingest", log, "--bandit", "fashion-women", *url)
    run(capsys, "ingest", log, "--bandit", "fading", "--half-life", "7d", *url)
    run(capsys, "refresh", "--bandit", "fashion-women", *url)
    written = {
        words: on_a_terminal(80, *words, *url)
        for words in [
            ("inspect",),
            ("inspect", "fashion-women"),
            ("inspect", "fashion-women", "81ce123c/2d03db55"),
            ("recommend", "--bandit", "fashion-women", "--segment", "81ce123c/2d03db55/new"),
        ]
    }
    for words, text in written.items():
        assert max(map(len, text.splitlines())) <= 80, (words, text)
    assert re.search(r"^fading +3 +7d *$", written["inspect",], re.MULTILINE)
    segments = written["inspect", "fashion-women"]
    assert re.search(
        r"^81ce123c/2d03db55 +1 +2,000 +2,000 +2,000 +2,000 +\d+(s|min) *$", segments, re.MULTILINE
    )
    assert re.search(r"^\"\" +0 +0 +0 +2,006 +2,003 +\d+(s|min) *$", segments, re.MULTILINE)
    assert re.search(
        r"^i{12} +2,000", written["inspect", "fashion-women", "81ce123c/2d03db55"], re.MULTILINE
    )
    title = r"^81ce123c/2d03db55/new: answered by 81ce123c/2d03db55, \d+(s|min) old *$"
    assert re.search(title, "".join(written.values()), re.MULTILINE)


def test_a_pipe_gets_whole_numbers(capsys, store, log):
    with log.open("a") as file:
        file.write(f"US,c,0.123456789,{T0}\n" * 2000)
    run(capsys, "ingest", log, "--bandit", "b", "--half-life", "7d", "--url", store.url)
    code, out, err = run(capsys, "inspect", "--url", store.url)
    assert (code, out, err) == (
        0,
        "bandit\tsegments with events\thalf-life\nb\t2\t604800\n",
        "# bandits\n",
    )
    run(capsys, "ingest", log, "--bandit", "c", "--url", store.url)
    _, out, _ = run(capsys, "inspect", "c", "US", "--url", store.url)
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in out.splitlines())}
    assert (rows["d"][:2], rows["c"][0]) == (["1", "0"], "2001")
    assert float(rows["c"][1]) == pytest.approx(1 + 2000 * 0.123456789, rel=1e-12)
    _, out, _ = run(capsys, "inspect", "c", "--url", store.url)
    assert [line.split("\t")[-1] for line in out.splitlines()] == ["age"] + ["-"] * 4
