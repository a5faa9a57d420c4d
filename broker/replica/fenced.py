"""Brokers that served until a moment ago: clients are still told where they were."""

from klamm.clock import Clock
from klamm.ids import NodeId
from klamm.metadata.image import MetadataImage

JUST_FENCED_MS = 3_000
"""Clients are still told where a fenced broker was for so long; see the Metadata answer."""


class JustFenced:
    """As one broker has seen it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ms: dict[NodeId, int] = {}

    def note(self, before: MetadataImage, image: MetadataImage) -> None:
        """Another image holds."""
        now_ms = self._clock.monotonic_ms()
        for broker_id, was in before.brokers.items():
            now = image.brokers.get(broker_id)
            if now is None:
                self._at_ms.pop(broker_id, None)
            elif now.fenced and not was.fenced:
                self._at_ms[broker_id] = now_ms

    def list(self, image: MetadataImage) -> tuple[NodeId, ...]:
        """By id."""
        since_ms = self._clock.monotonic_ms() - JUST_FENCED_MS
        if self._at_ms:
            self._at_ms = {
                broker_id: at_ms
                for broker_id, at_ms in self._at_ms.items()
                if at_ms >= since_ms and image.brokers[broker_id].fenced
            }
        return tuple(sorted(self._at_ms))
