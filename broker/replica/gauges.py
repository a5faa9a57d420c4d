"""What the partitions show to operators: counted in plain integers, shown once a tick.

A counter of the metrics library costs a microsecond, which a produce does not have to spare.
"""

from collections.abc import Iterable

from broker.replica.partition import Partition
from klamm.telemetry import metrics

_COUNTERS = (
    metrics.BROKER_BYTES_IN,
    metrics.BROKER_MESSAGES_IN,
    metrics.BROKER_BYTES_OUT,
    metrics.BROKER_ISR_SHRINKS,
    metrics.BROKER_ISR_EXPANDS,
)


class Gauges:
    """Shows differences, so it remembers the last sums."""

    def __init__(self) -> None:
        self._shown = [0] * len(_COUNTERS)

    def show(self, partitions: Iterable[Partition]) -> None:
        held = led = under_replicated = under_min_isr = 0
        sums = [0] * len(_COUNTERS)
        for each in partitions:
            held += 1
            sums[0] += each.bytes_produced
            sums[1] += each.records_produced
            sums[2] += each.bytes_consumed
            sums[3] += each.isr_shrinks
            sums[4] += each.isr_expands
            if each.leader is not None:
                reign = each.leader.reign
                led += 1
                under_replicated += len(reign.isr) < 1 + len(each.leader.followers)
                under_min_isr += len(reign.isr) < reign.min_insync
        metrics.BROKER_PARTITIONS.set(held)
        metrics.BROKER_LEADERS.set(led)
        metrics.BROKER_UNDER_REPLICATED.set(under_replicated)
        metrics.BROKER_UNDER_MIN_ISR.set(under_min_isr)
        for counter, now, shown in zip(_COUNTERS, sums, self._shown, strict=True):
            # A partition that was deleted takes its sums along; a counter does not go back.
            counter.inc(max(0, now - shown))
        self._shown = sums
