"""Observers: brokers and others that follow the log without a vote. Remembered for `describe`."""

from dataclasses import dataclass

from controller.quorum.port import Quorum
from controller.raft.voters import ReplicaKey
from klamm.clock import Clock
from klamm.ids import NO_NODE, Offset

OBSERVERS_MAX = 4_096
FORGOTTEN_AFTER_MS = 300_000
"""An observer that was silent for so long is left out (Kafka's figure)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    key: ReplicaKey
    end_offset: Offset
    fetched_ms: int
    """Of the monotonic clock, by which it is forgotten."""
    fetched_wall_ms: int
    caught_up_wall_ms: int


class Observers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[ReplicaKey, Observer] = {}

    def fetched(self, key: ReplicaKey, end_offset: Offset, quorum: Quorum) -> None:
        """One of them asked for what comes after `end_offset`."""
        if key.node_id == NO_NODE:
            return
        if key not in self._seen and len(self._seen) >= OBSERVERS_MAX:
            self._forget()
            if len(self._seen) >= OBSERVERS_MAX:
                return
        now_ms = self._clock.wall_ms()
        before = self._seen.get(key)
        caught_up_ms = -1 if before is None else before.caught_up_wall_ms
        if end_offset >= quorum.high_watermark:
            caught_up_ms = now_ms
        self._seen[key] = Observer(
            key=key,
            end_offset=end_offset,
            fetched_ms=self._clock.monotonic_ms(),
            fetched_wall_ms=now_ms,
            caught_up_wall_ms=caught_up_ms,
        )

    def list(self) -> tuple[Observer, ...]:
        """Those that were here of late, by id."""
        self._forget()
        return tuple(sorted(self._seen.values(), key=lambda each: each.key.node_id))

    def _forget(self) -> None:
        oldest_ms = self._clock.monotonic_ms() - FORGOTTEN_AFTER_MS
        self._seen = {key: each for key, each in self._seen.items() if each.fetched_ms >= oldest_ms}
