"""MetadataService: what the cluster knows, answered by any controller.

Every answer says as of which offset it holds, in which epoch, and who leads. Pages are read from
the image of their own call: a topic created between two pages may be seen or not, none that was
there throughout is missed or seen twice.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from controller.server import answers
from controller.server.backup import Backups
from controller.server.freshness import Freshness
from controller.server.port import Metadata, QuorumView
from controller.server.watch import watch
from klamm.clock import Clock
from klamm.errors import KlammError
from klamm.ids import Offset
from klamm.rpc import status
from klamm.rpc.status import BadRequestError
from klamm.v1 import metadata_pb2 as pb
from klamm.v1.metadata_pb2_grpc import MetadataServiceServicer

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

NAME = "klamm.v1.MetadataService"

PAGE_MAX = 1_000
TOPICS_PAGE = 100
"""Of topics in full, unless asked otherwise; they may hold many partitions each."""

NAMES_MAX = 1_000
TOKEN_CHARACTERS_MAX = 249
FIND_WAIT_MS_MAX = 60_000
DESCRIBE_QUORUM_MS = 2_000


class MetadataService(MetadataServiceServicer):
    def __init__(self, quorum: QuorumView, metadata: Metadata, clock: Clock) -> None:
        self._quorum = quorum
        self._metadata = metadata
        self._freshness = Freshness(quorum, metadata, clock)
        self._backups = Backups(quorum, metadata, self._freshness, clock)
        self._counts = answers.Counts()

    async def FindController(
        self, request: pb.FindControllerRequest, context: "Context"
    ) -> pb.FindControllerResponse:
        """Held back until there is news; see the client in klamm/client."""
        if request.max_wait_ms > FIND_WAIT_MS_MAX:
            why = f"at most {FIND_WAIT_MS_MAX}, is {request.max_wait_ms}"
            await status.abort(context, BadRequestError({"max_wait_ms": why}))
        await self._quorum.wait_leader(request.after_epoch, request.max_wait_ms)
        return pb.FindControllerResponse(
            header=self._header(self._metadata.image.provenance.offset),
            controllers=self._controllers(),
        )

    async def DescribeCluster(
        self, request: pb.DescribeClusterRequest, context: "Context"
    ) -> pb.DescribeClusterResponse:
        try:
            image = await self._freshness.image(request.consistency)
        except KlammError as error:
            await status.abort(context, error)
        counts = self._counts.of(image.topics)
        return pb.DescribeClusterResponse(
            header=self._header(image.provenance.offset),
            controllers=self._controllers(),
            brokers=[answers.broker(image.brokers[each], counts) for each in sorted(image.brokers)],
            topic_count=len(counts.names),
            partition_count=counts.partitions,
            offline_partition_count=counts.offline,
            under_replicated_partition_count=counts.under_replicated,
        )

    async def DescribeQuorum(
        self, request: pb.MetadataServiceDescribeQuorumRequest, context: "Context"
    ) -> pb.MetadataServiceDescribeQuorumResponse:
        """As the leader sees it; if none can be asked, as this controller does."""
        try:
            quorum = await self._quorum.describe(DESCRIBE_QUORUM_MS)
        except KlammError as error:
            await status.abort(context, error)
        return pb.MetadataServiceDescribeQuorumResponse(
            header=self._header(self._metadata.image.provenance.offset), quorum=quorum
        )

    async def ListBrokers(
        self, request: pb.ListBrokersRequest, context: "Context"
    ) -> pb.ListBrokersResponse:
        try:
            size = _page_size(request.page_size, PAGE_MAX)
            after = _number_token(request.page_token)
            image = await self._freshness.image(request.consistency)
        except KlammError as error:
            await status.abort(context, error)
        counts = self._counts.of(image.topics)
        ids = [each for each in sorted(image.brokers) if each > after]
        return pb.ListBrokersResponse(
            header=self._header(image.provenance.offset),
            brokers=[answers.broker(image.brokers[each], counts) for each in ids[:size]],
            next_page_token=str(ids[size - 1]) if len(ids) > size else "",
        )

    async def ListTopics(
        self, request: pb.ListTopicsRequest, context: "Context"
    ) -> pb.ListTopicsResponse:
        try:
            size = _page_size(request.page_size, PAGE_MAX)
            _check_token(request.page_token)
            image = await self._freshness.image(request.consistency)
        except KlammError as error:
            await status.abort(context, error)
        counts = self._counts.of(image.topics)
        names, token = counts.page(request.page_token, size, request.name_prefix)
        topics = image.topics
        return pb.ListTopicsResponse(
            header=self._header(image.provenance.offset),
            topics=[answers.topic_listing(topics.by_id[topics.by_name[each]]) for each in names],
            next_page_token=token,
        )

    async def DescribeTopics(
        self, request: pb.DescribeTopicsRequest, context: "Context"
    ) -> pb.DescribeTopicsResponse:
        """The names asked for, or all; unknown ones are listed as such on the first page."""
        try:
            size = _page_size(request.page_size, TOPICS_PAGE)
            _check_token(request.page_token)
            if len(request.names) > NAMES_MAX:
                raise BadRequestError({"names": f"at most {NAMES_MAX}, are {len(request.names)}"})
            image = await self._freshness.image(request.consistency)
        except KlammError as error:
            await status.abort(context, error)
        by_name, by_id = image.topics.by_name, image.topics.by_id
        known = self._counts.of(image.topics)
        unknown: list[str] = []
        if request.names:
            asked = sorted(set(request.names))
            unknown = [] if request.page_token else [each for each in asked if each not in by_name]
            known = answers.TopicCounts(names=[each for each in asked if each in by_name])
        names, token = known.page(request.page_token, size)
        return pb.DescribeTopicsResponse(
            header=self._header(image.provenance.offset),
            topics=[answers.topic(image, by_id[by_name[each]]) for each in names],
            unknown_names=unknown,
            next_page_token=token,
        )

    async def DescribeFeatures(
        self, request: pb.DescribeFeaturesRequest, context: "Context"
    ) -> pb.DescribeFeaturesResponse:
        try:
            image = await self._freshness.image(request.consistency)
        except KlammError as error:
            await status.abort(context, error)
        return pb.DescribeFeaturesResponse(
            header=self._header(image.provenance.offset), features=answers.features(image)
        )

    async def Watch(
        self, request: pb.WatchRequest, context: "Context"
    ) -> AsyncIterator[pb.WatchResponse]:
        """Committed records for as long as the caller listens."""
        try:
            async for end, events in watch(
                self._quorum, Offset(request.from_offset), request.progress_interval_ms
            ):
                yield pb.WatchResponse(header=self._header(end), events=events)
        except KlammError as error:
            await status.abort(context, error)

    async def Backup(
        self, request: pb.BackupRequest, context: "Context"
    ) -> AsyncIterator[pb.BackupResponse]:
        """The bytes of one file, which says itself whether it is whole."""
        try:
            async with aclosing(self._backups.run(request.consistency)) as chunks:
                async for chunk in chunks:
                    yield pb.BackupResponse(
                        header=self._header(chunk.offset),
                        position=chunk.position,
                        chunk=chunk.data,
                        record_count=chunk.record_count,
                        last=chunk.last,
                    )
        except KlammError as error:
            await status.abort(context, error)

    def _header(self, offset: Offset) -> pb.ResponseHeader:
        return pb.ResponseHeader(
            offset=offset,
            epoch=self._quorum.epoch,
            leader_id=self._quorum.leader,
            responder_id=self._quorum.node_id,
            cluster_id=self._quorum.cluster_id,
        )

    def _controllers(self) -> list[pb.Controller]:
        return [
            pb.Controller(
                node_id=each.node_id,
                grpc=each.address,
                active=each.node_id == self._quorum.leader,
            )
            for each in self._quorum.peers
        ]


def _page_size(asked: int, default: int) -> int:
    if asked > PAGE_MAX:
        raise BadRequestError({"page_size": f"at most {PAGE_MAX}, is {asked}"})
    return asked or default


def _check_token(token: str) -> None:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise BadRequestError({"page_token": "is none that an answer of this call gave"})


def _number_token(token: str) -> int:
    if not token:
        return -1
    if len(token) > 10 or not (token.isascii() and token.isdigit()):
        raise BadRequestError({"page_token": "is none that an answer of this call gave"})
    return int(token)
