"""verify, export, import and forget as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.store import Store, keys
from bandits import everything, table
from terminals import on_a_terminal, spawn

RECORDED = {"segment": ["IN/m", "IN/m", "US"], "arm": ["a", "b", "a"], "reward": [1, 0, 1]}


@pytest.fixture
def bandit(store: Store) -> Bandit:
    bandit = Bandit("home", store)
    bandit.record_batch(RECORDED)
    return bandit


def run(capsys, store: Store, *arguments: object) -> tuple[int, str, str]:
    code = main([*(str(argument) for argument in arguments), "--url", store.url])
    return code, *capsys.readouterr()


def run_json(capsys, store: Store, *arguments: object, code: int = 0):
    found, out, _ = run(capsys, store, *arguments, "--json")
    assert found == code
    return json.loads(out)


def test_verify_says_what_is_wrong_where_and_what_to_do(capsys, store, bandit):
    assert run(capsys, store, "verify")[:2] == (
        0,
        "1 bandit: 4 segments, ancestors included: clean\n",
    )
    assert run_json(capsys, store, "verify") == {
        "bandits": 1, "segments": 4, "keys": len(everything(store)), "clean": True, "findings": [],
    }  # fmt: skip
    state = keys.of_segment("home", "US").state
    store.client.hset(state, "c:0", b"x")
    code, out, _ = run(capsys, store, "verify")
    assert code == 1
    lines = out.splitlines()
    assert lines[0].split("\t") == ["", "bandit", "segment", "where", "what", "remedy"]
    where = f"{state} c:0"
    assert lines[1].split("\t")[:5] == [
        "wrong", "home", "US", where, "is damaged: its checksum is wrong",
    ]  # fmt: skip
    assert lines[-1] == "1 bandit: 4 segments, ancestors included: 1 thing wrong"
    [found] = run_json(capsys, store, "verify", "--bandit", "home", code=1)["findings"]
    assert (found["bandit"], found["segment"], found["where"]) == ("home", "US", where)
    assert "restore an export" in found["remedy"]
    code, _, err = run(capsys, store, "verify", "--bandit", "hone")
    assert (code, "the store has 'home'" in err) == (2, True)


def test_verify_with_notes_alone_is_clean(capsys, store, bandit):
    bandit.record("US", "late", trials=0, reward=1)
    code, out, _ = run(capsys, store, "verify")
    assert code == 0
    assert out.splitlines()[1].startswith("note\thome\tUS\t")
    assert out.splitlines()[-1] == "1 bandit: 4 segments, ancestors included: clean, 1 note"


def test_export_and_import(capsys, store, bandit, tmp_path: Path):
    file = tmp_path / "home.bce"
    before = everything(store)
    report = run_json(capsys, store, "export", file)
    size = file.stat().st_size
    assert report == {"bandit": "home", "file": str(file), "segments": 2, "bytes": size}
    code, out, _ = run(capsys, store, "export", file, "--bandit", "home")
    assert (code, out) == (0, f"home: 2 segments with events, {size:,} bytes in {file}\n")
    code, _, err = run(capsys, store, "import", file)
    remedy = "the store has it already: give --replace, or another name with --bandit NEW"
    assert (code, err) == (2, f"banditcore: error: bandit is 'home': {remedy}\n")
    report = run_json(capsys, store, "import", file, "--bandit", "copy")
    assert (report["bandit"], report["exported_as"], report["segments"]) == ("copy", "home", 2)
    code, _, err = run(capsys, store, "export", file)
    why = "--bandit is missing: the store has 2 bandits: name one"
    assert (code, err) == (2, f"banditcore: error: {why}\n")
    run_json(capsys, store, "forget", "copy", "--yes")
    run_json(capsys, store, "forget", "home", "--yes")
    assert everything(store) == {}
    code, out, _ = run(capsys, store, "import", file)
    assert code == 0
    assert (
        out
        == "home: 2 segments with events; `banditcore refresh --bandit home` publishes its slates\n"
    )
    assert everything(store) == before


def test_import_asks_before_it_replaces(capsys, store, bandit, tmp_path: Path):
    file = tmp_path / "home.bce"
    run_json(capsys, store, "export", file)
    wanted = everything(store)
    bandit.record("US", "more")
    changed = everything(store)
    with spawn("import", str(file), "--replace", "--url", store.url, stdin=-3) as process:
        _, err = process.communicate()
    assert (process.returncode, "nobody can be asked" in err) == (2, True)
    on_a_terminal(99, "import", str(file), "--replace", "--url", store.url, typed="n\n", code=1)
    assert everything(store) == changed
    run_json(capsys, store, "import", file, "--replace", "--yes")
    assert everything(store) == wanted


def test_a_damaged_file_is_refused(capsys, store, bandit, tmp_path: Path):
    file = tmp_path / "home.bce"
    run_json(capsys, store, "export", file)
    file.write_bytes(file.read_bytes()[:-1])
    before = everything(store)
    code, _, err = run(capsys, store, "import", file, "--bandit", "copy")
    assert code == 2
    assert "cannot be imported" in err
    assert everything(store) == before


def test_a_file_that_cannot_be_used_is_named_with_its_reason(capsys, store, bandit, tmp_path: Path):
    before = everything(store)
    none, nowhere = tmp_path / "none", tmp_path / "no" / "home.bce"
    for command, path, why in [
        (["import"], none, "it cannot be read: No such file or directory"),
        (["import", "--bandit", "copy"], none, "it cannot be read: No such file or directory"),
        (["import"], tmp_path, "it cannot be read: Is a directory"),
        (["export"], nowhere, "it cannot be written: No such file or directory"),
        (["export"], tmp_path, "it cannot be written: Is a directory"),
    ]:
        code, out, err = run(capsys, store, *command, path)
        assert (code, out, err) == (2, "", f"banditcore: error: FILE is {str(path)!r}: {why}\n")
    assert everything(store) == before
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_with_1(capsys, store, bandit, tmp_path: Path):
    command = [sys.executable, "-m", "banditcore", "export", tmp_path / "x", "--url", store.url]
    limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    why = f"FILE is {str(tmp_path / 'x')!r}: it cannot be written: File too large"
    assert (done.returncode, done.stderr) == (1, f"banditcore: error: {why}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_bandits_has_nothing_to_export(capsys, store, tmp_path: Path):
    why = "the store has no bandit yet: there is nothing to export"
    found = run(capsys, store, "export", tmp_path / "x")
    assert found == (2, "", f"banditcore: error: {why}\n")


def test_forget_shows_what_would_go_and_asks(store, bandit):
    before = everything(store)
    command = ("forget", "home", "--segment", "IN", "--descendants", "--url", store.url)
    with spawn(*command, stdin=-3) as process:
        _, err = process.communicate()
    assert process.returncode == 2
    assert err == (
        "home: 2 arms with their counts in 1 segment; slates of 0 segments\n  IN/m\n"
        "banditcore: error: --yes is missing: without a terminal nobody can be asked: give it\n"
    )
    on_a_terminal(99, *command, typed="\n", code=1)
    on_a_terminal(99, *command, typed="no\n", code=1)
    assert everything(store) == before
    assert "removed" in on_a_terminal(99, *command, typed="y\n")
    assert bandit.segments() == ["US"]


def test_forget_an_arm_a_segment_a_bandit(capsys, store, bandit):
    bandit.refresh(depth=2, slates=2)
    report = run_json(capsys, store, "forget", "home", "--arm", "b", "--yes")
    none = {"partitions": 0, "unapplied": 0, "dead_letters": 0}
    assert report == {
        "bandit": "home", "segments": {"IN/m": 1}, "slates": ["", "IN", "IN/m"], "streams": none,
    }  # fmt: skip
    report = run_json(
        capsys, store, "forget", "home", "--arm", "a", "--segment", "IN", "--descendants", "--yes"
    )
    assert report["segments"] == {"IN/m": 1}
    assert table(bandit.counts("", descendants=True)) == {"a": (1, 1)}
    report = run_json(capsys, store, "forget", "home", "--segment", "US", "--keep-marks", "--yes")
    assert report["segments"] == {"US": 1}
    assert bandit.segments() == ["IN/m", "US"]
    code, out, err = run(capsys, store, "forget", "home", "--yes")
    assert (code, out) == (0, "removed\n")
    assert err.startswith("home: 0 arms with their counts in 2 segments; slates of ")
    assert everything(store) == {}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--descendants"], "of which --segment"),
        (["--keep-marks"], "is for a --segment"),
        (["--keep-marks", "--segment", "US", "--arm", "a"], "keeps all marks"),
        (["--segment", "U"], "nothing is stored there"),
        (["--arm", "z"], "none of that name"),
        (["--arm", "b", "--segment", "US"], "none of that name"),
    ],
)
def test_what_cannot_be_forgotten(capsys, store, bandit, options, complaint):
    before = everything(store)
    code, _, err = run(capsys, store, "forget", "home", *options, "--yes")
    assert code == 2
    assert complaint in err
    assert everything(store) == before
    assert run(capsys, store, "forget", "hone", "--yes")[0] == 2
