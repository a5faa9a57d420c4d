"""One key on many resources in one record: the same as a record for each (KIP-339)."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.records import Record
from klamm.metadata.checksum import checksum_of
from klamm.metadata.codec import decode, to_proto
from klamm.metadata.config_records import ROWS_MIN, column, may_be_packed, packed, unpacked
from klamm.metadata.delta import MetadataDelta, replay
from klamm.metadata.features import CONFIGS_RECORD_LEVEL, METADATA_VERSION
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import ConfigRecord, ConfigsRecord, MetadataRecord, ResourceType
from klamm.v1 import records_pb2 as pb
from tests.unit.metadata.histories import history

TOPIC = ResourceType.TOPIC
NAMES = st.lists(st.text("ab", max_size=4), min_size=1, max_size=20, unique=True).map(tuple)
VALUES = st.sampled_from(["", "1", "2", "ü", "\0", "1\0\1", "v" * 15, "v" * 16])
KEYS = st.sampled_from(["k", "l"])


@st.composite
def configs_records(draw: st.DrawFn) -> ConfigsRecord:
    names = draw(NAMES)
    count = draw(st.sampled_from([0, 1, len(names)]))
    values = tuple(draw(st.lists(VALUES, min_size=count, max_size=count)))
    return ConfigsRecord(draw(st.sampled_from(ResourceType)), draw(KEYS), names, values)


def replayed(image: MetadataImage, *records: MetadataRecord) -> MetadataImage:
    return replay(image, records, OffsetAndEpoch(Epoch(1), Offset(image.provenance.offset + 1)))


def written(message: pb.MetadataRecord) -> Record:
    return Record(Offset(7), 0, None, message.SerializeToString())


@given(configs_records())
def test_it_reads_back(record: ConfigsRecord) -> None:
    assert decode(written(to_proto(record))) == record


@given(st.lists(configs_records(), max_size=8))
def test_it_means_what_its_rows_mean(records: list[ConfigsRecord]) -> None:
    """In one delta, and one after the other; the checksum too."""
    rows = [row for each in records for row in unpacked(each)]
    together = replayed(EMPTY, *records)
    assert together == replayed(EMPTY, *rows)
    assert together.checksum == checksum_of(together) == replayed(EMPTY, *rows).checksum
    image = EMPTY
    for each in records:
        changed, expected = (MetadataDelta(image) for _ in range(2))
        changed.replay(each, Offset(0))
        for row in unpacked(each):
            expected.replay(row, Offset(0))
        assert changed.configs_changed == expected.configs_changed
        image = replayed(image, each)
    assert image.configs == together.configs
    assert image.checksum == together.checksum
    assert all(image.configs.values()), "who has nothing set is not there"


@given(configs_records())
def test_packed_and_unpacked_are_the_same_changes(record: ConfigsRecord) -> None:
    rows = list(unpacked(record))
    assert [each.resource_name for each in rows] == list(record.resource_names)
    again = [
        row
        for each in packed(rows)
        for row in (unpacked(each) if isinstance(each, ConfigsRecord) else [each])
    ]
    assert again == rows
    assert all(isinstance(each, ConfigRecord) for each in packed(rows)) == (len(rows) < ROWS_MIN)


def test_what_is_packed_is_of_one_key_and_either_set_or_removed() -> None:
    names = [f"t{each}" for each in range(ROWS_MIN)]
    mixed = [
        *(ConfigRecord(TOPIC, name, "a", "1") for name in names),
        *(ConfigRecord(TOPIC, name, "b", name) for name in names),
        *(ConfigRecord(TOPIC, name, "c", None) for name in names),
        ConfigRecord(ResourceType.BROKER, "1", "a", "1"),
        *(ConfigRecord(TOPIC, name, "d", None) for name in names[1:]),
    ]
    expected = [
        ConfigsRecord(TOPIC, "a", tuple(names), ("1",)),
        ConfigsRecord(TOPIC, "b", tuple(names), tuple(names)),
        ConfigsRecord(TOPIC, "c", tuple(names), ()),
        *mixed[3 * ROWS_MIN :],
    ]
    random.Random(1).shuffle(rows := list(mixed))
    assert packed(mixed) == expected
    assert replayed(EMPTY, *packed(rows)) == replayed(EMPTY, *mixed)


def test_values_are_said_once_only_if_all_are_the_same() -> None:
    names = ["a", "b", "c"]
    assert column(TOPIC, "k", names, ["1", "1", "1"]).values == ("1",)
    assert column(TOPIC, "k", names, ["1", "2", "1"]).values == ("1", "2", "1")


def test_resources_that_are_configured_alike_share_one_map() -> None:
    """So that the next change of all of them is made once."""
    names = [f"t{each}" for each in range(9)]
    image = replayed(EMPTY, *(ConfigRecord(TOPIC, name, "a", "1") for name in names))
    image = replayed(image, column(TOPIC, "b", names, ["2"] * 9))
    first, *others = image.configs.values()
    assert first == Map({"a": "1", "b": "2"})
    assert all(each is first for each in others)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (pb.ConfigsRecord(resource_type=2, key="k", values=["1"]), "one at least"),
        (pb.ConfigsRecord(resource_type=2, key="k", resource_names="aa"), "each stands once"),
        (pb.ConfigsRecord(resource_type=2, resource_names="abc", values="12"), "2 values of 3"),
        (pb.ConfigsRecord(resource_type=2, resource_names="a", values="12"), "2 values of 1"),
        (pb.ConfigsRecord(resource_names="a"), "0 is not a valid ResourceType"),
    ],
)
def test_one_that_makes_no_sense_cannot_be_read(message: pb.ConfigsRecord, why: str) -> None:
    with pytest.raises(UnknownRecordError, match=f"offset 7 cannot be read: .*{why}"):
        decode(written(pb.MetadataRecord(configs=message)))


def test_it_is_written_where_everybody_can_read_it() -> None:
    """An older node would stop: the log says by metadata.version that there is none (63)."""
    _, image = history(random.Random(1), 5)
    for level, may in ((0, False), (CONFIGS_RECORD_LEVEL - 1, False), (CONFIGS_RECORD_LEVEL, True)):
        features = Map({METADATA_VERSION: level}) if level else Map()
        assert may_be_packed(replace(image, features=features)) == may
