"""``banditcore dead-letters``: what could not be used, why, and its second chance."""

from __future__ import annotations

import json
import time as wall

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.emitting.replaying import Replayed, replay, times_of
from banditcore.event_format import encode_events
from banditcore.events import EventColumns
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.maintenance.verify import verify_store
from banditcore.store import keys
from banditcore.store.event_streams import dead_letters, streams
from banditcore.store.event_streams.partitions import partition_of
from streamed import T0, Producer, packed, rows, stored, sums


def drain(store, *, now: float | None = None) -> IngestWorker:
    bandit = Bandit("home", store, clock=None if now is None else lambda: now)
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    while worker.step():
        pass
    worker.release()
    return worker


def run(capsys, store, *arguments: object, code: int = 0) -> tuple[str, str]:
    words = ["dead-letters", "--bandit", "home", *map(str, arguments), "--url", store.url]
    assert main(words) == code
    return capsys.readouterr()


def test_letters_are_shown_with_reason_place_and_event(capsys, store):
    producer = Producer(store, of=2)
    assert run(capsys, store) == ("partition\toffset\trefused\tevent\tevents' time\treason\n",
                                  "there are none\n")  # fmt: skip
    ahead = wall.time() + 7200
    producer.send([("X", "late\nfor", 1.0)], time=ahead)
    assert partition_of("X", 2) == 1
    offset = producer.append(0, b"poison", 1)
    drain(store)
    out, _ = run(capsys, store)
    [_, second, first] = out.splitlines()
    assert "X: late\\nfor" in first
    assert "ahead of the store's clock" in first
    assert f"{ahead:.0f}" in first
    assert second.split("\t")[:2] == ["0", str(offset)]
    document = json.loads(run(capsys, store, "--json")[0])
    by_place = {letter["partition"]: letter for letter in document["letters"]}
    assert len(by_place) == 2
    assert by_place[1]["event"]["arm"] == "late\nfor"
    assert by_place[1]["time"] == [ahead, ahead]
    assert by_place[0]["event"] is None
    assert abs(by_place[0]["appended"] - offset / 1e6) < 1
    out, err = run(capsys, store, "--limit", 1)
    assert len(out.splitlines()) == 2
    assert "1 more" in err
    assert len(run(capsys, store, "--partitions", 0)[0].splitlines()) == 2


def test_events_of_which_the_cause_is_gone_are_replayed_and_count_once(capsys, store):
    producer = Producer(store, of=1)
    now = wall.time()
    producer.send(rows(9))
    producer.send([("X", "a", 1.0), ("Y", "b", 0.0)], time=now + 7200)
    producer.append(0, b"poison", 1)
    drain(store)
    counted = producer.sent[:9]
    assert stored(store) == sums(counted)
    out, err = run(capsys, store, "--replay", code=1)
    assert out.splitlines()[1] == "0\t2\t2\t1\t0"
    assert "home/0: offset" in err
    drain(store, now=now + 7200)
    assert stored(store) == sums(producer.sent)
    assert run(capsys, store, "--replay", code=1)[0].splitlines()[1] == "0\t0\t0\t1\t2"
    drain(store, now=now + 7200)
    assert stored(store) == sums(producer.sent)
    replayed = [one["replayed"] for one in json.loads(run(capsys, store, "--json")[0])["letters"]]
    assert replayed == [True, True, False]


def test_what_is_replayed_too_early_is_refused_anew(store):
    producer = Producer(store, of=1)
    now = wall.time()
    producer.send([("X", "a", 1.0)], time=now + 7200)
    drain(store)
    assert replay(store, "home", 0) == Replayed(1, 1, 0, 0)
    drain(store)
    assert stored(store) == {}
    [old, new] = dead_letters.read(store, "home", 0)
    assert (old.is_replayed, new.is_replayed) == (True, False)
    assert replay(store, "home", 0) == Replayed(1, 1, 0, 1)
    drain(store, now=now + 7200)
    assert stored(store) == {"X": {"a": (1.0, 1.0)}}


def test_a_stream_that_is_read_once_more_brings_no_letter_back(store):
    """Then it would be replayed a second time."""
    producer = Producer(store, of=1)
    columns = EventColumns(["X"] * 2, ["a", "b"], np.ones(2), np.array([1.0, 2.0]), np.full(2, T0))
    offset = producer.append(0, encode_events(columns), 2)
    worker = drain(store)
    letter = dead_letters.read(store, "home", 0)[0]
    assert letter.offset == offset + 1
    mended = packed([("X", "b", 1.0)])
    streams.replay(store, "home", 0, letter.offset, count=1, body=mended)
    drain(store)
    expected = {"X": {"a": (1.0, 1.0), "b": (1.0, 1.0)}}
    assert stored(store) == expected
    store.client.hdel(keys.of_bandit("home").checkpoints, "stream:0")
    worker = drain(store)
    assert worker.report().partitions == ()
    assert replay(store, "home", 0) == Replayed(0, 0, 0, 1)
    assert stored(store) == expected


def test_a_sound_body_that_this_release_can_read_is_replayed_whole(store):
    Producer(store, of=1)
    body = packed(rows(5))
    dead_letters.keep(store, "home", 0, [dead_letters.DeadLetter(7, "schema is 2", body)])
    assert replay(store, "home", 0) == Replayed(1, 5, 0, 0)
    drain(store)
    assert stored(store) == sums(rows(5))


def test_a_letter_of_which_nothing_can_be_made_stays(store):
    Producer(store, of=1)
    raws = [b"[1]", b"\xff", b'{"segment": "X"}', b'{"segment": "X", "arm": "a", "successes": 1}']
    letters = [dead_letters.DeadLetter(i, "why", raw) for i, raw in enumerate(raws, 1)]
    dead_letters.keep(store, "home", 0, letters)
    said = []
    told = replay(store, "home", 0, on_unusable=lambda letter, why: said.append((letter, why)))
    assert told == Replayed(0, 0, 4, 0)
    assert [letter for letter, _ in said] == letters == dead_letters.read(store, "home", 0)
    assert "time" in said[3][1]


def test_letters_of_other_sources_are_shown_and_not_replayed(capsys, store):
    Bandit("home", store).record("X", "a")
    letter = dead_letters.DeadLetter(1, "odd", b'{"arm": "q"}')
    dead_letters.keep(store, "home", 0, [letter], source="group:clicks")
    out, err = run(capsys, store)
    assert "q" not in out
    assert "--source group:clicks shows" in err
    out, _ = run(capsys, store, "--source", "group:clicks")
    assert "?: q" in out
    _, err = run(capsys, store, "--source", "group:clicks", "--replay", code=2)
    assert "not beside a stream" in err
    _, err = run(capsys, store, "--source", "kafka:clicks", code=2)
    assert "--partitions is" in err
    assert "there are none" in run(capsys, store, "--source", "kafka:clicks", "--partitions", 3)[1]
    for partition in (12, 3):
        dead_letters.keep(store, "home", partition, [letter], source="kafka:clicks")
    lines = run(capsys, store, "--source", "kafka:clicks")[0].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["partition", "3", "12"]


def test_letters_of_which_the_store_lost_whose_they_are_become_known_again(capsys, store):
    Bandit("home", store).record("X", "a")
    letter = dead_letters.DeadLetter(1, "odd", b'{"arm": "q"}')
    dead_letters.keep(store, "home", 3, [letter], source="kafka:clicks")
    store.client.delete(keys.of_bandit("home").refusing)
    [found] = verify_store(store).findings
    assert "--source" in found.remedy
    run(capsys, store, "--source", "kafka:clicks", "--partitions", "2,3")
    assert store.client.smembers(keys.of_bandit("home").refusing) == {b"kafka:clicks:3"}
    assert verify_store(store).is_clean


@pytest.mark.parametrize("words", [["--partitions", "2"], ["--partitions", "0,9"]])
def test_partitions_that_are_not_there_are_refused(capsys, store, words):
    Producer(store, of=2)
    assert "partitions, from 0 on" in run(capsys, store, *words, code=2)[1]


@pytest.mark.parametrize(
    ("raw", "times"),
    [
        (b'{"time": 1' + b"0" * 400 + b"}", None),
        (b'{"time": NaN}', None),
        (b"[" * 100_000, None),
        (b'{"time": 1.5}', (1.5, 1.5)),
    ],
    ids=["no float holds it", "no number", "deep", "sound"],
)
def test_times_of_letters_with_anything_in_them(raw, times):
    assert times_of(raw) == times
