"""A quorum and its metadata as the services see them, without consensus or disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import grpc.aio
from immutables import Map

from controller.quorum.port import Peer, Transferred
from controller.raft.voters import Voter, VoterSet
from klamm.errors import ApiError, ErrorCode, NotControllerError, UnreachableError
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.record_batch import iter_batches
from klamm.metadata.agreement import Agreement
from klamm.metadata.image import (
    BrokerImage,
    MetadataImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)
from klamm.rpc.channel import open_channel
from klamm.rpc.server import GrpcServer
from klamm.rpc.status import CompactedError
from klamm.v1 import quorum_pb2

PEERS = tuple(Peer(node_id=NodeId(node), address=f"c{node}:9093") for node in (1, 2, 3))


class FakeQuorum:
    node_id = NodeId(1)
    cluster_id = "abc"
    peers = PEERS
    voters = VoterSet(tuple(Voter(node_id=each.node_id) for each in PEERS))

    def __init__(self) -> None:
        self.leader = NO_NODE
        self.epoch = Epoch(0)
        self.high_watermark = Offset(0)
        self.log_start = Offset(0)
        self.batches: list[bytes] = []
        self.led_before: tuple[NodeId, Epoch] | None = None
        self.unreachable: tuple[Peer, ...] = ()
        self.index: Offset | None = None
        """What read_index answers; None: no leader does."""
        self._changed = asyncio.Event()

    def elect(self, leader: int) -> None:
        self.leader, self.epoch = NodeId(leader), Epoch(self.epoch + 1)
        self._wake()

    def commit(self, batch: bytes) -> None:
        self.batches.append(batch)
        ((header, _),) = iter_batches(batch)
        self.high_watermark = header.next_offset
        self._wake()

    async def wait_leader(self, after_epoch: int, timeout_ms: int) -> None:
        await self._until(lambda: self.leader != NO_NODE and self.epoch > after_epoch, timeout_ms)

    async def read_index(self, timeout_ms: int) -> Offset:
        if self.index is None:
            raise UnreachableError("no leader answers")
        return self.index

    async def wait_high_watermark(self, above: Offset, timeout_ms: int) -> None:
        await self._until(lambda: self.high_watermark > above, timeout_ms)

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        if start_offset < self.log_start:
            raise CompactedError(self.log_start)
        return b"".join(
            batch
            for batch in self.batches
            for header, _ in iter_batches(batch)
            if header.next_offset > start_offset
        )

    async def describe(self, timeout_ms: int) -> quorum_pb2.DescribeQuorumResponse:
        return quorum_pb2.DescribeQuorumResponse(leader_id=self.leader, leader_epoch=self.epoch)

    async def transfer(self, to: NodeId, timeout_ms: int) -> Transferred:
        if self.leader != self.node_id:
            raise NotControllerError(self.leader, self.epoch)
        if to not in {each.node_id for each in self.peers}:
            raise ApiError(ErrorCode.VOTER_NOT_FOUND, f"controller {to} is no voter")
        self.elect(to)
        return Transferred(former=self.node_id, leader=to, epoch=self.epoch, took_ms=5)

    async def _until(self, condition: Callable[[], bool], timeout_ms: int) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class FakeMetadata:
    def __init__(self) -> None:
        self.image = MetadataImage()
        self.agreement = Agreement()
        self.last_timestamp_ms = 77
        self._changed = asyncio.Event()

    def publish(self, image: MetadataImage) -> None:
        self.image = image
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_applied(self, offset: Offset, timeout_ms: int) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while self.image.provenance.offset < offset:
                    await self._changed.wait()
        except TimeoutError:
            return


def an_image(offset: int, topics: tuple[str, ...] = (), brokers: int = 0) -> MetadataImage:
    """Topics of two partitions on brokers 1 and 2; the second partition has lost its leader."""
    images = [
        TopicImage(
            topic_id=TopicId(UUID(int=number + 1)),
            name=name,
            partitions=(_partition(0, 1), _partition(1, NO_NODE)),
        )
        for number, name in enumerate(topics)
    ]
    return MetadataImage(
        provenance=OffsetAndEpoch(Epoch(1), Offset(offset)),
        topics=TopicsImage(
            Map({each.topic_id: each for each in images}),
            Map({each.name: each.topic_id for each in images}),
        ),
        brokers=Map({NodeId(node): _broker(node) for node in range(1, brokers + 1)}),
    )


def _partition(number: int, leader: int) -> PartitionImage:
    replicas = (NodeId(1), NodeId(2))
    return PartitionImage(
        partition=number,
        replicas=replicas,
        isr=replicas if leader != NO_NODE else (NodeId(2),),
        leader=NodeId(leader),
        leader_epoch=Epoch(0),
        partition_epoch=0,
    )


def _broker(node: int) -> BrokerImage:
    return BrokerImage(
        broker_id=NodeId(node),
        broker_epoch=Offset(node),
        incarnation_id=UUID(int=node),
        endpoints=(),
        fenced=node % 2 == 0,
    )


@asynccontextmanager
async def serving(
    name: str, register: Callable[[grpc.aio.Server], None]
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a real server with one service."""
    server = GrpcServer("127.0.0.1", 0)
    server.add(name, register)
    await server.start()
    channel = open_channel(f"127.0.0.1:{server.port}")
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(grace_ms=0)
