"""Reading a metadata log's files."""

from pathlib import Path

import pytest

from klamm.cli.log_files import METADATA_LOG, read_metadata_log
from klamm.errors import StartError
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import ControlType, NewRecord, control_key
from klamm.v1 import records_pb2 as records


def batch(base_offset: int, *values: bytes, key: bytes | None = None) -> bytes:
    headers = (("principal", b"User:me"), ("request", b"CreateTopics"), ("request-id", b"7"))
    return build_batch(
        [NewRecord(value=value, key=key, headers=headers) for value in values],
        base_offset=Offset(base_offset),
        leader_epoch=Epoch(3),
        timestamp_ms=1_000,
        control=key is not None,
    )


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    folder = tmp_path / METADATA_LOG
    folder.mkdir()
    topic = records.MetadataRecord(topic=records.TopicRecord(name="orders"))
    change = records.LeaderChangeRecord(leader_id=2)
    begins = batch(0, change.SerializeToString(), key=control_key(ControlType.LEADER_CHANGE))
    path = folder / "00000000000000000000.log"
    path.write_bytes(begins + batch(1, topic.SerializeToString(), topic.SerializeToString()))
    return path


def test_records_as_they_stand(tmp_path: Path, segment: Path) -> None:
    events = list(read_metadata_log(tmp_path, 0))
    assert events[0]["leader_change"]["leader_id"] == 2
    assert [(each["offset"], each["epoch"]) for each in events] == [(0, 3), (1, 3), (2, 3)]
    assert events[1]["principal"] == "User:me"
    assert (events[1]["request"], events[1]["request_id"]) == ("CreateTopics", "7")
    assert events[1]["record"]["topic"]["name"] == "orders"
    assert [each["offset"] for each in read_metadata_log(segment.parent, 2)] == [2]


def test_what_is_being_written_is_left_out(tmp_path: Path, segment: Path) -> None:
    segment.write_bytes(segment.read_bytes() + batch(3, b"")[:-1])
    assert len(list(read_metadata_log(tmp_path, 0))) == 3


def test_zeros_that_are_reserved_behind_it_are_its_end(tmp_path: Path, segment: Path) -> None:
    """And what is being written into them is left out, wherever it stands."""
    whole, more = segment.read_bytes(), batch(3, b"record", b"another")
    for size in range(len(more)):
        segment.write_bytes(whole + more[:size] + bytes(300))
        count = 3 if any(more[size:]) else 5
        assert len(list(read_metadata_log(tmp_path, 0))) == count, size
    segment.write_bytes(whole + bytes(100) + more)
    with pytest.raises(StartError, match="is corrupt"):
        list(read_metadata_log(tmp_path, 0))


def test_damage_is_named(tmp_path: Path, segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(StartError, match="is corrupt: the batch at offset 1 fails its checksum"):
        list(read_metadata_log(tmp_path, 0))


def test_another_logs_records_are_no_metadata(tmp_path: Path, segment: Path) -> None:
    """Such as those of a partition: sound batches of anything."""
    segment.write_bytes(batch(0, b"\xff\xff"))
    with pytest.raises(StartError, match="holds no metadata"):
        list(read_metadata_log(tmp_path, 0))
