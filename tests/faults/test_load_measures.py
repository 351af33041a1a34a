"""What load and soak measure: open-loop latencies, hiccups of the machine, growth."""

from __future__ import annotations

import json

from load_hiccups import Hiccups
from load_service import Schedule
from load_tally import Phase, Slow, Stall, Tally, histogram, percentiles
from soak_samples import Growth, Sample, curve, growths


def test_phases_come_back_from_json_as_they_were_and_add_up() -> None:
    phase = Phase({"bank": Tally()}, [Slow("bank", 1.0, 1.2, 0.001)], [Stall(1.0, 1.5, 0.1)])
    phase.tallies["bank"].took(5e-6, 2e-3)
    phase.tallies["bank"].took(1e-3, 3e-3)
    phase.tallies["bank"].labels["stale"] += 2
    phase.tallies["bank"].exceptions["ValueError: x"] += 1
    total = Phase.decoded(json.loads(json.dumps(phase.encoded())))
    assert total.slow == phase.slow
    total.add(phase)
    tally = total.of(("bank", "live"))
    assert (tally.samples, tally.labels["stale"], tally.exceptions.total()) == (4, 4, 2)
    assert tally.service.get_value_at_percentile(50) == 5
    assert 3000 <= tally.intended.get_max_value() < 3003
    assert total.stalls == 2 * [Stall(1.0, 1.5, 0.1)]
    assert total.longest_stall_s == 0.5
    total.clear()
    assert (total.of(("bank",)).samples, total.slow, total.stalls) == (0, [], [])


def test_three_nines_need_fifty_thousand_samples() -> None:
    found = histogram()
    found.record_value(1500, 49_999)
    assert percentiles(found)[2] == "-"
    found.record_value(1500)
    assert percentiles(found) == ["1.500", "1.500", "1.500", "1.50"]


def test_requests_are_due_at_the_rate_whatever_becomes_of_those_before() -> None:
    schedule = Schedule(1000.0, seed=3)
    _, begun = schedule.take()
    dues = [schedule.take() for _ in range(20_000)]
    assert [number for number, _ in dues] == list(range(1, 20_001))
    # The sum of 20,000 gaps deviates by 4.5 standard errors once in 150,000 seeds; this is one.
    assert abs(dues[-1][1] - begun - 20.0) < 4.5 * 20.0 / 20_000**0.5


def test_hiccups_are_those_of_the_worst_processor_and_of_the_span() -> None:
    hiccups = Hiccups(2)
    hiccups._spans[0] += [(0.0, 1.0), (2.0, 2.5), (4.0, 5.0)]
    hiccups._spans[1] += [(2.0, 2.9)]
    assert hiccups.longest(1.5, 3.0) == 2.9 - 2.0
    assert hiccups.within(2.1, 4.2) == 2.9 - 2.1
    assert hiccups.within(2.25, 4.75) == 1.0
    assert hiccups.within(1.1, 1.9) == 0.0


def test_a_stall_is_the_machines_as_far_as_nobody_of_ours_was_at_work() -> None:
    assert Stall(1.0, 2.0, 0.0).waited(0.0, 3.0) == 1.0
    assert Stall(1.0, 2.0, 0.25).waited(1.5, 3.0) == 0.375
    assert Stall(1.0, 2.0, 1.5).waited(0.0, 3.0) == 0.0  # two threads at work
    assert Stall(1.0, 2.0, 0.0).waited(2.5, 3.0) == 0.0


def samples(memory: float) -> list[Sample]:
    return [Sample(float(s), "p", 100.0 + memory * s / 1000, 7, 3) for s in range(0, 1001, 10)]


def test_growth_is_that_after_the_warm_up() -> None:
    steady, growing = growths(samples(0.0), 300.0), growths(samples(20.0), 300.0)
    assert [each.what for each in steady] == ["memory_mb", "files", "threads"]
    assert not any(each.is_too_much for each in steady)
    assert [each.is_too_much for each in growing] == [True, False, False]
    early = [s._replace(memory_mb=50.0) if s.seconds < 300 else s for s in samples(0.0)]
    assert growths(early, 300.0) == steady


def test_one_peak_is_no_growth_and_a_thread_left_behind_each_time_is() -> None:
    held = [s._replace(memory_mb=900.0) if s.seconds == 990 else s for s in samples(0.0)]
    assert not any(each.is_too_much for each in growths(held, 300.0))
    held = [s._replace(threads=3 + int(s.seconds // 200)) for s in samples(0.0)]
    assert growths(held, 300.0)[2] == Growth("p", "threads", 4.0, 7.0, 2)


def test_the_curve_has_a_row_for_each_span() -> None:
    assert curve(samples(100.0), rows=2) == [
        " minute        p",
        "    8.3    125.5",
        "   16.7    175.5",
    ]
