"""What commands do over the Kafka protocol, by an ordinary client: confluent-kafka."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    ConfigResource,
)

from klamm.errors import ErrorCode, KlammError, StartError, UnreachableError

VOTERS_KEY = "controller.quorum.voters"
BOOTSTRAP_KEY = "controller.quorum.bootstrap.servers"
POLL_S = 0.1
NEWS_TRIES = 10
"""So often a broker is asked for a topic: one that was made just now it may not have heard of."""
ANY_PARTITION = -1
"""librdkafka chooses: by key, or one after the other."""

_GONE = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's own names begin so
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
    }
)


def client_config(bootstrap_servers: str, **more: Any) -> dict[str, Any]:
    """Settings of every client here: quiet, as a failure is told in one sentence."""
    return {
        "bootstrap.servers": bootstrap_servers,
        "log_level": 0,
        "allow.auto.create.topics": False,
        **more,
    }


def failure(error: KafkaError) -> KlammError:
    """What a client's error means to the person."""
    if error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001
        return UnreachableError("Not acknowledged in time. `klamm status` shows what is amiss.")
    if error.code() in _GONE:
        return UnreachableError(
            f"No broker answers: {error.str()}. `klamm status` shows which of them are up."
        )
    known = error.code() in ErrorCode.__members__.values()
    word = ErrorCode(error.code()).name if known else error.name()
    return StartError(f"{error.str()} ({word}).")


def _known(
    client: Consumer | Producer, topic: str, partition: int | None, timeout_s: float
) -> list[int]:
    """The topic's partitions, or the one that is asked for.

    Raises:
        StartError: There is no such topic or partition.
        KafkaException: No broker says.
    """
    for _ in range(NEWS_TRIES):
        found = client.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is None or found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            break
        time.sleep(POLL_S)  # Nothing tells a client that a broker has heard: it asks again.
    else:
        raise StartError(
            f"There is no topic {topic} (UNKNOWN_TOPIC_OR_PARTITION): `klamm topics create {topic}`"
            " makes it."
        )
    if found.error is not None:
        raise failure(found.error)
    if partition is None:
        return sorted(found.partitions)
    if partition not in found.partitions:
        raise StartError(
            f"{topic} has partitions 0 to {len(found.partitions) - 1}, and not {partition}."
        )
    return [partition]


def controllers_of(bootstrap_servers: str, timeout_s: float) -> tuple[str, ...]:
    """host:port of the controllers of the cluster that these brokers belong to.

    Raises:
        UnreachableError: No broker answers, or none says who its controllers are.
    """
    admin = AdminClient(client_config(bootstrap_servers))
    try:
        broker_ids = list(admin.list_topics(timeout=timeout_s).brokers)
        resources = [ConfigResource(ConfigResource.Type.BROKER, str(each)) for each in broker_ids]
        answers = admin.describe_configs(resources[:1], request_timeout=timeout_s)
        configs = next(iter(answers.values())).result() if answers else {}
    except KafkaException as error:
        raise failure(error.args[0]) from error
    for key in (BOOTSTRAP_KEY, VOTERS_KEY):
        value = configs[key].value if key in configs else None
        if value:
            return tuple(each.rpartition("@")[2] for each in value.split(","))
    raise UnreachableError(
        f"The brokers at {bootstrap_servers} do not say who their controllers are ({VOTERS_KEY}); "
        "name one with --controller."
    )


@dataclass(slots=True)
class Produced:
    """What became of the records of one `produce`."""

    acknowledged: int = 0
    failed: int = 0
    first_error: KafkaError | None = None

    def on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
            return
        self.failed += 1
        self.first_error = self.first_error or error


def produce(
    config: dict[str, Any],
    topic: str,
    records: Iterable[tuple[bytes | None, bytes]],
    partition: int | None,
    timeout_s: float,
) -> Produced:
    """Send records and wait until each has been acknowledged or has failed.

    Raises:
        UnreachableError: No broker answers.
        StartError: There is no such topic or partition.
    """
    producer = Producer(config)
    try:
        _known(producer, topic, partition, timeout_s)
    except KafkaException as error:
        raise failure(error.args[0]) from error
    produced = Produced()
    where = ANY_PARTITION if partition is None else partition
    try:
        for key, value in records:
            while True:
                try:
                    producer.produce(topic, value, key, where, produced.on_delivery)
                    break
                except BufferError:  # librdkafka's queue is full: a limit, so wait.
                    producer.poll(POLL_S)
            producer.poll(0)
    finally:
        left = producer.flush(timeout_s)
    produced.failed += left
    return produced


def consume(
    config: dict[str, Any],
    topic: str,
    partition: int | None,
    *,
    from_beginning: bool,
    timeout_s: float,
) -> Iterator[Message | None]:
    """Messages as they come; None now and then, when there are none. Groups play no part.

    Raises:
        UnreachableError: No broker answers.
        StartError: There is no such topic or partition.
    """
    consumer = Consumer({**config, "group.id": "klamm-consume", "enable.auto.commit": False})
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        partitions = _known(consumer, topic, partition, timeout_s)
        consumer.assign([TopicPartition(topic, each, start) for each in partitions])
        while True:
            message = consumer.poll(POLL_S)
            if message is not None and (error := message.error()) is not None:
                if not error.retriable():
                    raise failure(error)
                continue
            yield message
    except KafkaException as error:
        raise failure(error.args[0]) from error
    finally:
        consumer.close()
