"""A refresher draws again what changed, and gives the other blobs the new version."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from banditcore import Event, forget_segment
from banditcore.bandit import Bandit
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.posterior import Posterior, Prior
from banditcore.refresh import Refresher, RefreshReport
from banditcore.refresh.memory import TOLERANCE, has_moved
from banditcore.slate_format import HEADER_BYTES, decode, encode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.publish import fetch, publish
from banditcore.store.seals import seal, unseal
from banditcore.store.servers.transport import Command
from bandits import NOW, Clock

TREE = ("", "IN", "US", "IN/m", "IN/w")
LEAVES = ("IN/m", "IN/w", "US")
HALF_LIFE = dt.timedelta(days=7)


def recorded(store: Store, **options) -> Bandit:
    bandit = Bandit("home", store, **{"prior": Prior(1, 30), **options})
    for segment in LEAVES:
        bandit.record_batch(
            {
                "segment": [segment] * 20,
                "arm": [f"a{i}" for i in range(20)],
                "trials": [200 + i for i in range(20)],
                "successes": [i % 7 + 1 for i in range(20)],
                "time": [bandit.clock()] * 20,
            }
        )
    return bandit


def blobs(store: Store, segments=TREE) -> dict[str, bytes]:
    return dict(zip(segments, fetch(store, "home", segments), strict=True))


def drawn(report: RefreshReport) -> set[str]:
    assert report.failed == {}
    assert report.superseded == ()
    assert not set(report.published) & set(report.unchanged)
    return set(report.published)


@dataclass
class Watch:
    """Steps a refresher and keeps what was published."""

    store: Store
    refresher: Refresher
    last: dict[str, bytes] = field(default_factory=dict)

    def step(self) -> set[str]:
        """Refresh; check every blob against the one before; return what was drawn."""
        report = self.refresher.step()
        assert report is not None
        published = drawn(report)
        now = blobs(self.store, report.published + report.unchanged)
        for segment, blob in now.items():
            snapshot = decode(blob)
            if segment in self.last:
                assert snapshot.version > decode(self.last[segment]).version
            if segment in report.unchanged:  # the header alone is another
                assert blob[HEADER_BYTES:] == self.last[segment][HEADER_BYTES:]
        assert len({decode(blob).version for blob in now.values()}) <= 1
        self.last = now
        return published


def agree(snapshot: Snapshot, posterior: Posterior) -> None:
    """The same arms, in whatever order, with the same parameters."""
    columns = zip(posterior.alpha.tolist(), posterior.beta.tolist(), strict=True)
    expected = dict(zip(posterior.arms, columns, strict=True))
    assert set(snapshot.arms) == set(expected)
    found = np.stack([snapshot.alpha, snapshot.beta], axis=1)
    np.testing.assert_allclose(found, [expected[arm] for arm in snapshot.arms], rtol=1e-6)


def watch(bandit: Bandit, **options) -> Watch:
    watched = Watch(bandit.store, Refresher(bandit, **{"lease_s": 600, **options}))
    watched.step()
    return watched


# --- unchanged segments ------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [Prior(1, 30), "empirical"])
def test_unchanged_segments_get_a_version_and_nothing_else(any_store, prior):
    bandit = recorded(any_store, prior=prior)
    refresher = Refresher(bandit)
    assert drawn(refresher.step()) == set(TREE)
    first = blobs(any_store)
    for _ in range(3):
        before = any_store.server_time() * 1e6
        report = refresher.step()
        assert report.unchanged == TREE
        assert drawn(report) == set()
        for segment, blob in blobs(any_store).items():
            snapshot = decode(blob)  # its checksum is right
            assert before - 1 <= snapshot.version <= any_store.server_time() * 1e6 + 1
            assert blob[HEADER_BYTES:] == first[segment][HEADER_BYTES:]


def test_a_refresh_without_a_refresher_draws_everything(store):
    bandit = recorded(store)
    bandit.refresh()
    report = bandit.refresh()
    assert (report.published, report.unchanged) == (TREE, ())


# Everything that changes what counts are; each must be seen where it is, and above.
CHANGES: dict[str, tuple[Callable[[Bandit], object], set[str]]] = {
    "an event": (lambda b: b.record("IN/m", "a3", reward=1), {"", "IN", "IN/m"}),
    "a hundredth of a trial": (lambda b: b.record("US", "a3", trials=0.01), {"", "US"}),
    "a late reward": (lambda b: b.record("US", "a3", trials=0, reward=1), {"", "US"}),
    "an event with an id": (lambda b: b.record("US", "a3", event_id="x"), {"", "US"}),
    "a batch": (lambda b: b.record_batch([_event()], batch_id="7"), {"", "IN", "IN/w"}),
    "an event of an ancestor": (lambda b: b.record("IN", "a3"), {"", "IN"}),
    "a new arm": (lambda b: b.add_arms("IN/w", ["new"]), {"", "IN", "IN/w"}),
    "an arm's retirement": (lambda b: b.retire("IN/w", ["a3"]), {"", "IN", "IN/w"}),
    "a new segment": (lambda b: b.record("US/m", "a3"), {"", "US", "US/m"}),
    "another half-life": (lambda b: b.change_half_life(HALF_LIFE), set(TREE)),
}


def _event() -> Event:
    return Event("IN/w", "a3", 1.0)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_drawn_and_so_are_its_ancestors(any_store, change):
    bandit = recorded(any_store)
    watched = watch(bandit)
    act, expected = CHANGES[change]
    act(bandit)
    assert watched.step() == expected
    for segment in expected:
        agree(decode(watched.last[segment]), bandit.posterior(segment))
    assert watched.step() == set()


def test_counts_that_went_away_and_came_back_elsewhere_are_seen(store):
    """As after a failover: other counts under the registry of before."""
    bandit = recorded(store)
    watched = watch(bandit)
    state = keys.of_segment("home", "US").state
    raw = bytearray(unseal(store.client.hget(state, "c:0"), "chunk", "of US"))
    raw[8:16], raw[24:32] = raw[24:32], raw[8:16]  # two arms' successes
    store.client.hset(state, "c:0", seal(bytes(raw)))
    assert watched.step() == {"", "US"}


def test_a_segment_that_is_forgotten_is_drawn_out_of_its_ancestors(store):
    bandit = recorded(store)
    watched = watch(bandit)
    forget_segment(bandit, "IN/w")
    report = watched.refresher.step()
    assert drawn(report) == {"", "IN"}
    assert report.unchanged == ("US", "IN/m")
    bandit.record("IN/w", "a1")
    assert drawn(watched.refresher.step()) == {"", "IN", "IN/w"}


def test_damaged_counts_fail_until_they_are_mended(store):
    bandit = recorded(store)
    watched = watch(bandit)
    state = keys.of_segment("home", "IN/m").state
    good = store.client.hget(state, "c:0")
    store.client.hset(state, "c:0", b"garbage")
    for _ in range(2):
        report = watched.refresher.step()
        assert set(report.failed) == {"", "IN", "IN/m"}
        assert report.unchanged == ("US", "IN/w")
    store.client.hset(state, "c:0", good)
    report = watched.refresher.step()
    assert (set(report.published), report.failed) == ({"", "IN", "IN/m"}, {})


def test_events_of_the_time_between_reading_and_drawing_are_drawn_next(store):
    """The sign is read first: it may be older than the counts, never newer."""
    bandit = recorded(store)
    watched = watch(bandit)
    counts = bandit.reader.counts

    def later(segments, as_of):
        bandit.reader.counts = counts
        bandit.record("US", "a1", reward=1)
        return counts(segments, as_of)

    bandit.record("US", "a1", reward=1)
    bandit.reader.counts = later
    assert watched.step() == {"", "US"}
    assert decode(watched.last["US"]).alpha[1] == pytest.approx(1 + 2 + 2)
    assert watched.step() == {"", "US"}
    assert watched.step() == set()


# --- blobs that are not what was published ------------------------------------------------------


def other(blob: bytes, version: int | None = None) -> bytes:
    old = decode(blob)
    bank = old.bank
    return encode(
        Snapshot("home", old.segment, version or old.version, ("z",), [1.0], [2.0], bank)
        if not old.arms
        else Snapshot(
            "home", old.segment, version or old.version, old.arms, old.beta, old.alpha, bank
        )
    )


def test_a_blob_that_is_gone_or_another_is_published_again(any_store):
    bandit = recorded(any_store)
    watched = watch(bandit)
    blob = keys.of_segment("home", "US").blob

    def send(*words):
        any_store.replies([Command(blob, words)])

    for damage in (
        ("UNLINK", blob),
        ("SET", blob, b""),
        ("SET", blob, watched.last["US"][:-8]),
        ("SETRANGE", blob, 28, b"\0\0\0\0"),
        ("SETRANGE", blob, 0, b"NONE"),
        ("SET", blob, other(watched.last["US"])),  # of the same version
    ):
        send(*damage)
        assert watched.step() == {"US"}, damage
        assert watched.step() == set()


def test_a_damaged_body_is_noticed_within_ten_refreshes(store):
    bandit = recorded(store)
    watched = watch(bandit)
    blob = keys.of_segment("home", "US").blob
    store.client.setrange(blob, 200, b"\xff\xff")
    rounds = 0
    while (report := watched.refresher.step()) and not report.published:
        rounds += 1
        assert rounds <= 10
    assert drawn(report) == {"US"}
    assert decode(blobs(store)["US"]).segment == "US"


def test_a_key_of_another_type_fails_alone(store):
    bandit = recorded(store)
    watched = watch(bandit)
    blob = keys.of_segment("home", "US").blob
    store.client.delete(blob)
    store.client.hset(blob, "a", "b")
    report = watched.refresher.step()
    assert set(report.failed) == {"US"}
    assert report.unchanged == ("", "IN", "IN/m", "IN/w")
    store.client.delete(blob)
    assert drawn(watched.refresher.step()) == {"US"}


def test_a_newer_blob_of_another_stays(store):
    bandit = recorded(store)
    watched = watch(bandit)
    ahead = decode(watched.last["US"]).version + 60_000_000
    newer = other(watched.last["US"], ahead)
    publish(store, "home", "US", newer, ahead)
    for _ in range(2):
        report = watched.refresher.step()
        assert (report.published, report.superseded) == ((), ("US",))
        assert blobs(store)["US"] == newer


def test_two_that_take_turns_draw_what_the_other_published(store):
    """A refresher that lost its lease, and does not know it, harms nobody."""
    bandit = recorded(store)
    one = Refresher(bandit, lease_s=600)
    two = Refresher(Bandit("home", store, prior=Prior(1, 30)), lease_s=600)
    assert drawn(one.step()) == set(TREE)
    one.release()
    assert drawn(two.step()) == set(TREE)
    two.release()
    assert drawn(one.step()) == set(TREE)


# --- posteriors that move by themselves --------------------------------------------------------


def test_evidence_fades_into_a_new_draw_in_time(store):
    """By 2 % a step of 0.03 half-lives; the tolerance is reached at some 0.04 of one."""
    clock = Clock()
    bandit = recorded(store, half_life=HALF_LIFE, clock=clock)
    watched = watch(bandit)
    first = {segment: decode(blob) for segment, blob in watched.last.items()}
    clock.now += 0.01 * HALF_LIFE.total_seconds()
    assert watched.step() == set()
    clock.now += 0.01 * HALF_LIFE.total_seconds()
    assert watched.step() == set()  # compared with what was drawn, not with the step before
    clock.now += 0.04 * HALF_LIFE.total_seconds()
    assert watched.step() == set(TREE)
    for segment, snapshot in first.items():
        now = decode(watched.last[segment])
        trials = snapshot.alpha + snapshot.beta - 31
        faded = now.alpha + now.beta - 31
        np.testing.assert_allclose(faded, trials * 2**-0.06, rtol=1e-9)


def test_without_a_half_life_time_changes_nothing(store):
    clock = Clock()
    bandit = recorded(store, clock=clock)
    watched = watch(bandit)
    clock.now += 1e7
    assert watched.step() == set()


def test_a_clock_that_goes_back_reads_the_counts_anew(store):
    clock = Clock()
    bandit = recorded(store, half_life=HALF_LIFE, clock=clock)
    watched = watch(bandit)
    clock.now = NOW - 0.5 * HALF_LIFE.total_seconds()
    assert watched.step() == set(TREE)
    posterior = bandit.posterior("US")
    np.testing.assert_array_equal(decode(watched.last["US"]).alpha, posterior.alpha)


def test_a_fitted_prior_that_moves_redraws_who_leans_on_it(store):
    bandit = recorded(store, prior="empirical")
    watched = watch(bandit)
    bandit.record("IN/m", "a3", trials=1e-6)
    assert watched.step() == {"", "IN", "IN/m"}  # the others lean on as good as the same
    bandit.record_batch(
        {
            "segment": ["IN/m"] * 20,
            "arm": [f"a{i}" for i in range(20)],
            "trials": [2000] * 20,
            "successes": [900] * 20,
        }
    )
    assert watched.step() == set(TREE)
    for segment in TREE:
        agree(decode(watched.last[segment]), bandit.posterior(segment))
    assert watched.step() == set()


def test_another_prior_is_another_posterior(store):
    bandit = recorded(store)
    watched = watch(bandit)
    bandit.prior = Prior(3, 30)
    assert watched.step() == set(TREE)


@pytest.mark.parametrize(("a", "b"), [(0.2, 5.0), (1, 1), (30, 900), (1e4, 1e6), (1e6, 3.0)])
def test_the_tolerance_is_one_of_total_variation(a, b):
    """Against numerical integration of |f - g| / 2, for shifts in several directions."""
    quantiles = np.linspace(0, 1, 200_001)[1:-1]
    grid = stats.beta(a, b).ppf(quantiles)

    def variation(a2: float, b2: float) -> float:
        ratio = np.exp(stats.beta(a2, b2).logpdf(grid) - stats.beta(a, b).logpdf(grid))
        return float(np.abs(ratio - 1).mean() / 2)

    before = Posterior(("x",), [a], [b])
    for by_a, by_b in ((1, 0), (0, 1), (1, b / a), (-1, -b / a), (1, -1)):
        if by_a * a < 0 and abs(by_a) > a:
            continue
        size = 1e-9 * a
        while not has_moved(before, Posterior(("x",), [a + by_a * size], [b + by_b * size])):
            size *= 1.1
        found = variation(a + by_a * size / 1.1, b + by_b * size / 1.1)
        assert found <= TOLERANCE * 1.1
        assert found >= TOLERANCE / 4


def test_other_arms_have_moved():
    one = Posterior(("x", "y"), [1, 2], [3, 4])
    assert not has_moved(one, Posterior(("x", "y"), [1, 2], [3, 4]))
    assert has_moved(one, Posterior(("y", "x"), [1, 2], [3, 4]))
    assert has_moved(one, Posterior(("x",), [1], [3]))
    assert has_moved(one, Posterior(("x", "y"), [1, 20], [3, 4]))


# --- what may be asked for ----------------------------------------------------------------------


def test_chosen_segments_are_kept_in_step_with_their_ancestors(store):
    bandit = recorded(store)
    watched = watch(bandit, segments=["IN/m"], slates=7, depth=3)
    assert set(watched.last) == {"", "IN", "IN/m"}
    assert decode(watched.last["IN"]).bank.slates.shape == (7, 3)
    bandit.record("US", "a1")
    assert watched.step() == {""}
    bandit.record("IN/w", "a1")
    assert watched.step() == {"", "IN"}
    assert watched.step() == set()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"every": 60}, InvalidTypeError),
        ({"every": dt.timedelta(0)}, InvalidValueError),
        ({"depth": 0}, InvalidValueError),
        ({"slates": 0}, InvalidValueError),
        ({"lease_s": 0}, InvalidValueError),
        ({"lease_s": "60"}, InvalidTypeError),
        ({"segments": "IN"}, InvalidTypeError),
        ({"segments": 5}, InvalidTypeError),
        ({"segments": ["IN/"]}, InvalidValueError),
    ],
)
def test_bad_options_are_refused(store, options, error):
    with pytest.raises(error):
        Refresher(Bandit("home", store), **options)
