"""A step whose effects are being carried out, in order; some have to wait for a disk."""

from dataclasses import dataclass

from controller.raft.effects import (
    Effects,
    InstallSnapshot,
    SaveQuorumState,
    TrimLog,
    Truncate,
)
from controller.raft.events import Event
from controller.raft.state import RaftState

Slow = SaveQuorumState | Truncate | InstallSnapshot | TrimLog
"""These wait; what follows them waits too."""


@dataclass(slots=True)
class Doing:
    """Of one node at a time."""

    event: Event
    before: RaftState
    effects: Effects
    at: int = 0
    """The next of them."""
