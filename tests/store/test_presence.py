from __future__ import annotations

from banditcore.store import Store, keys
from banditcore.store.event_streams.presence import beat, leave
from servers import wait_until


def test_workers_are_counted_by_source_until_they_leave_or_vanish(any_store: Store) -> None:
    assert [beat(any_store, "home", "stream", name, 1000.0) for name in (b"a", b"b", b"a")] == (
        [1, 2, 2]
    )
    assert beat(any_store, "home", "topic", b"c", 1000.0) == 1
    assert beat(any_store, "away", "stream", b"c", 1000.0) == 1
    assert beat(any_store, "home", "stream", b"short", 0.01) in {2, 3}
    wait_until(lambda: beat(any_store, "home", "stream", b"a", 1000.0) == 2, "it stays")
    leave(any_store, "home", "stream", b"b")
    leave(any_store, "home", "stream", b"b")
    assert beat(any_store, "home", "stream", b"a", 1000.0) == 1
    key = keys.workers("home", "stream")
    assert any_store.client.zrange(key, 0, -1) == [b"a"]
    assert 900 < any_store.client.ttl(key) <= 1001
