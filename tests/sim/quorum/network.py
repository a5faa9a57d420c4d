"""Links between voters: single calls that may be lost, repeated and reordered; ordered streams.

A stream (Fetch and its answers) keeps its order and loses nothing while it lives. It breaks when
an end dies, by chance, or some time after its link was cut; both ends hear of it, as the kernel
or a keepalive would tell them, and what was on it is gone.
"""

import random
from collections.abc import Callable

from tests.sim.quorum.faults import Faults

After = Callable[[float, Callable[[], None]], None]

DEATH_HEARD_MS = (0.2, 3.0)
"""A peer's kernel closes its sockets: measured on loopback."""

KEEPALIVE_MS = (100.0, 4_000.0)
"""A stream over a cut link is given up after so long."""


class Network:
    """Delivers, late or never."""

    def __init__(self, rng: random.Random, faults: Faults, after: After) -> None:
        self.faults = faults
        self.cut: set[tuple[int, int]] = set()
        """One-way: (from, to)."""
        self._rng = rng
        self._after = after
        self._last_ms: dict[tuple[int, int], float] = {}
        self._streams: dict[tuple[int, int], int] = {}
        """Follower and leader → which stream; raised when it breaks."""
        self.now_ms = 0.0

    def call(self, sender: int, to: int, deliver: Callable[[], None]) -> None:
        """A single message: lost, late or twice."""
        if (sender, to) in self.cut or self._rng.random() < self.faults.loss:
            return
        self._after(self._delay_ms(), deliver)
        if self._rng.random() < self.faults.repeat:
            self._after(self._delay_ms() + self._delay_ms(), deliver)

    def stream(
        self,
        follower: int,
        leader: int,
        *,
        upward: bool,
        deliver: Callable[[], None],
        broke: Callable[[float], None],
    ) -> None:
        """A message of the follower's fetch stream, in order. `broke` tells both ends, later."""
        key = (follower, leader)
        sender, to = key if upward else (leader, follower)
        number = self._streams.get(key, 0)
        if (sender, to) in self.cut:
            self.break_stream(key)
            broke(self._rng.uniform(*KEEPALIVE_MS))
            return
        if self._rng.random() < self.faults.stream_break:
            self.break_stream(key)
            broke(self._rng.uniform(*DEATH_HEARD_MS))
            return
        at_ms = max(self.now_ms + self._delay_ms(), self._last_ms.get((sender, to), 0.0))
        self._last_ms[sender, to] = at_ms

        def arrive() -> None:
            if self._streams.get(key, 0) == number:
                deliver()

        self._after(at_ms - self.now_ms, arrive)

    def break_stream(self, key: tuple[int, int]) -> None:
        """What is on it never arrives."""
        self._streams[key] = self._streams.get(key, 0) + 1

    def _delay_ms(self) -> float:
        if self._rng.random() < self.faults.slow_delay_chance:
            return self._rng.uniform(0, self.faults.slow_delay_ms)
        return self._rng.uniform(*self.faults.delay_ms)
