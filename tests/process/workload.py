"""Producers that know what was acknowledged, and a checker of what was read back.

    Workload ──produce──▶ cluster ──read_back──▶ check(acknowledged, read)

Each partition gets the values 0, 1, 2, … from one idempotent producer with acks=all. The checker
is Jepsen's list for Kafka (jepsen/tests/kafka.clj), as list checks: a record acknowledged and not
there is lost; one value at two offsets is a duplicate; two values at one offset are inconsistent;
a smaller value after a greater is disorder. A record that was *not* acknowledged may be there or
not: it may have happened.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

READ_BACK_DEADLINE_S = 60.0
FLUSH_DEADLINE_S = 60.0
PAUSE_S = 0.002
"""Between records of one round: enough load to be in the middle of things at any moment."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A value, and where it stands."""

    partition: int
    offset: int
    value: int


@dataclass(slots=True)
class Report:
    """What was acknowledged and what was read, and what is wrong between the two."""

    acknowledged: int
    read: int
    lost: list[Placed] = field(default_factory=list)
    moved: list[Placed] = field(default_factory=list)
    duplicated: list[Placed] = field(default_factory=list)
    disordered: list[Placed] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.moved or self.duplicated or self.disordered)


def check(acknowledged: Sequence[Placed], read: Sequence[Placed]) -> Report:
    """Hold what was read, in the order it was read, against what was acknowledged."""
    report = Report(len(acknowledged), len(read))
    places = set(read)
    values = {(each.partition, each.value) for each in read}
    for each in acknowledged:
        if (each.partition, each.value) not in values:
            report.lost.append(each)
        elif each not in places:
            report.moved.append(each)
    seen: set[tuple[int, int]] = set()
    greatest: dict[int, int] = {}
    for each in read:
        if (each.partition, each.value) in seen:
            report.duplicated.append(each)
        elif each.value < greatest.get(each.partition, -1):
            report.disordered.append(each)
        seen.add((each.partition, each.value))
        greatest[each.partition] = max(each.value, greatest.get(each.partition, -1))
    return report


class Workload:
    """Produces to every partition of a topic, in a thread, until told to stop."""

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, config: dict[str, str] | None = None
    ) -> None:
        self.topic = topic
        self.partitions = partitions
        self.bootstrap = bootstrap
        self.acknowledged: list[Placed] = []
        self.failed: list[str] = []
        self.sent = 0
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": "true",
                "acks": "all",
                "linger.ms": "1",
                **(config or {}),
            }
        )
        self._thread = threading.Thread(target=self._produce, name="workload", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop producing, and wait until each record's fate is known."""
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(FLUSH_DEADLINE_S)
        assert left == 0, f"{left} records without an answer after {FLUSH_DEADLINE_S} s"

    def wait_acknowledged(self, more: int, deadline_s: float = 30.0) -> float:
        """Wait until `more` further records are acknowledged; seconds that it took."""
        began = time.monotonic()
        goal = len(self.acknowledged) + more
        while len(self.acknowledged) < goal:
            took_s = time.monotonic() - began
            assert took_s < deadline_s, f"only {len(self.acknowledged)} of {goal} acknowledged"
            self._stop.wait(PAUSE_S)
        return time.monotonic() - began

    def report(self) -> Report:
        """Read all back, from the beginning, and check."""
        read = read_back(self.bootstrap, self.topic, self.partitions)
        report = check(self.acknowledged, read)
        report.failed = self.failed
        return report

    def _produce(self) -> None:
        value = 0
        while not self._stop.is_set():
            for partition in range(self.partitions):
                self._send(partition, value)
            value += 1
            self._producer.poll(0)
            self._stop.wait(PAUSE_S)

    def _send(self, partition: int, value: int) -> None:
        while True:
            try:
                self._producer.produce(
                    self.topic, str(value).encode(), partition=partition, on_delivery=self._answer
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                self.sent += 1
                return

    def _answer(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(str(error))
            return
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None
        assert offset is not None
        assert value is not None
        self.acknowledged.append(Placed(partition, offset, int(value)))


def read_back(bootstrap: str, topic: str, partitions: int) -> list[Placed]:
    """Everything in the topic, each partition in order, up to where each ends now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "read-back"})
    try:
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            for partition in range(partitions)
        }
        left = {partition for partition, (low, high) in ends.items() if high > low}
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in sorted(left)])
        read: list[Placed] = []
        deadline = time.monotonic() + READ_BACK_DEADLINE_S
        while left:
            assert time.monotonic() < deadline, f"partitions {sorted(left)} not read to the end"
            for message in consumer.consume(10_000, timeout=0.1):
                if message.error() is not None:
                    continue
                placed = Placed(message.partition(), message.offset(), int(message.value()))
                read.append(placed)
                if placed.offset + 1 >= ends[placed.partition][1]:
                    left.discard(placed.partition)
        return read
    finally:
        consumer.close()
