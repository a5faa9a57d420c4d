"""What commands need of the world outside, so that tests can stand in for it.

A command takes `outside(context)`: the real one, or what the test put into the context's `obj`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import typer

from klamm.ids import Offset

if TYPE_CHECKING:  # Generated code and gRPC take a tenth of a second to import.
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import metadata_pb2 as metadata


class Controllers(Protocol):
    """Of `klamm.client.client.ControllerClient`, what commands use."""

    async def close(self) -> None: ...

    async def create_topics(
        self, request: "admin.CreateTopicsRequest", timeout_ms: int
    ) -> "admin.CreateTopicsResponse": ...

    async def delete_topics(
        self, request: "admin.DeleteTopicsRequest", timeout_ms: int
    ) -> "admin.DeleteTopicsResponse": ...

    async def transfer_leadership(
        self, request: "admin.TransferLeadershipRequest", timeout_ms: int
    ) -> "admin.TransferLeadershipResponse": ...

    async def change_voters(
        self, request: "admin.ChangeVotersRequest", timeout_ms: int
    ) -> "admin.ChangeVotersResponse": ...

    async def unregister_broker(
        self, request: "admin.UnregisterBrokerRequest", timeout_ms: int
    ) -> "admin.UnregisterBrokerResponse": ...

    async def update_features(
        self, request: "admin.UpdateFeaturesRequest", timeout_ms: int
    ) -> "admin.UpdateFeaturesResponse": ...

    async def describe_features(
        self, request: "metadata.DescribeFeaturesRequest", timeout_ms: int
    ) -> "metadata.DescribeFeaturesResponse": ...

    async def describe_cluster(
        self, request: "metadata.DescribeClusterRequest", timeout_ms: int
    ) -> "metadata.DescribeClusterResponse": ...

    async def describe_quorum(
        self, timeout_ms: int
    ) -> "metadata.MetadataServiceDescribeQuorumResponse": ...

    async def list_brokers(
        self, request: "metadata.ListBrokersRequest", timeout_ms: int
    ) -> "metadata.ListBrokersResponse": ...

    async def list_topics(
        self, request: "metadata.ListTopicsRequest", timeout_ms: int
    ) -> "metadata.ListTopicsResponse": ...

    async def describe_topics(
        self, request: "metadata.DescribeTopicsRequest", timeout_ms: int
    ) -> "metadata.DescribeTopicsResponse": ...

    def watch(
        self, from_offset: Offset, progress_interval_ms: int, timeout_ms: int
    ) -> AsyncIterator["metadata.WatchResponse"]: ...

    def backup(self, timeout_ms: int) -> AsyncIterator["metadata.BackupResponse"]: ...


@dataclass(frozen=True, slots=True)
class Outside:
    connect: Callable[[Sequence[str]], Controllers]
    """host:port of controllers → a client of them. Called within a running event loop."""
    find_controllers: Callable[[str, float], Sequence[str]]
    """Brokers' host:port,… and seconds → host:port of the controllers they belong to."""


def outside(context: typer.Context) -> Outside:
    """The world of this invocation."""
    if isinstance(context.obj, Outside):
        return context.obj
    return Outside(connect=_connect, find_controllers=_find_controllers)


def _connect(addresses: Sequence[str]) -> Controllers:
    from klamm.client.client import ControllerClient

    return ControllerClient(addresses)


def _find_controllers(bootstrap_servers: str, timeout_s: float) -> Sequence[str]:
    from klamm.cli.kafka import controllers_of

    return controllers_of(bootstrap_servers, timeout_s)
