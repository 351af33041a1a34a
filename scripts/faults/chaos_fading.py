"""The processes of `chaos.py` whose evidence fades fast, and what each sum must be to the bit.

Their clock runs 320 times as fast as time, in steps of 40 s, and half-lives are 10, 20 or 40 s. So
landmarks move under the writers, one of which is late and one early, and a tuner changes the
half-life under them. All spans are whole half-lives, so each weight is a power of two, and what an
arm has at a moment is known without rounding.

Each generation of arms gets two batches, the second after whatever happens meanwhile, is read, and
retired. A batch of 3 and one of 4 trials: no two of these, once or twice or not at all, have a sum
that is another times a power of two.

Some wait between their batches, so that landmarks and half-lives change: "crossed" are those that
were exact all the same. By whose clock a half-life changes is open: a writer that opens the segment
meanwhile does it in the tuner's place. "open" means that one of the possible moments explains what
was found. What none of them explains fails the run.
"""

from __future__ import annotations

import itertools
import random
import time
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from chaos_roles import SEGMENTS, Lines, P, T, accuse, insisting, opened, send

from banditcore import Bandit
from banditcore.store.connect import Store
from shares import events, share, strangers

NAME = "chaos, fading"
FADERS = 2
RUNNING = ("fade",) * FADERS + ("tune", "observe")
STEP_S = 40.0
STEPS_PER_S = 8.0
BEGINNING = 42_500_000 * STEP_S
HALF_LIVES_S = (10, 20, 40)
SKEWS = (-5, 60)  # steps by which the faders' clocks are off
ARMS_AT_ONCE = 10
FIRST, SECOND = 3, 4  # trials of an arm in each batch
WAIT_S = 3.0
FAINTEST = 900.0  # half-lives after which sums lose digits


def clock(options: Namespace, skew: int = 0) -> Callable[[], float]:
    """Return the clock of this run, off by some steps."""
    return lambda: BEGINNING + STEP_S * (int((time.time() - options.start) * STEPS_PER_S) + skew)


def prepare(options: Namespace, store: Store) -> None:
    """Make all segments, so that each change of the half-life is one for each of them."""
    first = timedelta(seconds=HALF_LIVES_S[0])
    window = timedelta(days=30)  # two hours for us
    bandit = Bandit(NAME, store, half_life=first, window=window, clock=clock(options))
    for segment in SEGMENTS:
        bandit.add_arms(segment, ["arm 0"])


class Changes:
    """The half-lives there were, as the tuner noted them: before it began each, and after."""

    def __init__(self, directory: Path) -> None:
        self.meant: list[tuple[float, int]] = [(BEGINNING, HALF_LIVES_S[0])]
        self.ended = [BEGINNING]
        for word, at, *half_life in Lines(directory / "changes").words:
            if word == "meant":
                self.meant.append((float(at), int(*half_life)))
            else:
                self.ended.append(float(at))
        self.done = len(self.ended) - 1

    @property
    def begun(self) -> int:
        """The number of the last change that some segment may have seen."""
        return len(self.meant) - 1

    def exponents(
        self, event: float, steps: tuple[int, int, int], moment: float
    ) -> set[tuple[float, float]]:
        """Return by how many half-lives two events of one time may have faded at a moment.

        Parameters
        ----------
        event, moment : float
            Their time, and that of the reading.
        steps : (int, int, int)
            Which change was the last before each was applied, and before the reading.
        """
        first, second, read = steps
        moments = [self._moments(number) for number in range(first + 1, read + 1)]
        return {
            (
                self._faded((event, *at), first, moment),
                self._faded((event, *at[second - first :]), second, moment),
            )
            for at in itertools.product(*moments)
        }

    def _faded(self, starts: tuple[float, ...], number: int, moment: float) -> float:
        spans = enumerate(itertools.pairwise((*starts, moment)), number)
        return sum((end - start) / self.meant[i][1] for i, (start, end) in spans)

    def _moments(self, number: int) -> set[float]:
        """Return when a change may have been made: at the tuner's moment, or by another's clock."""
        at = self.meant[number][0]
        last = self.ended[number] if number <= self.done else at + 20 * STEP_S
        steps = range(int((last - at) / STEP_S) + 1)
        return {at, *(at + STEP_S * (step + skew) for step in steps for skew in SKEWS)}


def fade(options: Namespace) -> None:
    """Send two batches for each generation of arms, read what they have, retire them."""
    lines = Lines(options.directory / f"fade-{options.number}")
    last = max((int(number) for word, number, *_ in lines.words if word == "meant"), default=0)
    ended = {int(number) for word, number, *_ in lines.words if word != "meant"}
    own_clock = clock(options, SKEWS[options.number])
    dice = random.Random()  # noqa: S311 - a simulation
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(seconds=1), clock=own_clock)
        if last and last not in ended:
            # What a killed life began would have faded by an unknown time: only its share is known.
            insisting(bandit.retire, segment_of(last), arms_of(options.number, last))
            lines.write("left", last)
        while True:
            last += 1
            lines.write("meant", last)
            # Up to 40 half-lives late, beside the skew.
            time_of_events = own_clock() - STEP_S * dice.randrange(10)
            lines.write(follow(bandit, options, last, time_of_events), last)
            insisting(bandit.retire, segment_of(last), arms_of(options.number, last))
            time.sleep(0.02)


def arms_of(fader: int, number: int) -> list[str]:
    """Return the arms of a generation."""
    return [f"fade {fader}/{number}/{i}" for i in range(ARMS_AT_ONCE)]


def segment_of(number: int) -> str:
    """Return the segment of a generation."""
    return SEGMENTS[number % len(SEGMENTS)]


def follow(bandit: Bandit, options: Namespace, number: int, moment: float) -> str:
    """Send what a generation gets and check what it has; return how sure that was."""
    segment, arms = segment_of(number), arms_of(options.number, number)
    bounds: list[tuple[int, int]] = []  # the changes between which each step happened

    def during(act: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        first = Changes(options.directory).done
        answer = act(*args, **more)
        bounds.append((first, Changes(options.directory).begun))
        return answer

    def deliver(part: int) -> None:
        columns = events(segment, arms, [part] * len(arms))
        columns["time"] = [moment] * len(arms)
        send(bandit, columns, f"fade {options.number}/{number}/{part}")

    def landmark() -> float | None:
        [view] = insisting(bandit.reader.look, [segment])
        return None if view is None else view.version.landmark

    restored = ""
    while True:
        bounds.clear()
        before = landmark()
        during(deliver, FIRST)
        if number % 4 == 0:
            time.sleep(WAIT_S)  # so that landmarks and half-lives change meanwhile
        during(deliver, SECOND)
        until = bandit.clock()
        counts = during(insisting, bandit.counts, segment, as_of=until)
        table = zip(counts.arms, counts.trials.tolist(), counts.successes.tolist(), strict=True)
        found = {arm: sums for arm, *sums in table}
        changes = Changes(options.directory)
        faded = {
            pair
            for steps in itertools.product(*(range(a, b + 1) for a, b in bounds))
            if list(steps) == sorted(steps)
            for pair in changes.exponents(moment, steps, until)
        }
        wrong = {arm: found.get(arm) for arm in arms if found.get(arm) not in _sums(arm, faded)}
        if not wrong:
            if len(faded) > 1:
                return "open"
            if any(max(pair) > FAINTEST for pair in faded):
                return "faint"
            return restored or ("exact" if before == landmark() else "crossed")
        if options.cluster and all(_is_less(sums, faded) for sums in wrong.values()):
            restored = "restored"  # a failover has lost what was told: it is sent again
            continue
        accuse(options, f"faded: {segment!r} {wrong}, faded by {faded}")
        return "wrong"


def _sums(arm: str, faded: set[tuple[float, float]]) -> list[list[float]]:
    """Return trials and successes as they may be; each is rounded once, as in the store."""
    part = share(arm)
    return [
        [FIRST * x + SECOND * y, FIRST * part * x + SECOND * part * y]
        for x, y in ((2.0**-a, 2.0**-b) for a, b in faded)
    ]


def _is_less(sums: list[float] | None, faded: set[tuple[float, float]]) -> bool:
    return sums is None or sums[0] < min(FIRST * 2.0**-a + SECOND * 2.0**-b for a, b in faded)


def tune(options: Namespace) -> None:
    """Change the half-life every few seconds; not on a cluster, where changes can be lost."""
    lines = Lines(options.directory / "changes")
    dice = random.Random()  # noqa: S311 - a simulation
    with opened(options) as store:
        while True:
            changes = Changes(options.directory)
            at, half_life = changes.meant[-1]
            if changes.done == changes.begun:
                # Now and then long enough for landmarks to move because weights have grown.
                time.sleep(1 + 4 * dice.random() if dice.random() < 0.8 else 40)
                if options.cluster:
                    continue
                at = clock(options)()
                half_life = dice.choice([h for h in HALF_LIVES_S if h != half_life])
                lines.write("meant", at, half_life)
            bandit = Bandit(NAME, store, clock=lambda at=at: at)
            insisting(bandit.change_half_life, timedelta(seconds=half_life))
            lines.write("done", clock(options)())


def observe(options: Namespace) -> None:
    """Note each landmark there is, and watch that each arm has only what is its own."""
    lines = Lines(options.directory / f"landmarks-{options.number}")
    seen = {tuple(words) for words in lines.words}
    with opened(options) as store:
        bandit = Bandit(NAME, store, clock=clock(options))
        while True:
            for i, segment in enumerate(SEGMENTS):
                views = insisting(bandit.reader.look, [segment])
                counts = insisting(bandit.counts, segment)
                if wrong := strangers(counts, 1e-9):
                    accuse(options, f"faded: {segment!r} {wrong}")
                if views[0] is not None:
                    version = views[0].version
                    words = str(i), str(version.landmark), str(version.half_life_s)
                    if words not in seen:
                        seen.add(words)
                        lines.write(*words)
            time.sleep(0.1)


ROLES: dict[str, Callable[[Namespace], None]] = {"fade": fade, "tune": tune, "observe": observe}


def settle(options: Namespace) -> list[str]:
    """Print what was seen of sums that fade; return what is wrong."""
    wrong = []
    outcomes = ("exact", "crossed", "open", "restored", "faint", "left")
    print(f"\n{'fading':14}" + "".join(f"{word:>10}" for word in outcomes))
    for fader in range(FADERS):
        words = [word for word, *_ in Lines(options.directory / f"fade-{fader}").words]
        print(f"fader {fader:<8}" + "".join(f"{words.count(word):>10}" for word in outcomes))
        if not words.count("exact"):
            wrong.append(f"fader {fader} never saw a sum that is certain")
    seen = Lines(options.directory / "landmarks-0").words
    moves = 0
    last: dict[str, str] = {}
    for segment, _, half_life in seen:
        moves += last.get(segment) == half_life
        last[segment] = half_life
    print(
        f"landmarks were seen to move {moves} times beside "
        f"{Changes(options.directory).done} changes of the half-life, in {len(SEGMENTS)} segments"
    )
    return wrong
