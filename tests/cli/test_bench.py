"""`banditcore bench`: what it measures, what it writes, and that its errors show wrong methods."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from banditcore.benchmarking import peers
from banditcore.benchmarking.accuracy import (
    Law,
    beta_deviation,
    chi_square,
    rank_probabilities_by_trapezoid,
)
from banditcore.benchmarking.timing import Contest, Error, Method, measure
from banditcore.benchmarking.workloads import Workload, clicks
from banditcore.cli import main
from banditcore.propensity import rank_probabilities
from banditcore.sampling import sample_beta, thompson_topk

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "measuring"


def bench(capsys, *arguments):
    code = main(["bench", "--quick", "--rounds", "2", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_it_compares_within_one_run_and_writes_what_it_shows(capsys, tmp_path):
    file = tmp_path / "results.json"
    code, out, _ = bench(capsys, "--only", "3 arms", "--json", "--out", str(file))
    assert code == 0
    document = json.loads(out)
    assert document == json.loads(file.read_text())
    assert document["options"] == {"quick": True, "rounds": 2, "threads": 2, "seed": 0}
    assert document["machine"]["packages"]["numpy"] == np.__version__
    rows = {row["method"]: row for row in document["rows"]}
    assert list(rows) == ["thompson_topk", "ThompsonSampler", "numpy beta + argmax"]
    for row in rows.values():
        assert 0 < row["time_low"] <= row["time"] <= row["time_high"]
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["error_unit"] == "se"
        assert 0 < row["error"] < 6  # four cells: 6 standard errors each, at most once in 1e7
    assert rows["numpy beta + argmax"]["ratio"] == 1
    page = subprocess.run(
        [sys.executable, SCRIPTS / "benchmark_tables.py", file],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "## Best of 3 arms, one decision" in page
    assert f"{rows['thompson_topk']['error_of']:,}" in page


def test_the_committed_page_is_that_of_the_committed_results():
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    name = re.search(r"\(\.\./(benchmarks/results/.+?\.json)\)", page)[1]
    written = subprocess.run(
        [sys.executable, SCRIPTS / "benchmark_tables.py", ROOT / name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert written == page


def test_in_a_pipe_it_writes_lines(capsys):
    code, out, err = bench(capsys, "--only", "median")
    assert code == 0
    names, *lines = (line.split("\t") for line in out.splitlines())
    assert names[:3] == ["task", "method", "time"]
    assert [line[1] for line in lines] == ["quantile", "scipy special.betaincinv"]
    assert all(len(line) == len(names) and float(line[2]) > 0 for line in lines)
    assert "numpy" in err


def test_a_task_that_does_not_exist_is_refused(capsys):
    code, out, err = bench(capsys, "--only", "nothing")
    assert (code, out) == (2, "")
    assert "--only is 'nothing'" in err


@pytest.mark.parametrize(
    ("module", "peer"),
    [
        ("mabwiser", lambda: peers.mabwiser_predict(clicks(5, 0), 1)),
        ("river", lambda: peers.river_pull(clicks(5, 0), 1)),
        ("mkl_random", lambda: peers.mkl_beta(1)),
    ],
)
def test_a_missing_peer_is_known_as_missing(monkeypatch, module, peer):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert peer() is None


def test_a_broken_peer_is_not_taken_for_a_missing_one(monkeypatch, tmp_path):
    (tmp_path / "river").mkdir()
    (tmp_path / "river" / "__init__.py").write_text("import what_river_needs\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "river"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_river_needs"):
        peers.river_pull(clicks(5, 0), 1)


def test_what_is_not_installed_is_a_row():
    contest = Contest(
        "t",
        "us",
        "a",
        (Method("a", lambda: None, 2, lambda: Error(0.5, "abs")), Method("b", None, note="no")),
    )
    ran, missing = measure(contest, rounds=3, least_s=0.0)
    assert (ran.ratio, ran.error, ran.error_unit) == (1.0, 0.5, "abs")
    assert (missing.method, missing.time, missing.ratio, missing.note) == ("b", None, None, "no")


def test_every_method_is_timed_once_a_round_and_the_first_moves_on():
    order = []
    methods = tuple(Method(name, lambda name=name: order.append(name)) for name in "abc")
    measure(Contest("t", "ns", "a", methods), rounds=3, least_s=0.0)
    assert "".join(order[-9:]) == "abcbcacab"


# The errors: right methods stay near 1, and a small mistake does not. Seeds are fixed; a root mean
# square over 80 cells or more exceeds 1.5 by chance with probability below 1e-7.


def test_the_deviation_of_slates_shows_a_wrong_method():
    posterior = clicks(300, 3)
    a, b = posterior.alpha, posterior.beta
    law = Law(a, b, 10)
    assert 0.5 < law.deviation(thompson_topk(a, b, 10, size=50_000, seed=1)) < 1.5
    lifted = a * np.where(np.arange(300) % 2, 1.03, 1.0)
    assert law.deviation(thompson_topk(lifted, b, 10, size=50_000, seed=1)) > 1.5
    backwards = thompson_topk(a, b, 10, size=50_000, seed=1)[:, ::-1]
    assert law.deviation(backwards) > 10  # the same arms, in a wrong order
    assert np.isnan(law.deviation(thompson_topk(a, b, 10, size=1, seed=1)))


def test_the_deviation_of_draws_shows_a_wrong_method():
    posterior = clicks(100, 3)
    a, b = posterior.alpha, posterior.beta
    draws = sample_beta(a, b, size=2_000, seed=1)
    assert 0.5 < beta_deviation(a, b, draws) < 1.5
    assert beta_deviation(a, b, draws * 1.01) > 1.5
    assert beta_deviation(a * 1.02, b, draws) > 1.5


def test_chi_square_is_pearsons():
    observed, expected = [18, 55, 27, 3, 2], [20.0, 50.0, 30.0, 4.0, 1.0]
    found = chi_square(observed, expected)  # the last two, 5 together, join the rarest of the rest
    theirs = stats.chisquare([23, 55, 27], [25.0, 50.0, 30.0])
    assert found.freedom == 2
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    assert chi_square([12], [12.0]).p == 1.0


def test_the_trapezoidal_rule_agrees_with_the_quadrature():
    posterior = clicks(25, 4)
    a, b = posterior.alpha, posterior.beta
    twin = rank_probabilities_by_trapezoid(a, b, 4)
    np.testing.assert_allclose(twin, rank_probabilities(a, b, 4), rtol=0, atol=1e-10)


def test_peers_draw_the_law_too():
    posterior = Workload(np.array([3.0, 5.0, 2.0]), np.array([90.0, 120.0, 40.0]))
    random, rng = np.random.RandomState(1), np.random.default_rng(1)
    law = Law(posterior.alpha, posterior.beta, 2)
    obp = np.stack([peers.obp_select_action(random, posterior, 2) for _ in range(20_000)])
    assert law.deviation(obp) < 4  # six cells
    assert law.deviation(peers.numpy_topk(rng, posterior, 2, 20_000)) < 4
    counted = peers.obp_rank_probabilities(random, posterior, 2, 20_000)
    np.testing.assert_allclose(
        counted, rank_probabilities(posterior.alpha, posterior.beta, 2), rtol=0, atol=0.025
    )  # 7 standard errors


@pytest.mark.slow
def test_every_task_can_be_measured(capsys):
    code, out, _ = bench(capsys, "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert len({row["task"] for row in rows}) == 16
    ours = ("thompson", "Thompson", "sample_beta", "rank_p", "top_p", "quantile", "draw_bank")
    assert all(row["note"] or row["time"] > 0 for row in rows)
    assert sum(row["method"].startswith(ours) for row in rows) > 20
