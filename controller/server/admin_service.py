"""AdminService: changes that people ask for, decided by the active controller.

Statuses: INVALID_ARGUMENT with the fields for a request that no controller would take;
FAILED_PRECONDITION (NOT_CONTROLLER) with the leader's address for one sent to the wrong node;
DEADLINE_EXCEEDED (COMMIT_UNKNOWN) when the outcome is not known in time. What became of one topic
or resource is Kafka's error code in its row.
"""

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from controller.active import ActiveController
from controller.features import Features
from controller.members import Members
from controller.plan.configs import AlterResult, Asked
from controller.plan.features import FeatureChange
from controller.plan.topics import CreateResult, DeleteResult
from controller.quorum.control import voter_to_wire
from controller.raft.membership import Tolerance
from controller.server import door, requests
from controller.server.port import QuorumView
from controller.server.refusals import Refusals
from klamm.errors import KlammError
from klamm.ids import NodeId, Offset
from klamm.metadata.records import ResourceType
from klamm.v1 import admin_pb2 as pb
from klamm.v1 import records_pb2
from klamm.v1.admin_pb2_grpc import AdminServiceServicer

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

NAME = "klamm.v1.AdminService"

GOOD_ROWS_KEPT = 16_384
"""Resources of which it is remembered how their success is written; more, and all are forgotten."""


class AdminService(AdminServiceServicer):
    def __init__(
        self,
        controller: ActiveController,
        quorum: QuorumView,
        members: Members,
        features: Features,
        refusals: Refusals,
    ) -> None:
        self._controller = controller
        self._members = members
        self._features = features
        self._quorum = quorum
        self._refusals = refusals

    async def CreateTopics(
        self, request: pb.CreateTopicsRequest, context: "Context"
    ) -> pb.CreateTopicsResponse:
        """Create topics, and answer once they are committed."""
        try:
            door.check(door.create_topics(request))
            results, end = await self._controller.create_topics(
                requests.new_topics(request),
                requests.cause("CreateTopics", request.principal, request.request_id),
                door.timeout_ms(request.timeout_ms),
                validate_only=request.validate_only,
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.CreateTopicsResponse(results=map(_created, results), committed_offset=end)

    async def DeleteTopics(
        self, request: pb.DeleteTopicsRequest, context: "Context"
    ) -> pb.DeleteTopicsResponse:
        """Delete topics, and answer once they are gone from the log's state."""
        try:
            door.check(door.delete_topics(request))
            results, end = await self._controller.delete_topics(
                requests.topic_references(request),
                requests.cause("DeleteTopics", request.principal, request.request_id),
                door.timeout_ms(request.timeout_ms),
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.DeleteTopicsResponse(results=map(_deleted, results), committed_offset=end)

    async def IncrementalAlterConfigs(
        self, request: pb.IncrementalAlterConfigsRequest, context: "Context"
    ) -> pb.IncrementalAlterConfigsResponse:
        """Set and remove configs, each resource by itself."""
        try:
            asked: Asked | None = requests.set_on_topics(request)
            if asked is not None:
                door.check(door.alter_configs_but_rows(request))
            else:
                door.check(door.incremental_alter_configs(request))
                asked = requests.alter_resources(request)
            results, end = await self._controller.incremental_alter_configs(
                asked,
                requests.cause("IncrementalAlterConfigs", request.principal, request.request_id),
                door.timeout_ms(request.timeout_ms),
                validate_only=request.validate_only,
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return _altered(results, end)

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: "Context"
    ) -> pb.TransferLeadershipResponse:
        """Hand leadership to another controller, and answer once it leads."""
        try:
            door.check(door.transfer_leadership(request))
            done = await self._quorum.transfer(
                NodeId(request.voter_id), door.timeout_ms(request.timeout_ms)
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.TransferLeadershipResponse(
            former_leader_id=done.former,
            leader_id=done.leader,
            leader_epoch=done.epoch,
            took_ms=done.took_ms,
        )

    async def ChangeVoters(
        self, request: pb.ChangeVotersRequest, context: "Context"
    ) -> pb.ChangeVotersResponse:
        """Change the voters by one, and answer once that is committed."""
        try:
            door.check(door.change_voters(request))
            asked = requests.voter_change(request)
            if request.dry_run:
                changed = await self._members.dry_run(asked)
            else:
                changed = await self._members.change(asked, door.timeout_ms(request.timeout_ms))
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.ChangeVotersResponse(
            before=_tolerance(changed.before),
            after=_tolerance(changed.after),
            voters=[voter_to_wire(each) for each in changed.voters.voters],
            committed_offset=changed.end_offset,
            refusal=changed.refusal,
        )

    async def UnregisterBroker(
        self, request: pb.UnregisterBrokerRequest, context: "Context"
    ) -> pb.UnregisterBrokerResponse:
        """Forget a broker, and answer once that is committed."""
        try:
            door.check(door.unregister_broker(request))
            end = await self._controller.unregister_broker(
                NodeId(request.broker_id),
                requests.cause("UnregisterBroker", request.principal, request.request_id),
                door.timeout_ms(request.timeout_ms),
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.UnregisterBrokerResponse(committed_offset=end)

    async def UpdateFeatures(
        self, request: pb.UpdateFeaturesRequest, context: "Context"
    ) -> pb.UpdateFeaturesResponse:
        """Put levels of features in force, all or none, and answer once that is committed."""
        try:
            door.check(door.update_features(request))
            changes, end = await self._features.update(
                requests.feature_updates(request),
                requests.cause("UpdateFeatures", request.principal, request.request_id),
                door.timeout_ms(request.timeout_ms),
                validate_only=request.validate_only,
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.UpdateFeaturesResponse(features=map(_updated, changes), committed_offset=end)


def _updated(change: FeatureChange) -> pb.UpdatedFeature:
    name, before, level = change
    return pb.UpdatedFeature(feature=name, level_before=before, level=level)


def _tolerance(bears: Tolerance) -> pb.FaultTolerance:
    return pb.FaultTolerance(voters=bears.voters, healthy=bears.healthy, can_lose=bears.can_lose)


def _created(result: CreateResult) -> pb.CreateTopicResult:
    return pb.CreateTopicResult(
        name=result.name,
        error_code=result.error,
        error_message=result.message,
        topic_id=b"" if result.topic_id is None else result.topic_id.bytes,
        num_partitions=result.num_partitions,
        replication_factor=result.replication_factor,
        configs=dict(result.configs),
    )


def _deleted(result: DeleteResult) -> pb.DeleteTopicResult:
    return pb.DeleteTopicResult(
        name=result.name,
        topic_id=b"" if result.topic_id is None else result.topic_id.bytes,
        error_code=result.error,
        error_message=result.message,
    )


def _altered(results: tuple[AlterResult, ...], end: Offset) -> pb.IncrementalAlterConfigsResponse:
    """A thousand rows, mostly with nothing but a name in them, are cheapest as bytes that are
    remembered: messages end to end are one with the rows of all.
    """
    if any(map(_ERROR, results)):
        response = pb.IncrementalAlterConfigsResponse(results=map(_row, results))
    else:
        rows = map(_good_row, map(_RESOURCE, results))
        response = pb.IncrementalAlterConfigsResponse.FromString(b"".join(rows))
    response.committed_offset = end
    return response


def _row(result: AlterResult) -> pb.AlterConfigResult:
    return pb.AlterConfigResult(
        resource_type=records_pb2.ConfigResourceType.ValueType(result.resource_type),
        resource_name=result.resource_name,
        error_code=result.error,
        error_message=result.message,
    )


class _GoodRows(dict[tuple[ResourceType, str], bytes]):
    def __missing__(self, resource: tuple[ResourceType, str]) -> bytes:
        if len(self) >= GOOD_ROWS_KEPT:
            self.clear()
        only = pb.IncrementalAlterConfigsResponse(results=[_row(AlterResult(*resource))])
        self[resource] = data = only.SerializeToString()
        return data


_good_row = _GoodRows().__getitem__
_ERROR, _RESOURCE = itemgetter(2), itemgetter(0, 1)
"""Of an AlterResult."""
