"""The processes of `chaos.py` whose arms come and go by the thousand, and their ledgers.

A share of an arm's trials succeeds that tells it from others (`tests/shares.py`), so whoever reads
it sees whether all that it has is its own, whatever was retired meanwhile.

A churner alone writes to its arms. It sends a batch, reads what the arms have, which must be the
batch to the last digit, and then retires them: what an arm had when it went is known, and what was
emitted is what the retired ones had and what the others have. Its ledger is on disk, so that the
next life ends what a killed one began. The restless do not wait for each other: arms are retired
while events for them are under way. Their sums are open, and their shares are not.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta

import numpy as np
from chaos_roles import (
    NAME,
    SEGMENTS,
    Columns,
    Lines,
    accuse,
    insisting,
    opened,
    send,
)

from banditcore import Bandit
from banditcore.counts import ArmCounts
from banditcore.errors import StoreError
from shares import events, strangers

CHURNERS = 2
RUNNING = ("churn",) * CHURNERS + ("unrest",) * 2
ARMS_AT_ONCE = 25
KEPT_EVERY = 20  # so many generations; the arms of one of them stay to the end
RESTLESS = 30

Sums = dict[str, tuple[float, float]]


def segment_of(number: int) -> str:
    """Return the segment of a generation."""
    return SEGMENTS[number % len(SEGMENTS)]


def generation(seed: int, churner: int, number: int) -> Columns:
    """Return the events of a generation of arms, which has a batch and a segment of its own."""
    dice = np.random.default_rng([seed, 3000 + churner, number])
    which = [*range(ARMS_AT_ONCE), *dice.integers(0, ARMS_AT_ONCE, 75).tolist()]
    arms = [f"churn {churner}/{number}/{i}" for i in which]
    return events(segment_of(number), arms, dice.integers(1, 5, len(arms)).tolist())


def sums_of(columns: Columns) -> Sums:
    """Return trials and successes by arm."""
    sums: Sums = {}
    rows = zip(*(columns[name] for name in ("arm", "trials", "successes")), strict=True)
    for arm, n, s in rows:
        trials, successes = sums.get(str(arm), (0.0, 0.0))
        sums[str(arm)] = trials + float(n), successes + float(s)
    return sums


class Ledger:
    """How far a churner came with each generation, on disk."""

    def __init__(self, options: Namespace, churner: int) -> None:
        self._lines = Lines(options.directory / f"churn-{churner}")
        self.step: dict[int, str] = {}  # meant, told, read (or kept), gone
        self.restored = 0
        for word, number in self._lines.words:
            self._note(word, int(number))

    def write(self, word: str, number: int) -> None:
        """Enter a step, and wait until it is on disk."""
        self._lines.write(word, number)
        self._note(word, number)

    def _note(self, word: str, number: int) -> None:
        if word == "restored":
            self.restored += 1
        else:
            self.step[number] = word


def churn(options: Namespace) -> None:
    """Make arms, count them, retire them."""
    ledger = Ledger(options, options.number)
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(seconds=options.number))
        number = max(ledger.step, default=1)
        while True:
            if ledger.step.get(number) in {"kept", "gone"}:
                if options.drain:
                    return
                number += 1
            live(bandit, options, ledger, number)
            if number % 10 == 0 and not options.cluster:
                once_more(bandit, options, number)
            time.sleep(0.02)


def live(bandit: Bandit, options: Namespace, ledger: Ledger, number: int) -> None:
    """Let a generation of arms live, from wherever it is."""
    columns = generation(options.seed, options.number, number)
    name = f"churn {options.number}/{number}"
    if number not in ledger.step:
        ledger.write("meant", number)
    if ledger.step[number] == "meant":
        send(bandit, columns, name)
        ledger.write("told", number)
    if ledger.step[number] == "told":
        while wrong := differences(read_counts(bandit, segment_of(number)), columns):
            if not options.cluster or any("too much" in what for what in wrong):
                accuse(options, f"{name}: {wrong}")
                break
            # A failover has lost what was told; the same batch brings it back, once.
            send(bandit, columns, name)
            ledger.write("restored", number)
        ledger.write("kept" if number % KEPT_EVERY == 0 else "read", number)
    if ledger.step[number] == "read":
        insisting(bandit.retire, segment_of(number), sums_of(columns))
        ledger.write("gone", number)


def once_more(bandit: Bandit, options: Namespace, number: int) -> None:
    """Send the batch of a generation again: its arms must stay gone, or as they were."""
    columns = generation(options.seed, options.number, number)
    send(bandit, columns, f"churn {options.number}/{number}")
    counts = read_counts(bandit, segment_of(number))
    stays = number % KEPT_EVERY == 0
    wrong = (
        differences(counts, columns) if stays else sorted(set(counts.arms) & set(sums_of(columns)))
    )
    if wrong:
        accuse(options, f"sent once more: {wrong}")


def read_counts(bandit: Bandit, segment: str) -> ArmCounts:
    """Read counts, however often it takes."""
    return insisting(bandit.counts, segment)


def differences(counts: ArmCounts, columns: Columns) -> list[str]:
    """Say what arms have that is not what a batch gave them."""
    table = zip(
        counts.arms,
        zip(counts.trials.tolist(), counts.successes.tolist(), strict=True),
        strict=True,
    )
    found = dict(table)
    wrong = []
    for arm, expected in sums_of(columns).items():
        has = found.get(arm, (0.0, 0.0))
        if has != expected:
            how = "too little" if has[0] <= expected[0] and has[1] <= expected[1] else "too much"
            wrong.append(f"{arm} has {how}: {has}, not {expected}")
    return wrong


def unrest(options: Namespace) -> None:
    """Write to arms that nobody waits for (0), or retire them meanwhile (1)."""
    dice = np.random.default_rng()
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(0))
        while True:
            segment = str(dice.choice(SEGMENTS))
            newest = int(4 * time.time())
            which = newest - dice.integers(0, RESTLESS, 40)
            try:
                if options.number == 0:
                    arms = [f"restless {i}" for i in which]
                    bandit.record_batch(events(segment, arms, dice.integers(1, 5, 40).tolist()))
                else:
                    counts = bandit.counts(segment)
                    some = [arm for arm in counts.arms if arm.startswith("restless")]
                    bandit.retire(segment, [arm for arm in some if dice.random() < 0.3])
            except StoreError:
                time.sleep(0.01)
            time.sleep(0.03)


ROLES: dict[str, Callable[[Namespace], None]] = {"churn": churn, "unrest": unrest}


def settle(options: Namespace, bandit: Bandit) -> list[str]:
    """Print what became of all arms that came and went; return what is wrong."""
    wrong: list[str] = []
    now = {segment: bandit.counts(segment) for segment in SEGMENTS}
    here = {(segment, arm) for segment, counts in now.items() for arm in counts.arms}
    for segment, counts in now.items():
        wrong += [f"{segment!r}: {what}" for what in strangers(counts)]
    print(
        f"\n{'':14}{'arms':>10}{'retired':>10}{'here':>10}{'emitted':>10}{'retired':>10}{'here':>10}{'restored':>10}"
    )
    retired_in_all = returned = 0
    for churner in range(CHURNERS):
        ledger = Ledger(options, churner)
        made, gone, sums = 0, 0, [0.0, 0.0, 0.0]
        for number, step in ledger.step.items():
            columns = generation(options.seed, churner, number)
            segment, expected = segment_of(number), sums_of(columns)
            trials = sum(n for n, _ in expected.values())
            made += len(expected)
            sums[0] += trials
            if step == "gone":
                gone += len(expected)
                sums[1] += trials  # all of it was read before it went
                back = [arm for arm in expected if (segment, arm) in here]
                if back and options.cluster:
                    returned += bandit.retire(segment, back)  # a failover had lost that they went
                elif back:
                    wrong.append(f"retired, and here: {back}")
            else:
                if options.cluster:
                    send(bandit, columns, f"churn {churner}/{number}")
                    now[segment] = bandit.counts(segment)
                wrong += differences(now[segment], columns)
                found = dict(zip(now[segment].arms, now[segment].trials.tolist(), strict=True))
                sums[2] += sum(found.get(arm, 0.0) for arm in expected)
        if sums[0] != sums[1] + sums[2]:
            wrong.append(
                f"churner {churner}: {sums[0]} trials emitted, {sums[1]} + {sums[2]} found"
            )
        retired_in_all += gone
        numbers = made, gone, made - gone, *map(int, sums), ledger.restored
        print(f"churner {churner:<6}" + "".join(f"{n:>10}" for n in numbers))
    if returned:
        print(f"{returned} of those retired were back after a failover, and were retired again")
    rate = retired_in_all / (options.minutes / 60) / len(SEGMENTS)
    print(f"arms retired with all they had, per segment: {rate:,.0f} an hour")
    return wrong
