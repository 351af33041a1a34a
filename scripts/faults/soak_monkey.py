"""The harm that `soak.py` does: that of `chaos.py`, and some that only who serves can feel."""

from __future__ import annotations

import random
import time

from chaos_monkey import Monkey
from load_faults import come_and_go, damage
from load_stage import Process

import banditcore as bc
from faults.server import MortalServer
from proxy import Proxy

_CROWD, _STAY_S = 200, 3.0
_PAUSE_S = 4.0
_HUNG_S = 3.0
_REWRITE_BYTES = 64 << 20


class SoakMonkey(Monkey):
    """Does harm at random, and notes how often; who is sampled is never killed."""

    def __init__(
        self, server: MortalServer, proxy: Proxy, standby: Process, dice: random.Random
    ) -> None:
        super().__init__(server, proxy, [], dice)
        self._standby = standby

    def strike(self) -> None:
        """Do one harm, undo what would last, and leave time to recover."""
        deeds = (
            self._kill_server,
            self._hang_longer,
            self._flush,
            self._fill,
            self._lose_disk,
            self._disturb,
            self._disturb_requests,
            self._disturb_requests,
            self._silence,
            self._damage,
            self._kill_publisher,
            self._come_and_go,
        )
        self._dice.choice(deeds)()
        self._keep_small()
        self._pause(_PAUSE_S)

    def _hang_longer(self) -> None:
        self._server.stop()
        self._pause(_HUNG_S)
        self._server.heal()
        self.done["server: hung"] += 1

    def _disturb_requests(self) -> None:
        word = self._dice.choice((b"GETRANGE", b"FCALL"))
        if self._dice.random() < 0.5:
            self._proxy.lose_next_reply(word)
        else:
            self._proxy.cut_next_request(word, self._dice.randint(0, 100))
        self.done["connection: of a request"] += 1

    def _silence(self) -> None:
        self._proxy.mute()
        self._pause(_HUNG_S)
        self._proxy.heal()
        self.done["connection: half-open"] += 1

    def _damage(self) -> None:
        damage(self._server.admin, self._dice)
        self.done["blob: damaged"] += 1

    def _kill_publisher(self) -> None:
        self._standby.kill()
        self._standby.start()
        self.done["publisher: killed"] += 1

    def _come_and_go(self) -> None:
        with bc.connect(self._server.url) as store:
            come_and_go(
                store, f"crowd{self._dice.randrange(10**6)}", _CROWD, lambda: time.sleep(_STAY_S)
            )
        self.done[f"segments: {_CROWD} came and went"] += 1

    def _keep_small(self) -> None:
        """Let the server's log begin anew before it fills the disk."""
        facts = self._server.admin.info("persistence")
        if facts["aof_current_size"] > _REWRITE_BYTES and not facts["aof_rewrite_in_progress"]:
            self._server.admin.bgrewriteaof()
