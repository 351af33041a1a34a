"""Bytes a user that records of seen items take, on each kind of server that this machine has.

Run it from the repository: ``python scripts/measuring/seen_memory.py [users]``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from banditcore.store import keys
from banditcore.store.connect import connect
from banditcore.store.seen_record import arm_hash, encode, exposure
from servers import binaries, running_server

SEEN = (1, 10, 50, 200, 1000)
DAY_S = 86_400
AT_ONCE = 1000


def main(users: int) -> None:
    """Print a table."""
    now = int(time.time())
    print("server | seen | record | MEMORY USAGE | whole server, a user | resident, a user")
    for kind in binaries():
        for seen in SEEN:
            record = encode(exposure(arm_hash(f"item-{i}"), now) for i in range(seen))
            count = max(1000, users * 50 // max(50, seen))
            with running_server(kind) as server, connect(server.url) as store:
                before = store.client.info("memory")
                for first in range(0, count, AT_ONCE):
                    pipeline = store.client.pipeline(transaction=False)
                    for user in range(first, first + AT_ONCE):
                        pipeline.set(keys.seen("home", f"user-{user}"), record, ex=DAY_S)
                    pipeline.execute()
                after = store.client.info("memory")
                one = store.client.memory_usage(keys.seen("home", "user-0"))
                facts = ("used_memory", "used_memory_rss")
                used, resident = ((after[name] - before[name]) / count for name in facts)
                version = store.client.info("server")["redis_version"]
                sizes = (len(record), one, round(used), round(resident))
                print(f"{kind} {version}", seen, *sizes, sep=" | ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "users",
        nargs="?",
        type=int,
        default=200_000,
        help="fewer of those who have seen more than 50 (default: 200000)",
    )
    main(parser.parse_args().users)
