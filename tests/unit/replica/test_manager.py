"""The replica manager: from metadata to roles, and from one start of the broker to the next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from immutables import Map

from broker.api import fetch
from broker.kafka.api import ApiKey
from broker.kafka.messages.fetch import FetchRequest, FetchResponse
from broker.replica.isr import IsrAnswer
from broker.replica.link import Link
from broker.replica.partition import Partition
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NO_NODE, Epoch, NodeId, TopicId, TopicPartition
from klamm.metadata.records import ResourceType
from tests.unit.api.worlds import (
    EPOCHS,
    ME,
    THREE,
    TOPIC,
    TOPIC_ID,
    TWO,
    Delta,
    Replicas,
    batch,
    context,
    partition_image,
)

OTHER_ID = TopicId(UUID(int=0xDEF))


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    return Replicas(tmp_path)


def partition(replicas: Replicas, index: int = 0, topic: str = TOPIC) -> Partition:
    found = replicas.manager.partition(topic, index)
    assert found is not None
    return found


def append(replicas: Replicas, *values: bytes, **producer: int) -> None:
    for value in values:
        partition(replicas).append_as_leader(batch(value, **producer), needs_in_sync=False)


def directories(replicas: Replicas) -> list[str]:
    return sorted(each.name for each in replicas.directory.iterdir() if each.is_dir())


async def stopped(replicas: Replicas) -> Replicas:
    """The same disk, the next start."""
    await replicas.manager.stop()
    return await started(replicas)


async def started(replicas: Replicas) -> Replicas:
    again = Replicas(replicas.directory)
    await again.manager.load()
    return again


class TestRoles:
    def test_leader_follower_and_nobody(self, replicas: Replicas) -> None:
        replicas.publish(
            partition_image(0),
            partition_image(1, leader=TWO),
            partition_image(2, leader=NO_NODE),
            partition_image(3, replicas=(TWO, THREE), leader=TWO),
        )
        assert partition(replicas, 0).leader is not None
        assert partition(replicas, 1).follower is not None
        assert partition(replicas, 2).fetch_position() is None
        assert replicas.manager.partition(TOPIC, 3) is None
        assert replicas.manager.following == 1
        assert directories(replicas) == ["orders-0", "orders-1", "orders-2"]

    def test_nothing_before_the_own_registration(self, replicas: Replicas) -> None:
        """The image may still show what an uptime led that has ended."""
        replicas.broker_epoch = 99
        replicas.publish(partition_image())
        assert len(replicas.manager) == 0
        replicas.broker_epoch = EPOCHS[ME]
        replicas.publish(partition_image())
        assert partition(replicas).leader is not None

    def test_a_new_isr_is_not_a_new_epoch(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        before = partition(replicas).leader
        replicas.publish(partition_image(isr=(ME, TWO), partition_epoch=2))
        after = partition(replicas).leader
        assert before is not None
        assert after is not None
        assert after.reign.isr == (ME, TWO)
        assert after.followers == before.followers

    def test_a_topic_created_anew_gets_a_fresh_log(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        append(replicas, b"of the former life")
        replicas.publish(partition_image(), topic_id=OTHER_ID)
        assert partition(replicas).topic_id == OTHER_ID
        assert partition(replicas).log.end_offset == 0

    def test_removed(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        gone = partition(replicas)
        replicas.remove()
        assert len(replicas.manager) == 0
        assert directories(replicas) == [f"orders-0.{TOPIC_ID.hex}-delete"]
        with pytest.raises(ApiError) as refused:
            gone.leading()
        assert refused.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER

    def test_reassigned(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        replicas.publish(
            partition_image(replicas=(TWO, THREE), leader=TWO, leader_epoch=2, partition_epoch=2)
        )
        assert len(replicas.manager) == 0

    def test_a_directory_that_cannot_be_made(self, replicas: Replicas) -> None:
        replicas.directory.joinpath("orders-0").write_text("in the way")
        replicas.directory.joinpath("orders-0.0-stray").mkdir()
        replicas.directory.chmod(0o500)
        try:
            (replicas.directory / "probe").touch()
        except PermissionError:
            pass
        else:
            pytest.skip("permissions do not bind this user")
        replicas.publish(partition_image())
        replicas.directory.chmod(0o700)
        refusal = replicas.manager.absence(partition_name())
        assert refusal.code is ErrorCode.KAFKA_STORAGE_ERROR

    def test_a_disk_that_fails_takes_the_partition_offline(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        broken = partition(replicas)
        broken.log._failure.of("write to", OSError(5, "Input/output error"))
        for _ in range(2):
            with pytest.raises(ApiError) as refused:
                append(replicas, b"x")
            assert refused.value.code is ErrorCode.KAFKA_STORAGE_ERROR


def partition_name() -> TopicPartition:
    return TopicPartition(TOPIC, 0)


class TestRestart:
    async def test_a_clean_one_keeps_everything(self, replicas: Replicas) -> None:
        replicas.publish(partition_image(replicas=(ME,)))
        append(replicas, b"a", producer_id=3, producer_epoch=0, base_sequence=0)
        again = await stopped(replicas)
        assert again.manager.clean_shutdown_epoch == EPOCHS[ME]
        again.publish(partition_image(replicas=(ME, TWO), isr=(ME, TWO), leader_epoch=2))
        kept = partition(again)
        assert (kept.log.end_offset, kept.high_watermark) == (1, 1)
        retried = batch(b"a", producer_id=3, producer_epoch=0, base_sequence=0)
        assert kept.append_as_leader(retried, needs_in_sync=False).base_offset == 0
        third = await started(again)
        assert third.manager.clean_shutdown_epoch == -1, "asked once"

    async def test_a_crash_rebuilds_the_producers_from_the_log(self, replicas: Replicas) -> None:
        replicas.publish(partition_image(replicas=(ME,)))
        append(replicas, b"a", producer_id=3, producer_epoch=0, base_sequence=0)
        again = await started(replicas)
        assert again.manager.clean_shutdown_epoch == -1
        again.publish(partition_image(leader_epoch=2))
        retried = batch(b"a", producer_id=3, producer_epoch=0, base_sequence=0)
        appended = partition(again).append_as_leader(retried, needs_in_sync=False)
        assert appended.base_offset == 0
        assert partition(again).high_watermark == 0, "found anew from the followers"

    async def test_strays_are_dropped(self, replicas: Replicas) -> None:
        """Deleted, or deleted and created again, while this broker was down."""
        replicas.publish(partition_image())
        replicas.publish(partition_image(), topic="gone", topic_id=OTHER_ID)
        append(replicas, b"a")
        again = await stopped(replicas)
        again.publish(partition_image(), topic_id=TopicId(UUID(int=5)))
        assert partition(again).log.end_offset == 0
        assert again.manager.partition("gone", 0) is None
        assert directories(again) == [
            f"gone-0.{OTHER_ID.hex}-delete",
            "orders-0",
            f"orders-0.{TOPIC_ID.hex}-delete",
        ]
        third = await started(again)
        assert directories(third) == ["orders-0"], "removed at the next start, if not before"

    async def test_a_directory_without_an_id_is_kept_aside(self, replicas: Replicas) -> None:
        replicas.publish(partition_image())
        append(replicas, b"a")
        (replicas.directory / "orders-0" / "partition.metadata").write_bytes(b"")
        again = await started(replicas)
        again.publish(partition_image(leader_epoch=2))
        assert directories(again) == ["orders-0", "orders-0.0-stray"]
        assert partition(again).log.end_offset == 0


class LocalLink:
    """A link to a leader in the same process: the real handler, without the wire."""

    def __init__(self, leader: Replicas) -> None:
        self._leader = leader
        self._waiting: asyncio.Future[FetchResponse] | None = None
        self._closed = False

    async def fetch(self, request: FetchRequest, timeout_ms: int) -> FetchResponse:
        if self._closed:
            raise ConnectionResetError("closed")
        answer = fetch.handle(self._leader.services, context(ApiKey.FETCH, 17), request)
        if not isinstance(answer, Awaitable):
            await asyncio.sleep(0)
            return answer
        self._waiting = asyncio.ensure_future(answer)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            if self._closed:
                raise ConnectionAbortedError("closed") from None
            raise

    def close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()


@asynccontextmanager
async def two_brokers(tmp_path: Path) -> AsyncIterator[tuple[Replicas, Replicas]]:
    """ME and TWO, each fetching from the other."""
    made: dict[str, Replicas] = {}

    async def connect(host: str, port: int) -> Link:
        return LocalLink(made[host])

    for id_ in (ME, TWO):
        directory = tmp_path / str(id_)
        directory.mkdir()
        each = made[f"broker-{id_}"] = Replicas(directory, node_id=str(id_))
        each.broker_epoch = EPOCHS[id_]
        each.manager._fetchers._connect = connect
    running = [asyncio.create_task(each.manager.run()) for each in made.values()]
    try:
        yield made["broker-1"], made["broker-2"]
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def lead(both: tuple[Replicas, Replicas], leader: NodeId, epoch: int, *partitions: int) -> None:
    for each in both:
        each.publish(
            *(
                partition_image(
                    index,
                    leader=leader,
                    leader_epoch=epoch,
                    partition_epoch=epoch,
                    replicas=(ME, TWO),
                )
                for index in partitions or (0,)
            )
        )


class TestReplication:
    async def test_records_and_high_watermark_arrive(self, tmp_path: Path) -> None:
        async with two_brokers(tmp_path) as both:
            one, two = both
            lead(both, ME, 1)
            append(one, b"a", b"b")
            await until(lambda: partition(one).high_watermark == 2)
            assert partition(two).log.end_offset == 2
            append(one, b"c")
            await until(lambda: partition(two).high_watermark >= 2)

    async def test_a_new_partition_does_not_wait_for_the_long_poll(self, tmp_path: Path) -> None:
        async with two_brokers(tmp_path) as both:
            one, _ = both
            lead(both, ME, 1, 0)
            await until(lambda: one.manager.purgatory.fetches == 1)
            started_s = asyncio.get_running_loop().time()
            lead(both, ME, 1, 0, 1)
            partition(one, 1).append_as_leader(batch(b"x"), needs_in_sync=True)
            await until(lambda: partition(one, 1).high_watermark == 1)
            assert asyncio.get_running_loop().time() - started_s < 0.2

    async def test_a_leader_that_does_not_know_yet_is_asked_again_soon(
        self, tmp_path: Path
    ) -> None:
        async with two_brokers(tmp_path) as (one, two):
            two.publish(partition_image(leader=ME, replicas=(ME, TWO)))
            for _ in range(50):
                await asyncio.sleep(0)
            one.publish(partition_image(leader=ME, replicas=(ME, TWO)))
            append(one, b"a")
            two.clock.now_ms += 5
            await until(lambda: partition(one).high_watermark == 1)

    async def test_a_former_leader_drops_what_nobody_else_has(self, tmp_path: Path) -> None:
        async with two_brokers(tmp_path) as both:
            one, two = both
            lead(both, ME, 1)
            append(one, b"a")
            await until(lambda: partition(one).high_watermark == 1)
            # TWO leads, and ONE has not heard of it.
            image = partition_image(
                leader=TWO, leader_epoch=2, partition_epoch=2, replicas=(ME, TWO)
            )
            two.publish(image)
            append(one, b"lost", producer_id=9, producer_epoch=0, base_sequence=0)
            append(two, b"kept")
            one.publish(image)
            await until(lambda: partition(two).high_watermark == 2)
            assert partition(one).log.epochs == partition(two).log.epochs
            assert partition(one).log.epochs.last_epoch == 2
            assert 9 not in partition(one).producers.table, "forgotten with what it appended"

    async def test_the_isr_shrinks_and_expands(self, tmp_path: Path) -> None:
        async with two_brokers(tmp_path) as both:
            one, two = both
            lead(both, ME, 1)
            await until(lambda: one.manager.purgatory.fetches == 1)
            two.publish(partition_image(leader=NO_NODE, leader_epoch=2, replicas=(ME, TWO)))
            append(one, b"a")
            await until(lambda: one.manager.purgatory.fetches == 0)
            one.clock.now_ms += 60_000
            partition(one).on_time_passed(one.clock.now_ms)
            ((change, answered),) = one.proposals.asked
            assert change.isr == (ME,)
            answered(
                IsrAnswer(error=ErrorCode.NONE, leader_epoch=Epoch(1), partition_epoch=2, isr=(ME,))
            )
            assert partition(one).high_watermark == 1
            two.publish(
                partition_image(leader=ME, leader_epoch=3, partition_epoch=3, replicas=(ME, TWO))
            )
            one.publish(
                partition_image(
                    leader=ME, leader_epoch=3, partition_epoch=3, replicas=(ME, TWO), isr=(ME,)
                )
            )
            await until(lambda: len(one.proposals.asked) == 2)
            assert one.proposals.asked[1][0].isr == (ME, TWO)
            assert one.proposals.asked[1][0].members[1].broker_epoch == EPOCHS[TWO]


def test_configs_alone_reach_partitions_and_their_leaders(replicas: Replicas) -> None:
    """min.insync.replicas is the leader's; topics that are configured alike share one config."""
    names = ("a", "b", "c")
    for number, name in enumerate(names):
        replicas.publish(partition_image(), topic=name, topic_id=TopicId(UUID(int=number + 1)))
    partitions = [found for name in names if (found := replicas.manager.partition(name, 0))]
    assert len(partitions) == 3
    assert len({id(each.config) for each in partitions}) == 1, "nothing is set on any of them"

    def configure(*alike: str, **keys: str) -> None:
        own = Map({key.replace("_", "."): value for key, value in keys.items()})
        changed = {(ResourceType.TOPIC, name) for name in alike}
        configs = replicas.image.configs.update(dict.fromkeys(changed, own))
        replicas.image = replace(replicas.image, configs=configs)
        nobodys = (ResourceType.TOPIC, "nobody's"), (ResourceType.BROKER, "a")
        delta = Delta(configs_changed={*changed, *nobodys})
        replicas.manager.publish(delta, replicas.image)

    configure("a", "b", min_insync_replicas="2", segment_bytes="2000000")
    configure("c", segment_bytes="3000000")
    assert partitions[0].config is partitions[1].config
    assert [each.config.min_insync_replicas for each in partitions] == [2, 2, 1]
    assert [each.leading().reign.min_insync for each in partitions] == [2, 2, 1]
    assert [each.log.config.segment_bytes for each in partitions] == [2_000_000] * 2 + [3_000_000]
    replicas.publish(partition_image(), topic="c", topic_id=TopicId(UUID(int=9)))
    made_again = replicas.manager.partition("c", 0)
    assert made_again is not None
    assert made_again.config == partitions.pop().config
    partitions.append(made_again)
    configure("a", "b", "c")
    assert [each.leading().reign.min_insync for each in partitions] == [1] * 3
    assert {each.config.segment_bytes for each in partitions} == {1 << 30}
