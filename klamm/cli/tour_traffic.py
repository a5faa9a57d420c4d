"""The tour's clients: a producer and a consumer that keep books, each in a thread of its own.

Every partition gets its own sequence 0, 1, 2, …; the consumer reads it without a group. The books
prove at the end that every acknowledged record was consumed once, and in order.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass, field

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

from klamm.cli.kafka import client_config
from klamm.clock import Clock

PAUSE_S = 0.005
"""Between rounds: a thousand records a second, so that a laptop shows failovers, not its fan."""


@dataclass(slots=True)
class Books:
    """What was acknowledged and what was consumed, by partition. Shared by three threads:
    each list and number has one writer, and readers want only a recent value."""

    acknowledged: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    failed: list[str] = field(default_factory=list)
    consumed: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    sent_at_of_last_ack_ms: dict[int, int] = field(default_factory=dict)
    """When the last acknowledged record of a partition had been handed to the producer."""
    acked_at_ms: dict[int, int] = field(default_factory=dict)

    @property
    def acknowledged_count(self) -> int:
        return sum(len(each) for each in list(self.acknowledged.values()))

    @property
    def consumed_count(self) -> int:
        return sum(len(each) for each in list(self.consumed.values()))

    def missing(self) -> dict[int, set[int]]:
        """Acknowledged and not (yet) consumed, by partition."""
        behind: dict[int, set[int]] = {}
        for partition, acknowledged in list(self.acknowledged.items()):
            if lacking := acknowledged - set(self.consumed[partition]):
                behind[partition] = lacking
        return behind

    def verdict(self) -> list[str]:
        """What is wrong; empty: each acknowledged record was consumed once, and in order."""
        wrong = [f"a record was refused: {reason}" for reason in self.failed[:3]]
        for partition, lacking in sorted(self.missing().items()):
            some = ", ".join(str(each) for each in sorted(lacking)[:3])
            wrong.append(f"orders-{partition}: {len(lacking)} acknowledged and lost, as {some}")
        for partition, sequence in sorted(self.consumed.items()):
            if sequence != sorted(sequence):
                wrong.append(f"orders-{partition}: out of order")
            if len(set(sequence)) != len(sequence):
                wrong.append(f"orders-{partition}: {len(sequence) - len(set(sequence))} twice")
        return wrong


class Traffic:
    """Runs both clients until stopped."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int, clock: Clock) -> None:
        self.books = Books()
        self._topic = topic
        self._partitions = partitions
        self._clock = clock
        self._config = client_config(bootstrap_servers)
        self._no_more = threading.Event()
        self._done = threading.Event()
        self._threads = (
            threading.Thread(target=self._produce, name="tour producer", daemon=True),
            threading.Thread(target=self._consume, name="tour consumer", daemon=True),
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop_producing(self, timeout_s: float) -> None:
        """Wait until the last record has been acknowledged or has failed."""
        self._no_more.set()
        self._threads[0].join(timeout_s)

    def stop(self, timeout_s: float = 5.0) -> None:
        self._no_more.set()
        self._done.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def writable_since(self, moment_ms: int) -> bool:
        """Whether every partition acknowledged a record that was sent after `moment_ms`."""
        times = self.books.sent_at_of_last_ack_ms
        return all(times.get(each, -1) > moment_ms for each in range(self._partitions))

    def _produce(self) -> None:
        producer = Producer(
            {
                **self._config,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": 60_000,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 100,
                "topic.metadata.refresh.fast.interval.ms": 20,
            }
        )
        sequence = 0
        while not self._no_more.wait(PAUSE_S):
            for partition in range(self._partitions):
                self._send(producer, partition, sequence)
            producer.poll(0)
            sequence += 1
        producer.flush(30)

    def _send(self, producer: Producer, partition: int, sequence: int) -> None:
        sent_at_ms = self._clock.monotonic_ms()

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                self.books.failed.append(error.str())
                return
            self.books.acknowledged[partition].add(sequence)
            self.books.sent_at_of_last_ack_ms[partition] = sent_at_ms
            self.books.acked_at_ms[partition] = self._clock.monotonic_ms()

        value = str(sequence).encode()
        while True:
            try:
                producer.produce(
                    self._topic, value=value, partition=partition, on_delivery=on_delivery
                )
                return
            except BufferError:  # librdkafka's queue is full: a limit, so wait.
                producer.poll(0.1)

    def _consume(self) -> None:
        consumer = Consumer(
            {
                **self._config,
                "group.id": "klamm-tour",
                "enable.auto.commit": False,
                "topic.metadata.refresh.fast.interval.ms": 20,
            }
        )
        partitions = range(self._partitions)
        consumer.assign(
            [TopicPartition(self._topic, each, OFFSET_BEGINNING) for each in partitions]
        )
        while not self._done.is_set():
            for message in consumer.consume(num_messages=1_000, timeout=0.1):
                value = message.value()
                if message.error() is None and value is not None:
                    self.books.consumed[message.partition() or 0].append(int(value))
        consumer.close()
