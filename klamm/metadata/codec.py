"""Records as they are written: `klamm.v1.MetadataRecord` in the value, the cause in the headers.

A value that this version cannot read is an error that names its offset: a node that skipped what
it does not know would believe another state than its peers.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import assert_never, cast
from uuid import UUID

from google.protobuf.message import DecodeError

from klamm.errors import UnknownRecordError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, TopicId
from klamm.log.record_batch import read_records
from klamm.log.records import ControlType, Header, NewRecord, Record, control_type
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.features import Supported, SupportedFeature, why_unknown
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    Cause,
    ConfigRecord,
    ConfigsRecord,
    Endpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    NoOpRecord,
    PartitionChange,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    ResourceType,
    StateChecksumRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)
from klamm.v1 import records_pb2 as pb

PRINCIPAL_HEADER = "principal"
REQUEST_HEADER = "request"
REQUEST_ID_HEADER = "request-id"

CONTROLS_OF_THE_LOG = frozenset({ControlType.LEADER_CHANGE, ControlType.VOTERS})
CONTROLS_OF_A_SNAPSHOT = frozenset(
    {ControlType.SNAPSHOT_HEADER, ControlType.VOTERS, ControlType.SNAPSHOT_FOOTER}
)

_CHECKSUM_BYTES = 16
_CAUSES_KEPT = 256
"""Whose headers are kept: the same few ask for the same few things."""
_RESOURCE_TYPES: dict[int, ResourceType] = {int(each): each for each in ResourceType}


def encode(records: tuple[MetadataRecord, ...], cause: Cause) -> tuple[NewRecord, ...]:
    """One decision's records; the first carries the cause."""
    if not records:
        return ()
    headers = _headers_of(cause.principal, cause.request)
    if cause.request_id:
        headers = (*headers, (REQUEST_ID_HEADER, cause.request_id.encode()))
    first = NewRecord(_serialized(records[0]), None, headers)
    if len(records) == 1:
        return (first,)
    return (first, *(NewRecord(_serialized(each)) for each in records[1:]))


@lru_cache(_CAUSES_KEPT)
def _headers_of(principal: str, request: str) -> tuple[Header, ...]:
    return (PRINCIPAL_HEADER, principal.encode()), (REQUEST_HEADER, request.encode())


def _serialized(record: MetadataRecord) -> bytes:
    return to_proto(record).SerializeToString(deterministic=True)


def cause_of(record: Record) -> Cause | None:
    """Who did it, if this is the first record of a decision."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    if PRINCIPAL_HEADER not in headers:
        return None
    return Cause(
        principal=headers[PRINCIPAL_HEADER],
        request=headers.get(REQUEST_HEADER, ""),
        request_id=headers.get(REQUEST_ID_HEADER, ""),
    )


def decode(record: Record) -> MetadataRecord:
    """
    Raises:
        UnknownRecordError: It is damaged, or of a newer version.
    """
    try:
        return from_proto(pb.MetadataRecord.FromString(record.value or b""))
    except (DecodeError, ValueError) as error:
        raise UnknownRecordError(
            f"the metadata record at offset {record.offset} cannot be read: {error}"
        ) from error


def replay_record(delta: MetadataDelta, record: Record) -> None:
    """Take a record that was read into account.

    Raises:
        UnknownRecordError: It cannot be read, or does not fit what is before it, or puts a feature
            in force that this version does not know.
    """
    try:
        decoded = decode(record)
        delta.replay(decoded, record.offset)
    except (KeyError, IndexError, AssertionError) as error:
        raise UnknownRecordError(
            f"the metadata record at offset {record.offset} does not fit what is before it: "
            f"{type(error).__name__} {error}"
        ) from error
    if isinstance(decoded, FeatureLevelRecord):
        why = why_unknown(decoded.name, decoded.level)
        if why is not None:
            raise UnknownRecordError(
                f"from offset {record.offset} of the metadata log on {why}: start a later version"
            )


def check_controls(batch: memoryview, known: frozenset[ControlType]) -> None:
    """
    Raises:
        UnknownRecordError: A control record that this version does not know; who passed over it
            would follow other rules than the others.
        CorruptBatchError: The batch is damaged.
    """
    for record in read_records(batch, limit=len(batch)):  # Ours are not compressed.
        kind = control_type(record.key)
        if kind not in known:
            raise UnknownRecordError(
                f"the control record at offset {record.offset} is of type {kind}, which this "
                "version does not know: start a later version"
            )


def to_proto(record: MetadataRecord) -> pb.MetadataRecord:
    match record:
        case ConfigRecord():  # The first, since a call can have thousands.
            return pb.MetadataRecord(config=_config(record))
        case ProducerIdsRecord():  # Then the one that is written most often.
            return _producer_ids(record)
        case ConfigsRecord():
            return pb.MetadataRecord(configs=_configs(record))
        case RegisterBrokerRecord():
            return pb.MetadataRecord(register_broker=_register_broker(record))
        case UnregisterBrokerRecord():
            return pb.MetadataRecord(
                unregister_broker=pb.UnregisterBrokerRecord(
                    broker_id=record.broker_id, broker_epoch=record.broker_epoch
                )
            )
        case BrokerRegistrationChangeRecord():
            return pb.MetadataRecord(
                broker_registration_change=pb.BrokerRegistrationChangeRecord(
                    broker_id=record.broker_id,
                    broker_epoch=record.broker_epoch,
                    fenced=record.fenced,
                    in_controlled_shutdown=record.in_controlled_shutdown,
                )
            )
        case TopicRecord():
            return pb.MetadataRecord(
                topic=pb.TopicRecord(topic_id=record.topic_id.bytes, name=record.name)
            )
        case PartitionRecord():
            return pb.MetadataRecord(partition=_partitions(record))
        case PartitionChangeRecord():
            return pb.MetadataRecord(partition_change=_changes(record))
        case RemoveTopicRecord():
            return pb.MetadataRecord(
                remove_topic=pb.RemoveTopicRecord(topic_id=record.topic_id.bytes)
            )
        case _:
            return _small_to_proto(record)


def _small_to_proto(
    record: FeatureLevelRecord | NoOpRecord | StateChecksumRecord,
) -> pb.MetadataRecord:
    match record:
        case FeatureLevelRecord():
            return pb.MetadataRecord(
                feature_level=pb.FeatureLevelRecord(name=record.name, level=record.level)
            )
        case NoOpRecord():
            return pb.MetadataRecord(no_op=pb.NoOpRecord())
        case StateChecksumRecord():
            return pb.MetadataRecord(
                state_checksum=pb.StateChecksumRecord(
                    offset=record.offset,
                    checksum=record.checksum.to_bytes(_CHECKSUM_BYTES, "big"),
                    format=record.format,
                )
            )
        case _:
            assert_never(record)


def from_proto(message: pb.MetadataRecord) -> MetadataRecord:
    """
    Raises:
        ValueError: The record is none that this version knows, or a field makes no sense.
    """
    match message.WhichOneof("record"):
        case "producer_ids":
            return _read_producer_ids(message.producer_ids)
        case "config":
            return _read_config(message.config)
        case "configs":
            return _read_configs(message.configs)
        case "register_broker":
            return _read_register_broker(message.register_broker)
        case "unregister_broker":
            return UnregisterBrokerRecord(
                broker_id=NodeId(message.unregister_broker.broker_id),
                broker_epoch=Offset(message.unregister_broker.broker_epoch),
            )
        case "broker_registration_change":
            return _read_registration_change(message.broker_registration_change)
        case "topic":
            return TopicRecord(topic_id=_topic_id(message.topic.topic_id), name=message.topic.name)
        case "partition":
            return _read_partitions(message.partition)
        case "partition_change":
            return _read_changes(message.partition_change)
        case "remove_topic":
            return RemoveTopicRecord(topic_id=_topic_id(message.remove_topic.topic_id))
        case "feature_level":
            return FeatureLevelRecord(
                name=message.feature_level.name, level=message.feature_level.level
            )
        case "no_op":
            return NoOpRecord()
        case "state_checksum":
            return _read_checksum(message.state_checksum)
        case _:
            raise ValueError("it is none of the records that this version knows")


def endpoint_to_proto(endpoint: Endpoint) -> pb.Endpoint:
    return pb.Endpoint(
        name=endpoint.name,
        host=endpoint.host,
        port=endpoint.port,
        security_protocol=endpoint.security_protocol,
    )


def endpoint_from_proto(message: pb.Endpoint) -> Endpoint:
    return Endpoint(
        name=message.name,
        host=message.host,
        port=message.port,
        security_protocol=message.security_protocol,
    )


def features_to_proto(features: Supported) -> list[pb.SupportedFeature]:
    return [
        pb.SupportedFeature(name=name, min_level=low, max_level=high)
        for name, low, high in features
    ]


def features_from_proto(messages: Iterable[pb.SupportedFeature]) -> Supported:
    return tuple(SupportedFeature(each.name, each.min_level, each.max_level) for each in messages)


def _register_broker(record: RegisterBrokerRecord) -> pb.RegisterBrokerRecord:
    return pb.RegisterBrokerRecord(
        broker_id=record.broker_id,
        incarnation_id=record.incarnation_id.bytes,
        endpoints=[endpoint_to_proto(each) for each in record.endpoints],
        rack=record.rack,
        log_dirs=[each.bytes for each in record.log_dirs],
        broker_epoch=record.broker_epoch,
        features=features_to_proto(record.features),
    )


def _read_register_broker(message: pb.RegisterBrokerRecord) -> RegisterBrokerRecord:
    return RegisterBrokerRecord(
        broker_id=NodeId(message.broker_id),
        incarnation_id=UUID(bytes=message.incarnation_id),
        endpoints=tuple(endpoint_from_proto(each) for each in message.endpoints),
        rack=message.rack if message.HasField("rack") else None,
        log_dirs=tuple(DirectoryId(UUID(bytes=each)) for each in message.log_dirs),
        broker_epoch=Offset(message.broker_epoch) if message.HasField("broker_epoch") else None,
        features=features_from_proto(message.features),
    )


def _read_registration_change(
    message: pb.BrokerRegistrationChangeRecord,
) -> BrokerRegistrationChangeRecord:
    shutdown = message.in_controlled_shutdown
    return BrokerRegistrationChangeRecord(
        broker_id=NodeId(message.broker_id),
        broker_epoch=Offset(message.broker_epoch),
        fenced=message.fenced if message.HasField("fenced") else None,
        in_controlled_shutdown=shutdown if message.HasField("in_controlled_shutdown") else None,
    )


def _partitions(record: PartitionRecord) -> pb.PartitionRecord:
    return pb.PartitionRecord(
        topic_id=record.topic_id.bytes,
        partitions=[
            pb.NewPartition(
                partition=each.partition,
                replicas=each.replicas,
                isr=each.isr,
                leader=each.leader,
                leader_epoch=each.leader_epoch,
                partition_epoch=each.partition_epoch,
            )
            for each in record.partitions
        ],
    )


def _read_partitions(message: pb.PartitionRecord) -> PartitionRecord:
    # Partitions of one topic often have the same replicas: then they share one tuple.
    known: dict[tuple[NodeId, ...], tuple[NodeId, ...]] = {}

    def nodes(ids: Iterable[int]) -> tuple[NodeId, ...]:
        found = _nodes(ids)
        return known.setdefault(found, found)

    return PartitionRecord(
        topic_id=_topic_id(message.topic_id),
        partitions=tuple(
            NewPartition(
                partition=each.partition,
                replicas=nodes(each.replicas),
                isr=nodes(each.isr),
                leader=NodeId(each.leader),
                leader_epoch=Epoch(each.leader_epoch),
                partition_epoch=each.partition_epoch,
            )
            for each in message.partitions
        ),
    )


def _changes(record: PartitionChangeRecord) -> pb.PartitionChangeRecord:
    return pb.PartitionChangeRecord(
        topic_id=record.topic_id.bytes,
        changes=[
            pb.PartitionChange(
                partition=each.partition,
                isr=None if each.isr is None else pb.BrokerList(broker_ids=each.isr),
                leader=each.leader,
                replicas=None if each.replicas is None else pb.BrokerList(broker_ids=each.replicas),
            )
            for each in record.changes
        ],
    )


def _read_changes(message: pb.PartitionChangeRecord) -> PartitionChangeRecord:
    return PartitionChangeRecord(
        topic_id=_topic_id(message.topic_id),
        changes=tuple(
            PartitionChange(
                partition=each.partition,
                isr=_nodes(each.isr.broker_ids) if each.HasField("isr") else None,
                leader=NodeId(each.leader) if each.HasField("leader") else None,
                replicas=_nodes(each.replicas.broker_ids) if each.HasField("replicas") else None,
            )
            for each in message.changes
        ),
    )


def _config(record: ConfigRecord) -> pb.ConfigRecord:
    kind, name, key, value = record
    message = pb.ConfigRecord(resource_name=name, key=key, value=value)
    message.resource_type = pb.ConfigResourceType.ValueType(kind)
    return message


def _read_config(message: pb.ConfigRecord) -> ConfigRecord:
    kind = message.resource_type
    value = message.value
    return ConfigRecord(
        _RESOURCE_TYPES.get(kind) or ResourceType(kind),
        message.resource_name,
        message.key,
        value if value or message.HasField("value") else None,
    )


def _producer_ids(record: ProducerIdsRecord) -> pb.MetadataRecord:
    """Filled in place, which costs half as much as a message made of another."""
    message = pb.MetadataRecord()
    ids = message.producer_ids
    ids.SetInParent()
    ids.broker_id, ids.broker_epoch, ids.next_producer_id = record
    return message


def _read_producer_ids(message: pb.ProducerIdsRecord) -> ProducerIdsRecord:
    return ProducerIdsRecord(
        NodeId(message.broker_id), Offset(message.broker_epoch), message.next_producer_id
    )


def _configs(record: ConfigsRecord) -> pb.ConfigsRecord:
    kind, key, names, values = record
    return pb.ConfigsRecord(
        resource_type=pb.ConfigResourceType.ValueType(kind),
        key=key,
        resource_names=names,
        values=values,
    )


def _read_configs(message: pb.ConfigsRecord) -> ConfigsRecord:
    names, values = tuple(message.resource_names), tuple(message.values)
    if not names or len(set(names)) < len(names):
        raise ValueError("resources of one key are one at least, and each stands once")
    if len(values) not in (0, 1, len(names)):
        raise ValueError(f"{len(values)} values of {len(names)} resources")
    kind = message.resource_type
    return ConfigsRecord(
        _RESOURCE_TYPES.get(kind) or ResourceType(kind), message.key, names, values
    )


def _read_checksum(message: pb.StateChecksumRecord) -> StateChecksumRecord:
    if len(message.checksum) != _CHECKSUM_BYTES:
        raise ValueError(f"a checksum has {_CHECKSUM_BYTES} bytes, not {len(message.checksum)}")
    return StateChecksumRecord(
        offset=Offset(message.offset),
        checksum=int.from_bytes(message.checksum, "big"),
        format=message.format,
    )


def _topic_id(data: bytes) -> TopicId:
    return TopicId(UUID(bytes=data))


def _nodes(ids: Iterable[int]) -> tuple[NodeId, ...]:
    # A NodeId is an int at run time; of a large snapshot there are millions.
    return cast("tuple[NodeId, ...]", tuple(ids))
