"""The port through which shells read time. Cores get `now_ms` as an argument instead."""

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; for every timeout."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; for timestamps in records and answers only."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
