"""A whole broker in this process but for the controllers, which are a few lines of Python.

Listener, handlers, replicas and logs are the real ones. `FakeControllers` decides at once and
writes what it decides as records into the broker's image, as the metadata log would.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from broker.api.context import BrokerServices
from broker.api.served import registry
from broker.kafka import codec, header
from broker.kafka.api import ApiKey
from broker.listener.dispatch import Dispatcher
from broker.listener.listeners import Listeners
from broker.replica.isr import IsrChange
from broker.replica.manager import ReplicaManager
from klamm.clock import SystemClock
from klamm.config.broker import BrokerConfig
from klamm.errors import ErrorCode, KlammError, UnreachableError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.files import SystemFiles
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    Endpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    ResourceType,
    TopicRecord,
)
from klamm.v1 import admin_pb2 as pb

ME = NodeId(1)
PARTITIONS_MAX = 20


class FakeMetadata:
    """The image, and who hears of it. An offset is reached as soon as its record is written."""

    def __init__(self) -> None:
        self.image: MetadataImage = EMPTY
        self.publishers: list[Any] = []
        self.waited: list[int] = []
        self.is_late = False

    def write(self, *records: MetadataRecord) -> Offset:
        delta = MetadataDelta(self.image)
        offset = self.image.provenance.offset
        for record in records:
            delta.replay(record, offset)
            offset = Offset(offset + 1)
        self.image = delta.apply(OffsetAndEpoch(Epoch(1), offset))
        for each in self.publishers:
            each.publish(delta, self.image)
        return offset

    async def wait_for(self, offset: Offset, timeout_ms: int) -> None:
        self.waited.append(offset)
        if self.is_late or self.image.provenance.offset < offset:
            raise TimeoutError


@dataclass
class FakeControllers:
    """Decides at once. `failure` is raised instead; `gate` holds everything up until it is set."""

    metadata: FakeMetadata
    replicas: int = 1
    failure: KlammError | None = None
    gate: asyncio.Event | None = None
    asked: list[Any] = field(default_factory=list)
    ids: int = 0

    async def create_topics(
        self, request: pb.CreateTopicsRequest, timeout_ms: int = 0
    ) -> pb.CreateTopicsResponse:
        await self._begin(request)
        results = [self._create(each, request.validate_only) for each in request.topics]
        end = self.metadata.image.provenance.offset
        return pb.CreateTopicsResponse(results=results, committed_offset=end)

    async def delete_topics(
        self, request: pb.DeleteTopicsRequest, timeout_ms: int = 0
    ) -> pb.DeleteTopicsResponse:
        await self._begin(request)
        results = [self._delete(each) for each in request.topics]
        end = self.metadata.image.provenance.offset
        return pb.DeleteTopicsResponse(results=results, committed_offset=end)

    async def incremental_alter_configs(
        self, request: pb.IncrementalAlterConfigsRequest, timeout_ms: int = 0
    ) -> pb.IncrementalAlterConfigsResponse:
        await self._begin(request)
        results = []
        for resource in request.resources:
            kind = ResourceType(resource.resource_type)
            for each in resource.alterations:
                value = each.value if each.HasField("value") else None
                self.metadata.write(
                    ConfigRecord(
                        resource_type=kind,
                        resource_name=resource.resource_name,
                        key=each.key,
                        value=value,
                    )
                )
            results.append(
                pb.AlterConfigResult(
                    resource_type=resource.resource_type, resource_name=resource.resource_name
                )
            )
        end = self.metadata.image.provenance.offset
        return pb.IncrementalAlterConfigsResponse(results=results, committed_offset=end)

    async def update_features(
        self, request: pb.UpdateFeaturesRequest, timeout_ms: int = 0
    ) -> pb.UpdateFeaturesResponse:
        await self._begin(request)
        if not request.validate_only:
            for each in request.updates:
                self.metadata.write(FeatureLevelRecord(name=each.feature, level=each.level))
        end = self.metadata.image.provenance.offset
        return pb.UpdateFeaturesResponse(committed_offset=end)

    async def next_id(self, timeout_ms: int) -> int:
        if self.failure is not None:
            raise UnreachableError("no producer ids")
        self.ids += 1
        return 1_000 + self.ids

    async def _begin(self, request: object) -> None:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    def _create(self, topic: pb.NewTopic, validate_only: bool) -> pb.CreateTopicResult:
        if topic.name in self.metadata.image.topics.by_name:
            return pb.CreateTopicResult(
                name=topic.name,
                error_code=ErrorCode.TOPIC_ALREADY_EXISTS,
                error_message=f"{topic.name} exists",
            )
        if topic.replication_factor > self.replicas:
            return pb.CreateTopicResult(
                name=topic.name,
                error_code=ErrorCode.INVALID_REPLICATION_FACTOR,
                error_message=f"replication factor {topic.replication_factor}",
            )
        count = 1 if topic.num_partitions == -1 else topic.num_partitions
        if not 1 <= count <= PARTITIONS_MAX:
            return pb.CreateTopicResult(
                name=topic.name, error_code=ErrorCode.INVALID_PARTITIONS, error_message=f"{count}"
            )
        topic_id = TopicId(UUID(int=0xA000 + self.metadata.image.provenance.offset))
        if not validate_only:
            self.metadata.write(
                TopicRecord(topic_id=topic_id, name=topic.name),
                PartitionRecord(
                    topic_id=topic_id,
                    partitions=tuple(
                        NewPartition(partition=each, replicas=(ME,), isr=(ME,), leader=ME)
                        for each in range(count)
                    ),
                ),
                *(
                    ConfigRecord(
                        resource_type=ResourceType.TOPIC,
                        resource_name=topic.name,
                        key=key,
                        value=value,
                    )
                    for key, value in sorted(topic.configs.items())
                ),
            )
        return pb.CreateTopicResult(
            name=topic.name,
            topic_id=b"" if validate_only else topic_id.bytes,
            num_partitions=count,
            replication_factor=1,
            configs=dict(topic.configs),
        )

    def _delete(self, reference: pb.TopicReference) -> pb.DeleteTopicResult:
        topics = self.metadata.image.topics
        if reference.WhichOneof("reference") == "name":
            topic = topics.named(reference.name)
            if topic is None:
                return pb.DeleteTopicResult(name=reference.name, error_code=3)
        else:
            topic = topics.by_id.get(TopicId(UUID(bytes=reference.topic_id)))
            if topic is None:
                return pb.DeleteTopicResult(topic_id=reference.topic_id, error_code=100)
        self.metadata.write(RemoveTopicRecord(topic_id=topic.topic_id))
        return pb.DeleteTopicResult(name=topic.name, topic_id=topic.topic_id.bytes)


class NoProposals:
    """The AlterPartition port of a broker that is alone."""

    def submit(self, topic_id: TopicId, partition: int, change: IsrChange, answered: Any) -> None:
        raise AssertionError("nobody else is in any ISR")


class OneBroker:
    """Services and, once `serving`, a listener on a port of this machine."""

    def __init__(self, directory: Path, **keys: str) -> None:
        self.config = BrokerConfig.for_tests(**keys)
        self.metadata = FakeMetadata()
        self.controllers = FakeControllers(self.metadata)
        self.replicas = ReplicaManager(
            config=self.config,
            files=SystemFiles(),
            directory=directory,
            clock=SystemClock(),
            alter_partition=NoProposals(),
            broker_epoch=lambda: 0,
        )
        self.metadata.publishers.append(self.replicas)
        self.services = BrokerServices(
            config=self.config,
            metadata=self.metadata,
            replicas=self.replicas,
            controllers=self.controllers,
            producer_ids=self.controllers,
        )
        self.listeners = Listeners(self.config)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listeners.ports['PLAINTEXT']}"

    def register(self, broker_id: NodeId = ME, *ports: tuple[str, int]) -> None:
        """A broker is there, and serves."""
        endpoints = tuple(Endpoint(name=name, host="127.0.0.1", port=port) for name, port in ports)
        epoch = self.metadata.image.provenance.offset
        self.metadata.write(
            RegisterBrokerRecord(
                broker_id=broker_id, incarnation_id=UUID(int=broker_id), endpoints=endpoints
            )
        )
        self.metadata.write(
            BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=epoch, fenced=False)
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["OneBroker"]:
        await self.replicas.load()
        ports = await self.listeners.bind()
        self.register(ME, *ports.items())
        await self.listeners.serve(Dispatcher(registry(), self.services))
        try:
            yield self
        finally:
            await self.listeners.stop(timeout_ms=1_000)
            await self.replicas.stop()


class RawClient:
    """Frames in and out of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._correlation_id = 0

    @staticmethod
    async def connect(port: int) -> "RawClient":
        return RawClient(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    def frame(self, key: ApiKey, version: int, message: object) -> bytes:
        self._correlation_id += 1
        body = codec.encode_request(key, version, message)
        return b"".join(header.request_frame(key, version, self._correlation_id, "test", body))

    async def receive(self) -> bytes:
        """The next response, without its size."""
        async with asyncio.timeout(10):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            return await self.reader.readexactly(size)

    async def ask(self, key: ApiKey, version: int, message: object) -> Any:
        self.writer.write(self.frame(key, version, message))
        frame = memoryview(await self.receive())
        correlation_id, body = header.read_response_header(key, version, frame)
        assert correlation_id == self._correlation_id
        return codec.decode_response(key, version, body)

    async def is_closed(self) -> bool:
        """Waits until the broker closes, and says whether it did so without another byte."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return
