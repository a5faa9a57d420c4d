"""The vote's file: Kafka's format, and no byte of it changes unseen (scenario 29)."""

import json
from uuid import UUID

import pytest

from controller.quorum.quorum_state import format_state, parse_state
from controller.raft.state import SavedState
from controller.raft.voters import ReplicaKey
from klamm.ids import EPOCH_MAX, NO_NODE, DirectoryId, Epoch, NodeId

DISK = DirectoryId(UUID(int=5))
VOTED = SavedState(
    epoch=Epoch(7), voted_for=ReplicaKey(node_id=NodeId(2), directory_id=DISK), leader=NO_NODE
)


@pytest.mark.parametrize(
    "state",
    [
        SavedState(),
        VOTED,
        SavedState(epoch=EPOCH_MAX, leader=NodeId(3)),
        SavedState(epoch=Epoch(7), voted_for=ReplicaKey(node_id=NodeId(2))),
    ],
)
def test_there_and_back(state: SavedState) -> None:
    assert parse_state(format_state(state)) == state


def test_kafkas_own_fields() -> None:
    fields = json.loads(format_state(VOTED))
    del fields["crc32c"]
    assert fields == {
        "leaderId": -1,
        "leaderEpoch": 7,
        "votedId": 2,
        "votedDirectoryId": "AAAAAAAAAAAAAAAAAAAABQ",
        "data_version": 1,
    }
    assert parse_state(json.dumps(fields).encode()) == VOTED


def test_every_byte_to_every_value() -> None:
    data = format_state(VOTED)
    for at in range(len(data)):
        for value in set(range(256)) - {data[at]}:
            with pytest.raises(ValueError, match="it"):
                parse_state(data[:at] + bytes([value]) + data[at + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        {"data_version": 2},
        {"leaderEpoch": -1},
        {"leaderEpoch": 2**31},
        {"leaderEpoch": EPOCH_MAX + 1},
        {"leaderId": "1"},
        {"leaderId": -2},
        {"votedId": True},
        {"votedId": 1.0},
        {"votedDirectoryId": "x"},
        {"votedDirectoryId": None},
    ],
)
def test_what_makes_no_sense(change: dict[str, object]) -> None:
    """In a file without a checksum, which a person may have written (scenario 44)."""
    fields = json.loads(format_state(VOTED))
    del fields["crc32c"]
    with pytest.raises(ValueError, match=r"must be|is|UUID"):
        parse_state(json.dumps(fields | change).encode())
