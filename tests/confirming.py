"""Tells which writes a failover cannot lose, because a replica has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from banditcore.store.connect import Store
from banditcore.store.servers.transport import Answer, Command


def confirmed(store: Store, keys: Sequence[str], write: Callable[[], None]) -> list[bool]:
    """Call `write`, which writes beside each key; return beside which a replica surely has it.

    So it is if the same server served the key before and after, and a replica has confirmed what
    that server wrote later.
    """
    before = [_run_id(answer) for answer in store.send(_info(keys))]
    write()
    n = len(keys)
    later = [Command(key, ("SET", key, "later")) for key in keys]
    waits = [Command(key, ("WAIT", 1, 20)) for key in keys]
    answers = store.send([*later, *waits, *_info(keys)])
    after = [_run_id(answer) for answer in answers[2 * n :]]
    return [
        replicas == 1 and was is not None and was == now
        for replicas, was, now in zip(answers[n : 2 * n], before, after, strict=True)
    ]


def _info(keys: Sequence[str]) -> list[Command]:
    return [Command(key, ("INFO", "server")) for key in keys]


def _run_id(answer: Answer) -> str | None:
    found = re.search(rb"run_id:(\w+)", answer) if isinstance(answer, bytes) else None
    return None if found is None else found[1].decode()
