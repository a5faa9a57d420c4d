"""The small values that everything else is named by: nodes, epochs, offsets, topics.

Integers of one kind are never taken for those of another: each is a `NewType`, checked by mypy
and free at run time.
"""

import base64
from dataclasses import dataclass
from typing import NewType
from uuid import UUID

NodeId = NewType("NodeId", int)
"""A controller's or a broker's `node.id`. Non-negative."""

Epoch = NewType("Epoch", int)
"""A leader's reign: of the quorum, or of one partition. Raft calls it a term."""

Offset = NewType("Offset", int)
"""A record's place in a log. An `end_offset` is exclusive: the next to be written."""

TopicId = NewType("TopicId", UUID)
"""Names one life of a topic; a topic created again under its old name gets another."""

DirectoryId = NewType("DirectoryId", UUID)
"""Names one formatted data directory: the same node with a new disk is a stranger (KIP-853)."""

NO_NODE = NodeId(-1)
"""Kafka's sentinel on the wire and in records: no leader, nobody known."""

NO_EPOCH = Epoch(-1)

EPOCH_MAX = Epoch(2**31 - 2)
"""The last that anybody believes, of a peer or of a disk, and so the last that anybody enters: one
more can be told in an int32, and is refused."""

LOG_START = Offset(0)


@dataclass(frozen=True, slots=True, order=True)
class OffsetAndEpoch:
    """A log's end, or a snapshot's id. Ordered as Raft orders logs (Raft 5.4.1): epoch first."""

    epoch: Epoch
    offset: Offset


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition, by its topic's name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Kafka's own spelling, also the name of the partition's directory."""
        return f"{self.topic}-{self.partition}"


def format_uuid(value: UUID) -> str:
    """Kafka's spelling of a UUID: 22 characters of URL-safe base64, unpadded."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def parse_uuid(text: str) -> UUID:
    """Read what `format_uuid` wrote.

    Raises:
        ValueError: `text` is not 22 characters of URL-safe base64.
    """
    if len(text) != 22:
        raise ValueError(f"a Kafka UUID has 22 characters of URL-safe base64, {text!r} has not")
    try:
        return UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except ValueError as error:
        raise ValueError(f"{text!r} is not URL-safe base64") from error
