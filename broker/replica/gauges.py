"""What the partitions show to operators: counted in plain integers, shown once a tick.

A counter of the metrics library costs a microsecond, which a produce does not have to spare.
"""

from collections.abc import Iterable

from broker.replica.partition import Partition
from klamm.telemetry import metrics


class Gauges:
    def __init__(self) -> None:
        self._bytes_in = 0
        self._messages_in = 0

    def show(self, partitions: Iterable[Partition]) -> None:
        held = led = under_replicated = under_min_isr = 0
        bytes_in = messages_in = 0
        for each in partitions:
            held += 1
            bytes_in += each.bytes_produced
            messages_in += each.records_produced
            if each.leader is not None:
                reign = each.leader.reign
                led += 1
                under_replicated += len(reign.isr) < 1 + len(each.leader.followers)
                under_min_isr += len(reign.isr) < reign.min_insync
        metrics.BROKER_PARTITIONS.set(held)
        metrics.BROKER_LEADERS.set(led)
        metrics.BROKER_UNDER_REPLICATED.set(under_replicated)
        metrics.BROKER_UNDER_MIN_ISR.set(under_min_isr)
        # A partition that was deleted takes its sums along; a counter does not go back.
        metrics.BROKER_BYTES_IN.inc(max(0, bytes_in - self._bytes_in))
        metrics.BROKER_MESSAGES_IN.inc(max(0, messages_in - self._messages_in))
        self._bytes_in, self._messages_in = bytes_in, messages_in
