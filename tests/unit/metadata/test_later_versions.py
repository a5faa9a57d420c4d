"""What a later version wrote: fields are passed over, anything else stops the node (63, 44)."""

import pytest

from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch
from klamm.log.records import ControlType, NewRecord, control_key
from klamm.metadata.codec import encode, to_proto
from klamm.metadata.features import KNOWN, METADATA_VERSION, METADATA_VERSION_LEVEL
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import (
    Cause,
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    ResourceType,
)
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.v1 import records_pb2 as pb

UNKNOWN_FIELD = b"\x98\x7d\x01"
"""Number 2,003, varint 1: no message has it."""

RAFT_OFFSETS_CONTROL = 99
CONFIG = ConfigRecord(resource_type=ResourceType.BROKER, resource_name="", key="a", value="1")


def batch(*records: NewRecord, control: bool = False) -> bytes:
    return build_batch(
        records, base_offset=Offset(0), leader_epoch=Epoch(1), timestamp_ms=1, control=control
    )


def loaded(data: bytes) -> MetadataImage:
    loader = MetadataLoader()
    loader.load(data, Offset(100))
    return loader.image


def written(*records: MetadataRecord) -> tuple[NewRecord, ...]:
    return encode(records, Cause(principal="User:a", request="x"))


def test_an_unknown_field_and_an_unknown_header_are_passed_over() -> None:
    (plain,) = written(CONFIG)
    assert plain.value is not None
    message = pb.MetadataRecord(config=to_proto(CONFIG).config)
    inner = message.config.SerializeToString() + UNKNOWN_FIELD
    # The record's own message with one field more; and one more beside it.
    value = b"\x42" + bytes([len(inner)]) + inner + UNKNOWN_FIELD
    later = plain._replace(value=value, headers=(*plain.headers, ("later", b"1")))
    assert loaded(batch(later)) == loaded(batch(plain)) != EMPTY


def test_an_unknown_record_stops_the_node() -> None:
    with pytest.raises(UnknownRecordError, match="offset 1 cannot be read: it is none of the rec"):
        loaded(batch(*written(CONFIG), NewRecord(UNKNOWN_FIELD)))


@pytest.mark.parametrize(
    ("name", "level", "said"),
    [
        (METADATA_VERSION, METADATA_VERSION_LEVEL + 1, f"knows up to {METADATA_VERSION_LEVEL}"),
        ("later.version", 1, "does not know it"),
    ],
)
def test_a_feature_in_force_that_is_not_known_stops_the_node(
    name: str, level: int, said: str
) -> None:
    with pytest.raises(UnknownRecordError, match=f"{name}.*{said}"):
        loaded(batch(*written(FeatureLevelRecord(name=name, level=level))))


@pytest.mark.parametrize(
    ("name", "level"), [("later.version", 0), *((name, most) for name, most in KNOWN.items())]
)
def test_one_that_is_known_does_not_nor_one_that_is_taken_back(name: str, level: int) -> None:
    image = loaded(batch(*written(FeatureLevelRecord(name=name, level=level))))
    assert image.features.get(name, 0) == level


def test_an_unknown_control_record_stops_the_node() -> None:
    known = NewRecord(key=control_key(ControlType.LEADER_CHANGE), value=b"")
    key = control_key(ControlType.LEADER_CHANGE)[:2] + RAFT_OFFSETS_CONTROL.to_bytes(2)
    loaded(batch(known, control=True))
    with pytest.raises(UnknownRecordError, match="offset 1 is of type 99"):
        loaded(batch(known, NewRecord(key=key, value=b""), control=True))


def header(version: int, *more: NewRecord) -> memoryview:
    value = pb.SnapshotHeaderRecord(version=version).SerializeToString() + UNKNOWN_FIELD
    first = NewRecord(key=control_key(ControlType.SNAPSHOT_HEADER), value=value)
    return memoryview(batch(first, *more, control=True))


def test_a_snapshot_of_a_later_format_is_not_taken_for_a_damaged_one() -> None:
    """A damaged one would be set aside, and fetched again for ever."""
    snapshot_id = OffsetAndEpoch(Epoch(1), Offset(9))
    SnapshotReader(snapshot_id).take(header(0))
    with pytest.raises(UnknownRecordError, match="version 1 of the format"):
        SnapshotReader(snapshot_id).take(header(1))
    key = control_key(ControlType.LEADER_CHANGE)[:2] + RAFT_OFFSETS_CONTROL.to_bytes(2)
    with pytest.raises(UnknownRecordError, match="type 99"):
        SnapshotReader(snapshot_id).take(header(0, NewRecord(key=key, value=b"")))
