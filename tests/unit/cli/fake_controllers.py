"""Controllers that answer from what a test wrote down, and remember what they were asked."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from klamm.cli.outside import Outside
from klamm.errors import KlammError, UnreachableError
from klamm.ids import Offset
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from klamm.v1.quorum_pb2 import DescribeQuorumResponse

HEADER = metadata.ResponseHeader(
    offset=42, epoch=3, leader_id=2, responder_id=1, cluster_id="the-cluster"
)


@dataclass
class FakeControllers:
    addresses: Sequence[str] = ()
    down: bool = False
    asked: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    topics: list[metadata.Topic] = field(default_factory=list)
    brokers: list[metadata.Broker] = field(default_factory=list)
    events: list[metadata.WatchEvent] = field(default_factory=list)
    quorum: DescribeQuorumResponse = field(default_factory=DescribeQuorumResponse)
    features: list[metadata.Feature] = field(default_factory=list)
    page: int = 1_000
    backups: list[bytes] = field(default_factory=list)
    """What is sent, one after the other; a later one begins anew."""
    refusal: KlammError | None = None
    """What a transfer is answered, or a change of features."""

    def world(self) -> Outside:
        def connect(addresses: Sequence[str]) -> "FakeControllers":
            self.addresses = tuple(addresses)
            return self

        def find(bootstrap_servers: str, timeout_s: float) -> Sequence[str]:
            return (f"controller-of-{bootstrap_servers}",)

        return Outside(connect=connect, find_controllers=find)

    def _hear(self, request: object) -> None:
        if self.down:
            raise UnreachableError("nobody led in time")
        self.asked.append(request)

    async def close(self) -> None:
        self.asked.append("close")

    async def create_topics(
        self, request: admin.CreateTopicsRequest, timeout_ms: int
    ) -> admin.CreateTopicsResponse:
        self._hear(request)
        return admin.CreateTopicsResponse(results=self.results)

    async def change_voters(
        self, request: admin.ChangeVotersRequest, timeout_ms: int
    ) -> admin.ChangeVotersResponse:
        self._hear(request)
        (answer,) = self.results
        assert isinstance(answer, admin.ChangeVotersResponse)
        return answer

    async def delete_topics(
        self, request: admin.DeleteTopicsRequest, timeout_ms: int
    ) -> admin.DeleteTopicsResponse:
        self._hear(request)
        return admin.DeleteTopicsResponse(results=self.results)

    async def transfer_leadership(
        self, request: admin.TransferLeadershipRequest, timeout_ms: int
    ) -> admin.TransferLeadershipResponse:
        self._hear(request)
        if self.refusal is not None:
            raise self.refusal
        return admin.TransferLeadershipResponse(
            former_leader_id=2, leader_id=request.voter_id, leader_epoch=4, took_ms=7
        )

    async def describe_features(
        self, request: metadata.DescribeFeaturesRequest, timeout_ms: int
    ) -> metadata.DescribeFeaturesResponse:
        self._hear(request)
        return metadata.DescribeFeaturesResponse(header=HEADER, features=self.features)

    async def unregister_broker(
        self, request: admin.UnregisterBrokerRequest, timeout_ms: int
    ) -> admin.UnregisterBrokerResponse:
        self._hear(request)
        if self.refusal is not None:
            raise self.refusal
        return admin.UnregisterBrokerResponse(committed_offset=HEADER.offset)

    async def update_features(
        self, request: admin.UpdateFeaturesRequest, timeout_ms: int
    ) -> admin.UpdateFeaturesResponse:
        self._hear(request)
        if self.refusal is not None:
            raise self.refusal
        before = {each.name: each.finalized_level for each in self.features}
        return admin.UpdateFeaturesResponse(
            features=[
                admin.UpdatedFeature(
                    feature=each.feature,
                    level_before=before.get(each.feature, 0),
                    level=each.level,
                )
                for each in request.updates
            ],
            committed_offset=HEADER.offset,
        )

    async def describe_cluster(
        self, request: metadata.DescribeClusterRequest, timeout_ms: int
    ) -> metadata.DescribeClusterResponse:
        self._hear(request)
        return metadata.DescribeClusterResponse(
            header=HEADER,
            controllers=[metadata.Controller(node_id=2, grpc="c2:9093", active=True)],
            brokers=self.brokers,
            topic_count=len(self.topics),
            partition_count=6,
        )

    async def describe_quorum(
        self, timeout_ms: int
    ) -> metadata.MetadataServiceDescribeQuorumResponse:
        self._hear("describe quorum")
        return metadata.MetadataServiceDescribeQuorumResponse(header=HEADER, quorum=self.quorum)

    async def list_brokers(
        self, request: metadata.ListBrokersRequest, timeout_ms: int
    ) -> metadata.ListBrokersResponse:
        self._hear(request)
        return metadata.ListBrokersResponse(header=HEADER, brokers=self.brokers)

    async def list_topics(
        self, request: metadata.ListTopicsRequest, timeout_ms: int
    ) -> metadata.ListTopicsResponse:
        self._hear(request)
        begin = int(request.page_token or 0)
        some = self.topics[begin : begin + self.page]
        end = begin + len(some)
        return metadata.ListTopicsResponse(
            header=HEADER,
            topics=[
                metadata.TopicListing(
                    topic_id=each.topic_id,
                    name=each.name,
                    partition_count=len(each.partitions),
                    replication_factor=3,
                )
                for each in some
            ],
            next_page_token=str(end) if end < len(self.topics) else "",
        )

    async def describe_topics(
        self, request: metadata.DescribeTopicsRequest, timeout_ms: int
    ) -> metadata.DescribeTopicsResponse:
        self._hear(request)
        known = {each.name: each for each in self.topics}
        return metadata.DescribeTopicsResponse(
            header=HEADER,
            topics=[known[name] for name in request.names or known if name in known],
            unknown_names=[name for name in request.names if name not in known],
        )

    async def watch(
        self, from_offset: Offset, progress_interval_ms: int, timeout_ms: int
    ) -> AsyncIterator[metadata.WatchResponse]:
        self._hear(from_offset)
        yield metadata.WatchResponse(header=metadata.ResponseHeader(offset=40))
        events = [each for each in self.events if each.offset >= from_offset]
        yield metadata.WatchResponse(header=HEADER, events=events)
        raise AssertionError("a dump ends where the log ended as it began")

    async def backup(self, timeout_ms: int) -> AsyncIterator[metadata.BackupResponse]:
        self._hear("backup")
        for data in self.backups:
            half = len(data) // 2
            yield metadata.BackupResponse(header=HEADER, chunk=data[:half], record_count=1)
            rest = data[half:]
            yield metadata.BackupResponse(position=half, chunk=rest, record_count=2, last=True)
