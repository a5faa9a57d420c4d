"""The quorum-state file: epoch and vote, in Kafka's JSON, version 1 (KIP-853), with a checksum.

{"leaderId":2,"leaderEpoch":7,"votedId":2,"votedDirectoryId":"…","data_version":1,"crc32c":"…"}
"""

from uuid import UUID

from controller.raft.effects import SaveQuorumState
from controller.raft.state import SavedState
from controller.raft.voters import ReplicaKey
from klamm.ids import EPOCH_MAX, NO_NODE, DirectoryId, Epoch, NodeId, format_uuid, parse_uuid
from klamm.log.sealed import check_version, open_json, seal_json

QUORUM_STATE = "quorum-state"

_DATA_VERSION = 1
_NODE_ID_MAX = 2**31 - 1
_NO_DIRECTORY = UUID(int=0)
_NUMBERS = ("leaderId", "leaderEpoch", "votedId")
_KEYS = frozenset({*_NUMBERS, "votedDirectoryId", "data_version"})


def format_state(state: SaveQuorumState | SavedState) -> bytes:
    """The whole file."""
    voted = state.voted_for
    disk = None if voted is None else voted.directory_id
    return seal_json(
        {
            "leaderId": state.leader,
            "leaderEpoch": state.epoch,
            "votedId": NO_NODE if voted is None else voted.node_id,
            "votedDirectoryId": format_uuid(disk or _NO_DIRECTORY),
            "data_version": _DATA_VERSION,
        }
    )


def parse_state(data: bytes) -> SavedState:
    """What `format_state` wrote, or Kafka, which knows no checksum.

    Raises:
        LaterVersionError: It is of a later version.
        ValueError: It is damaged.
    """
    fields = open_json(data, _KEYS)
    check_version(fields, _DATA_VERSION)
    if not fields.keys() >= _KEYS:
        raise ValueError(f"it has {', '.join(sorted(fields))}")
    leader, epoch, voted = (_number(fields[key]) for key in _NUMBERS)
    if not 0 <= epoch <= EPOCH_MAX:
        raise ValueError(f"leaderEpoch is {epoch}")
    disk = parse_uuid(str(fields["votedDirectoryId"]))
    voted_for = ReplicaKey(
        node_id=NodeId(voted),
        directory_id=None if disk == _NO_DIRECTORY else DirectoryId(disk),
    )
    return SavedState(
        epoch=Epoch(epoch),
        voted_for=None if voted == NO_NODE else voted_for,
        leader=NodeId(leader),
    )


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("leaderId, leaderEpoch and votedId must be numbers")
    if not NO_NODE <= value <= _NODE_ID_MAX:
        raise ValueError(f"leaderId, leaderEpoch and votedId must be int32 from -1 on, not {value}")
    return value
