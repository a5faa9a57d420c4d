"""What a handler is given: the broker's services, and the context of one request.

Handler = (BrokerServices, RequestContext, message) -> answer

an answer is    a response message       now
                Encoded                  now, written already
                None                     no response will be sent (Produce with acks=0)
                an awaitable of these    later
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from broker.kafka.api import ApiKey
from broker.kafka.schema import Buffer
from klamm.config.broker import BrokerConfig
from klamm.ids import NodeId, Offset
from klamm.metadata.image import MetadataImage
from klamm.v1 import admin_pb2 as pb

if TYPE_CHECKING:
    from broker.replica.manager import ReplicaManager

ANONYMOUS = "User:ANONYMOUS"
"""Who has not said who they are; Kafka's name for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Whose request it is, and how it came. One for all requests of a kind on a connection."""

    api_key: ApiKey
    api_version: int
    client_id: str | None
    principal: str
    """`User:ANONYMOUS` as long as nobody can say who they are."""
    listener: str
    """The name of the listener that the client came in on; it is told of that listener only."""
    client_host: str
    """The client's address, without the port."""


class MetadataView(Protocol):
    """This broker's image of the metadata log."""

    @property
    def image(self) -> MetadataImage: ...

    async def wait_for(self, offset: Offset, timeout_ms: int) -> None:
        """Wait until `image` includes everything below `offset`.

        Raises:
            TimeoutError: It does not, after `timeout_ms`.
        """
        ...


class Admin(Protocol):
    """The changes that handlers ask of the active controller; `ControllerClient` makes them.

    Every call raises `ApiError` or another `DefiniteError` if it was refused, `CommitUnknownError`
    if it may have happened.
    """

    async def create_topics(
        self, request: pb.CreateTopicsRequest, timeout_ms: int = ...
    ) -> pb.CreateTopicsResponse: ...

    async def delete_topics(
        self, request: pb.DeleteTopicsRequest, timeout_ms: int = ...
    ) -> pb.DeleteTopicsResponse: ...

    async def incremental_alter_configs(
        self, request: pb.IncrementalAlterConfigsRequest, timeout_ms: int = ...
    ) -> pb.IncrementalAlterConfigsResponse: ...

    async def update_features(
        self, request: pb.UpdateFeaturesRequest, timeout_ms: int = ...
    ) -> pb.UpdateFeaturesResponse: ...


class ProducerIdSource(Protocol):
    """Producer ids that nobody else gives out; `broker.control.producer_ids` has them."""

    async def next_id(self, timeout_ms: int) -> int:
        """A new id.

        Raises:
            UnreachableError: None was left, and no controller gave more in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerServices:
    """What the handlers of one broker work with."""

    config: BrokerConfig
    metadata: MetadataView
    replicas: ReplicaManager
    controllers: Admin
    producer_ids: ProducerIdSource

    @property
    def node_id(self) -> NodeId:
        return self.config.node_id

    @property
    def cluster_id(self) -> str:
        return self.config.cluster_id

    @property
    def image(self) -> MetadataImage:
        return self.metadata.image


@dataclass(frozen=True, slots=True)
class Encoded:
    """A response body that its handler has written itself, because it keeps the pieces."""

    body: Sequence[Buffer]
    error_code: int = 0
    """What the metrics are to count."""


Answer = object | None
"""A response message, `Encoded`, or None. Messages are plain dataclasses without a common class."""

# Any: the request's class is that of the API key for which the handler is registered.
Handler = Callable[[BrokerServices, RequestContext, Any], Answer | Awaitable[Answer]]
