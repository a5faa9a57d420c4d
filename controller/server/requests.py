"""Messages of klamm.v1 as the domain's types. After the door: shapes and sizes are right."""

from uuid import UUID

from controller.members import Asked, ReplaceVoter
from controller.plan.brokers import Registration
from controller.plan.configs import Alteration, AlterResource, Operation, SetOnTopics
from controller.plan.features import FeatureUpdate, UpgradeType
from controller.plan.isr import IsrChange, IsrMember
from controller.plan.topics import NewTopic
from controller.quorum.control import voter_from_wire
from controller.raft.voters import AddVoter, RemoveVoter, ReplicaKey, UpdateVoter
from controller.server import door
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, TopicId
from klamm.metadata.codec import endpoint_from_proto, features_from_proto
from klamm.metadata.config_records import ROWS_MIN
from klamm.metadata.records import Cause, ResourceType
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as pb
from klamm.v1 import records_pb2

ANONYMOUS = "User:ANONYMOUS"

_RESOURCE_TYPES: dict[int, ResourceType] = {int(each): each for each in ResourceType}

_OPERATIONS = {
    admin.ALTER_CONFIG_OPERATION_SET: Operation.SET,
    admin.ALTER_CONFIG_OPERATION_DELETE: Operation.DELETE,
    admin.ALTER_CONFIG_OPERATION_APPEND: Operation.APPEND,
    admin.ALTER_CONFIG_OPERATION_SUBTRACT: Operation.SUBTRACT,
}


def voter_change(request: admin.ChangeVotersRequest) -> Asked:
    match request.WhichOneof("change"):
        case "add":
            return AddVoter(voter=voter_from_wire(request.add), readmit=request.readmit)
        case "remove":
            gone = voter_from_wire(request.remove)
            key = ReplicaKey(node_id=gone.node_id, directory_id=gone.directory_id)
            return RemoveVoter(key=key)
        case "replace":
            return ReplaceVoter(voter=voter_from_wire(request.replace), readmit=request.readmit)
    return UpdateVoter(voter=voter_from_wire(request.update))


def cause(request: str, principal: str, request_id: str) -> Cause:
    """Who asks, by the caller's own word: a broker asks for its clients."""
    return Cause(principal=principal or ANONYMOUS, request=request, request_id=request_id)


def new_topics(request: admin.CreateTopicsRequest) -> tuple[NewTopic, ...]:
    return tuple(
        NewTopic(
            name=each.name,
            num_partitions=each.num_partitions,
            replication_factor=each.replication_factor,
            configs=dict(each.configs),
            assignments=tuple(
                (row.partition, tuple(NodeId(broker) for broker in row.broker_ids))
                for row in each.assignments
            ),
        )
        for each in request.topics
    )


def topic_references(request: admin.DeleteTopicsRequest) -> tuple[str | TopicId, ...]:
    return tuple(
        each.name if each.HasField("name") else TopicId(UUID(bytes=each.topic_id))
        for each in request.topics
    )


def alter_resources(request: admin.IncrementalAlterConfigsRequest) -> tuple[AlterResource, ...]:
    kinds, operations = _RESOURCE_TYPES, _OPERATIONS
    return tuple(
        AlterResource(
            kinds[resource.resource_type],
            resource.resource_name,
            tuple(
                [
                    Alteration(
                        each.key,
                        operations[each.operation],
                        each.value if each.HasField("value") else None,
                    )
                    for each in resource.alterations
                ]
            ),
        )
        for resource in request.resources
    )


def set_on_topics(request: admin.IncrementalAlterConfigsRequest) -> SetOnTopics | None:
    """The usual large request, in one pass: one key set on many topics.

    None if it is another one, or the door has to say what is wrong with its rows.
    """
    resources = request.resources
    if not ROWS_MIN <= len(resources) <= door.RESOURCES_MAX or not resources[0].alterations:
        return None
    key = resources[0].alterations[0].key
    names: list[str] = []
    values: list[str] = []
    for resource in resources:
        alterations = resource.alterations
        if len(alterations) != 1 or resource.resource_type != _TOPIC:
            return None
        each = alterations[0]
        value = each.value
        if each.key != key or each.operation != _SET or not value:  # An empty one may be none.
            return None
        names.append(resource.resource_name)
        values.append(value)
    if max(len(key), *map(len, values)) > door.CONFIG_VALUE_CHARACTERS_MAX:
        return None
    if max(map(len, names)) > door.NAME_ASKED_CHARACTERS_MAX:
        return None
    return SetOnTopics(key, tuple(names), tuple(values))


_TOPIC = records_pb2.CONFIG_RESOURCE_TYPE_TOPIC
_SET = admin.ALTER_CONFIG_OPERATION_SET


def registration(request: pb.RegisterBrokerRequest) -> Registration:
    return Registration(
        broker_id=NodeId(request.broker_id),
        incarnation_id=UUID(bytes=request.incarnation_id),
        endpoints=tuple(endpoint_from_proto(each) for each in request.endpoints),
        rack=request.rack if request.HasField("rack") else None,
        log_dirs=tuple(DirectoryId(UUID(bytes=each)) for each in request.log_dirs),
        features=features_from_proto(request.features),
    )


def feature_updates(request: admin.UpdateFeaturesRequest) -> tuple[FeatureUpdate, ...]:
    return tuple(
        FeatureUpdate(
            each.feature, each.level, UpgradeType(each.upgrade_type or UpgradeType.UPGRADE)
        )
        for each in request.updates
    )


def isr_changes(request: pb.AlterPartitionRequest) -> tuple[IsrChange, ...]:
    return tuple(
        IsrChange(
            topic_id=TopicId(UUID(bytes=each.topic_id)),
            partition=each.partition,
            leader_epoch=Epoch(each.leader_epoch),
            partition_epoch=each.partition_epoch,
            new_isr=tuple(
                IsrMember(
                    broker_id=NodeId(member.broker_id), broker_epoch=Offset(member.broker_epoch)
                )
                for member in each.new_isr
            ),
        )
        for each in request.partitions
    )
