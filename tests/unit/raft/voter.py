"""One voter on the bench, in any role, for tables.

log      epoch  1 1 1 3 3 | end 5        (LOG; voter 1 of three, epoch 5 unless said otherwise)
         offset 0 1 2 3 4
"""

from dataclasses import replace
from uuid import UUID

from controller.raft.effects import Effects, SendResponse
from controller.raft.events import Moment, RequestReceived
from controller.raft.messages import Request, Response
from controller.raft.state import (
    Candidate,
    Follower,
    Leader,
    Progress,
    Prospective,
    RaftState,
    Resigned,
    Role,
    SavedState,
    Unattached,
    restore,
)
from controller.raft.step import step
from controller.raft.voters import ReplicaKey
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.unit.raft.world import config

LOG = EpochChain().append(Epoch(1), 3).append(Epoch(3), 2)
EPOCH = Epoch(5)
ME, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
NOW = Moment(now_ms=10_000, draw=0.5)

UNATTACHED = Unattached(deadline_ms=10_100)
FOLLOWER = Follower(leader=TWO, deadline_ms=10_600)
LOST = Follower(leader=TWO, deadline_ms=10_010, lost=True)
PROSPECTIVE = Prospective(leader=NodeId(-1), deadline_ms=10_200, granted=frozenset({ME}))
CANDIDATE = Candidate(deadline_ms=10_300, granted=frozenset({ME}))
RESIGNED = Resigned(deadline_ms=10_400)
ROLES: dict[str, Role] = {
    "unattached": UNATTACHED,
    "follower": FOLLOWER,
    "lost follower": LOST,
    "prospective": PROSPECTIVE,
    "candidate": CANDIDATE,
    "resigned": RESIGNED,
}


def at(offset: int, epoch: int) -> OffsetAndEpoch:
    return OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(offset))


def key(node: int) -> ReplicaKey:
    return ReplicaKey(node_id=NodeId(node), directory_id=DirectoryId(UUID(int=node)))


def voter(role: Role, *, voted_for: int | None = None, log: EpochChain = LOG) -> RaftState:
    """Voter 1 in a role, in EPOCH."""
    state = restore(config(1), SavedState(epoch=EPOCH), log, (), NOW)
    mine = isinstance(role, Candidate | Leader | Resigned)
    voted = ME if mine and voted_for is None else voted_for
    return replace(state, role=role, voted_for=None if voted is None else key(voted))


def leader(*, committed: int = 6) -> RaftState:
    """Voter 1 leading EPOCH: LOG, then its own first batch at 5; claimed once that is committed."""
    log = LOG.append(EPOCH, 1)
    progress = tuple(
        Progress(node_id=each, fetched_ms=9_900, begin_ms=10_200) for each in (TWO, THREE)
    )
    role = Leader(
        epoch_start=Offset(5), first_end=Offset(6), progress=progress, claimed=committed >= 6
    )
    state = voter(role, log=log)
    return replace(state, high_watermark=Offset(committed), flushed=log.end_offset)


def ask(state: RaftState, sender: int, request: Request) -> tuple[RaftState, Effects]:
    return step(state, RequestReceived(7, key(sender), request), NOW)


def answer_of(effects: Effects) -> Response:
    """The one answer to call 7."""
    answers = [each.response for each in effects if isinstance(each, SendResponse)]
    assert len(answers) == 1, effects
    return answers[0]
