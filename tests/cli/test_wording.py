"""What the command line says: usages, missing options, counted things."""

from __future__ import annotations

import datetime as dt

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.cli.wording import counted, refused


@pytest.fixture
def shop(store, monkeypatch) -> Bandit:
    monkeypatch.setenv("BANDITCORE_URL", store.url)
    monkeypatch.setenv("COLUMNS", "10000")  # usages on one line
    bandit = Bandit("shop", store)
    bandit.record("IN/m", "a", reward=1)
    return bandit


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def refusal(capsys, *arguments: object) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err[:19]) == (2, "", "banditcore: error: ")
    return err[19:-1]


def test_inspect_and_forget_take_their_bandit_as_other_commands_do(capsys, shop):
    for words in (["--bandit", "shop"], ["shop", "--bandit", "shop"]):
        assert run(capsys, "inspect", *words) == run(capsys, "inspect", "shop")
    assert run(capsys, "inspect", "shop", "IN", "--bandit", "shop") == run(
        capsys, "inspect", "shop", "IN"
    )
    both = "--bandit is 'shop': BANDIT is 'IN': give one of them"
    hint = "; a SEGMENT comes after its BANDIT"
    assert refusal(capsys, "inspect", "--bandit", "shop", "IN") == both + hint
    assert refusal(capsys, "forget", "IN", "--bandit", "shop", "--yes") == both
    assert refusal(capsys, "forget", "--yes") == "BANDIT is missing: name what to forget"
    assert shop.segments() == ["IN/m"]
    code, out, err = run(capsys, "forget", "--bandit", "shop", "--yes")
    assert (code, out) == (0, "removed\n")
    assert err.startswith("shop: 1 arm with its counts in 1 segment; slates of 0 segments\n")
    assert refusal(capsys, "inspect", "--bandit", "shop").startswith("bandit is 'shop': the store ")


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "ingest",
        "refresh --bandit b",
        "recommend --bandit b",
        "inspect",
        "dead-letters --bandit b",
        "verify",
        "export f",
        "import f",
        "forget b",
        "bench",
    ],
)
def test_what_a_command_does_not_know_is_said_with_its_usage(capsys, shop, command):
    words = command.split()
    code, out, err = run(capsys, *words, "--colour", "red")
    assert (code, out) == (2, "")
    usage, error, *rest = err.splitlines()
    assert (rest, usage.startswith(f"usage: banditcore {words[0]} [-h] ")) == ([], True)
    first = f"banditcore {words[0]}: error: unrecognized arguments: --colour"
    assert error in (first, f"{first} red")  # a command may take the latter for its FILE


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("export x", "--bandit is missing: the store has 2 bandits: name one"),
        ("ingest --bandit shop", "FILE is missing: name log files and a --bandit, or --follow "),
        ("ingest x.csv", "--bandit is missing: name log files and a --bandit, or --follow "),
        ("refresh", "--bandit is missing: name one; with --every any number, or none for all"),
        ("refresh --bandit a --bandit b", "--bandit is 'a, b': name one; "),
        ("refresh --bandit a --metrics-host h", "--metrics-host is 'h': nobody could scrape a "),
        ("refresh --bandit a --metrics-port 7", "--metrics-port is 7: nobody could scrape a "),
        ("inspect --interval 90s", "--interval is '90s': add --live"),
        ("inspect shop IN --live", "SEGMENT is 'IN': --live shows all of a bandit: leave it out"),
        ("forget shop --descendants", "--descendants is given: of which --segment?"),
        ("forget shop --keep-marks", "--keep-marks is given: it is for a --segment; "),
        ("ingest x --bandit b --no-time --map time=t", "--no-time is given: time is mapped as "),
        ("ingest x --bandit b --remove", "--remove is given: of streams: add --follow"),
        ("ingest x --bandit b --retain 2d", "--retain is '2d': of streams: add --follow"),
        ("ingest --follow --rescan", "--rescan is given: of logs: leave it out, or --follow"),
        ("ingest --follow --map arm=x --map time=t", "--map is 'arm=x, time=t': of logs: "),
        ("ingest --follow --half-life 7d", "--half-life is '7d': of one bandit: name it with "),
        ("dead-letters --bandit shop --source kafka:x", "--partitions is missing: the store does "),
        (
            "dead-letters --bandit shop --source group:x --replay",
            "--replay is given: what 'group:x' refused is not beside a stream: let its ",
        ),
        (
            "dead-letters --bandit shop --partitions 0,1",
            "--partitions is '0, 1': the events of bandit 'shop' have 0 partitions, from 0 on",
        ),
    ],
)
def test_refusals_speak_of_the_command_line(capsys, shop, words, why):
    Bandit("home", shop.store).record("", "a")
    said = refusal(capsys, *words.split())
    assert said.startswith(why)
    assert not any(word in said for word in ("None", "True", "False", "[", "datetime"))


def test_another_half_life_is_refused_in_words_of_the_option(capsys, shop, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("segment,arm,reward,time\nIN,a,1,1600000000\n")
    other = ["ingest", log, "--half-life", "36h", "--bandit"]
    kept = "the bandit is kept with no half-life: leave it out"
    assert refusal(capsys, *other, "shop") == f"--half-life is '36h': {kept}"
    Bandit("fading", shop.store, half_life=dt.timedelta(days=7)).record("", "a")
    kept = "the bandit is kept with one of 7d: leave it out"
    assert refusal(capsys, *other, "fading") == f"--half-life is '36h': {kept}"


def test_one_thing_is_called_one(capsys, shop, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("segment,arm,reward,time\nIN,a,1,1600000000\n")
    assert (
        "1 applied, 0 duplicate, 0 refused; 1 segment, "
        in run(capsys, "ingest", log, "--bandit", "one")[1]
    )
    assert run(capsys, "refresh", "--bandit", "one", "--segment", "")[1].startswith(
        "one: 1 segment published, "
    )
    assert run(capsys, "inspect", "shop", "--limit", 2)[2].endswith(
        "1 more row; --limit shows them\n"
    )
    assert run(capsys, "export", tmp_path / "x", "--bandit", "one")[1].startswith(
        "one: 1 segment with events, "
    )
    assert run(capsys, "verify", "--bandit", "one")[1] == (
        "one: 2 segments, ancestors included: clean\n"
    )
    out = run(capsys, "inspect")[1]
    assert out == "bandit\tsegments with events\thalf-life\none\t1\t-\nshop\t1\t-\n"


def test_counted_and_refused():
    assert [counted(n, "segment") for n in (0, 1, 2, 1024)] == [
        "0 segments", "1 segment", "2 segments", "1,024 segments",
    ]  # fmt: skip
    assert counted(1, "thing wrong", "things wrong") == "1 thing wrong"
    assert counted(2, "thing wrong", "things wrong") == "2 things wrong"
    assert str(refused("--every", dt.timedelta(minutes=90), "no")) == "--every is '90min': no"
