"""Changing who votes: one voter at a time, through the log (KIP-853; Raft's thesis, chapter 4).

    a controller follows the leader ──▶ learner, its progress known
    VoterChangeAsked ──▶ decide ──▶ refused, in words; nothing was appended
                            └─────▶ AppendVoters: holds from now on, for majorities, high watermark,
                                    check-quorum, votes and read rounds; undone if it is cut off
    the record is committed ──▶ the next change may come; a leader that is no voter any more resigns

Whether a change may come is asked of the log alone: the leader has committed a record of its own
epoch (the thesis' bug, 2015), and the last Voters record is committed. Nothing else is remembered
of a change that is under way, so nothing can be lost with a timeout (KAFKA-20740).
"""

from collections.abc import Callable
from dataclasses import dataclass

from controller.raft import replication, resign, thrift
from controller.raft.effects import (
    AcceptChange,
    AppendVoters,
    ChangeRefusal,
    Effects,
    RefuseChange,
)
from controller.raft.events import Moment, VoterChangeAsked
from controller.raft.state import Leader, Learner, Progress, RaftConfig, RaftState
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterChange,
    VoterSet,
    share_majority,
)
from klamm.frozen import replace
from klamm.ids import Offset

VOTERS_MAX = 15
"""In one set."""

LEARNERS_MAX = 32
"""Controllers without a vote that one leader keeps an eye on; more are served all the same."""

LEARNER_FORGOTTEN_MS = 300_000
"""A learner that was silent for so long is no longer listed (Kafka's figure for observers)."""

Step = tuple[RaftState, Effects]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a set of voters bears, as the leader sees it."""

    voters: int
    healthy: int
    """Heard within a fetch timeout, and with a say."""

    @property
    def can_lose(self) -> int:
        """So many of the healthy ones; negative if they are a minority."""
        return self.healthy - (self.voters // 2 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    why: ChangeRefusal
    told: str
    voters: VoterSet | None = None
    """As they would have been, if it is they who would bear too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change would do, if it were made now."""

    before: Tolerance
    after: Tolerance
    """Also of a change that is refused because of it; otherwise as before."""
    voters: VoterSet
    """As they would be; as they are if it is refused."""
    refused: Refused | None


# ── changing the set ─────────────────────────────────────────────────────────────────────────────


def on_change(state: RaftState, event: VoterChangeAsked, moment: Moment) -> Step:
    """Append the changed set, or say why not. What is so already is accepted as it stands."""
    voters = decide(state, event.change, moment)
    if isinstance(voters, Refused):
        return state, (RefuseChange(call=event.call, why=voters.why, told=voters.told),)
    if voters == state.voters:
        return state, (AcceptChange(event.call, Offset(state.voter_history[-1][0] + 1)),)
    state, effects = _append(state, voters, moment)
    accepted = AcceptChange(event.call, Offset(state.voter_history[-1][0] + 1))
    state, committed = replication.advance(state, moment)
    state, released = replication.release(state, moment)
    return replication.tell_soon(state, moment), (*effects, accepted, *committed, *released)


def preview(state: RaftState, change: VoterChange, moment: Moment) -> Preview:
    """What `change` would do, without doing it."""
    voters = decide(state, change, moment)
    refused = voters if isinstance(voters, Refused) else None
    wanted = (voters.voters or state.voters) if isinstance(voters, Refused) else voters
    return Preview(
        before=tolerance(state, state.voters, moment),
        after=tolerance(state, wanted, moment),
        voters=wanted if refused is None else state.voters,
        refused=refused,
    )


def decide(state: RaftState, change: VoterChange, moment: Moment) -> VoterSet | Refused:
    """The set as `change` makes it."""
    refused = _gate(state)
    if refused is not None:
        return refused
    match change:
        case AddVoter():
            voters = _added(state, change, moment)
        case RemoveVoter(key=key):
            voters = _removed(state, key)
        case UpdateVoter(voter=voter):
            voters = _updated(state, voter)
    if isinstance(voters, Refused) or voters.ids == state.voters.ids:
        return voters
    assert share_majority(state.voters, voters), "one voter at a time"
    bears = tolerance(state, voters, moment)
    if bears.can_lose < 0:
        return Refused(
            why=ChangeRefusal.UNHEALTHY,
            told=f"of the {bears.voters} voters that there would be, {bears.healthy} "
            f"{'is' if bears.healthy == 1 else 'are'} heard: nothing could be committed",
            voters=voters,
        )
    return voters


def name_disk(state: RaftState, sender: ReplicaKey, moment: Moment) -> Step:
    """A voter's disk has shown itself that no record names: it counts from now on.

    One that is in doubt is filled first; see `replication`.
    """
    voter = state.voters.find(sender.node_id)
    if voter is None or voter.directory_id is not None or not state.names_disks:
        return state, ()
    role = state.role
    assert isinstance(role, Leader)
    whole = any(one.node_id == sender.node_id and not one.recovering for one in role.progress)
    voters = state.voters.knowing(sender)
    if _gate(state) or not whole or voters == state.voters or not state.admits(sender):
        return state, ()
    state, effects = _append(state, voters, moment)
    state, released = replication.release(state, moment)
    return state, (*effects, *released)


def _gate(state: RaftState) -> Refused | None:
    role = state.role
    if not isinstance(role, Leader):
        return Refused(why=ChangeRefusal.NOT_LEADER, told=ChangeRefusal.NOT_LEADER.value)
    if not role.claimed:
        return Refused(why=ChangeRefusal.NOT_CLAIMED, told=ChangeRefusal.NOT_CLAIMED.value)
    if role.transfer is not None:
        return Refused(why=ChangeRefusal.HANDING_OVER, told=ChangeRefusal.HANDING_OVER.value)
    if not state.voters_committed:
        at = state.voter_history[-1][0]
        why = ChangeRefusal.CHANGE_UNDER_WAY
        return Refused(why=why, told=f"{why.value}: offset {at} of {state.high_watermark}")
    return None


def _added(state: RaftState, change: AddVoter, moment: Moment) -> VoterSet | Refused:
    voter, voters = change.voter, known(state)
    key = ReplicaKey(node_id=voter.node_id, directory_id=voter.directory_id)
    if voters.find(voter.node_id) is not None:
        same = key.directory_id is None or voters.admits(key)
        other = "" if same else ", with another disk: replace it, or remove it first"
        told = f"{voter.node_id} is a voter already{other}"
        return Refused(why=ChangeRefusal.DUPLICATE_VOTER, told=told)
    if voter.node_id < 0 or voter.directory_id is None or voter.endpoint is None:
        told = "a voter has an id, a disk and an endpoint"
        return Refused(why=ChangeRefusal.INVALID, told=told)
    if key in voters.removed and not change.readmit:
        told = f"{voter.node_id} was a voter with this disk and was removed; readmit it by name"
        return Refused(why=ChangeRefusal.REMOVED_BEFORE, told=told)
    if len(voters.voters) >= VOTERS_MAX:
        told = f"there are {VOTERS_MAX} voters, and no more are taken"
        return Refused(why=ChangeRefusal.TOO_MANY_VOTERS, told=told)
    return not_ready(state, key, moment) or voters.joined(voter)


def not_ready(state: RaftState, key: ReplicaKey, moment: Moment) -> Refused | None:
    """A voter begins with the whole log; else nothing might be committed for long (KIP-1186)."""
    learner = _learner(state, key)
    if learner is None or not _is_heard(state.config, learner, moment):
        told = f"{key.node_id} does not follow the leader with this disk"
        return Refused(why=ChangeRefusal.NOT_FOLLOWING, told=told)
    since_ms = moment.now_ms - learner.caught_up_ms
    if learner.caught_up_ms < 0 or since_ms > state.config.fetch_timeout_ms:
        lag = state.log.end_offset - max(learner.end_offset, 0)
        told = f"{key.node_id} lacks {lag} of the log's {state.log.end_offset} records"
        return Refused(why=ChangeRefusal.LAGGING, told=told)
    return None


def _removed(state: RaftState, key: ReplicaKey) -> VoterSet | Refused:
    voters = known(state)
    voter = voters.find(key.node_id)
    if voter is None or (key.directory_id is not None and not voters.admits(key)):
        disk = "" if voter is None else " with this disk"
        told = f"{key.node_id} is no voter{disk}"
        return Refused(why=ChangeRefusal.VOTER_NOT_FOUND, told=told)
    if len(voters.voters) == 1:
        told = f"{key.node_id} is the only voter, and the last one cannot be removed"
        return Refused(why=ChangeRefusal.LAST_VOTER, told=told)
    return voters.left(key.node_id)


def _updated(state: RaftState, wanted: Voter) -> VoterSet | Refused:
    voters = known(state)
    key = ReplicaKey(node_id=wanted.node_id, directory_id=wanted.directory_id)
    voter = voters.find(wanted.node_id)
    if voter is None or (key.directory_id is not None and not voters.admits(key)):
        told = f"{wanted.node_id} is no voter"
        return Refused(why=ChangeRefusal.VOTER_NOT_FOUND, told=told)
    if wanted.endpoint is None:
        return Refused(why=ChangeRefusal.INVALID, told="a voter has an endpoint")
    if wanted.endpoint != voter.endpoint:
        voters = voters.updated(replace(voter, endpoint=wanted.endpoint))
    return voters  # With the disks that were learned since the last record, whose they may be.


def _append(state: RaftState, voters: VoterSet, moment: Moment) -> Step:
    role, end = state.role, state.log.end_offset
    assert isinstance(role, Leader)
    append = AppendVoters(base_offset=end, epoch=state.epoch, voters=voters)
    state = replace(
        state,
        log=state.log.append(state.epoch, 1),
        voter_history=(*state.voter_history, (end, voters)),
        role=_regrouped(state, role, voters, moment),
    )
    return state, (append,)


def _regrouped(state: RaftState, role: Leader, voters: VoterSet, moment: Moment) -> Leader:
    """What the leader knows of each replica stays known, whichever group it is in."""
    progress: list[Progress] = []
    learners = list(role.learners)
    heartbeat_ms = moment.now_ms + state.config.fetch_timeout_ms // 2
    for each in voters.voters:
        if each.node_id == state.config.me:
            continue
        key = ReplicaKey(node_id=each.node_id, directory_id=each.directory_id)
        learned = _learner(state, key)
        voted = next((one for one in role.progress if one.node_id == each.node_id), None)
        fresh = Progress(node_id=each.node_id, fetched_ms=moment.now_ms, begin_ms=heartbeat_ms)
        progress.append(voted or learned or fresh)
        learners = [one for one in learners if one.key != key]
    for one in role.progress:
        voter = state.voters.find(one.node_id)
        if one.node_id not in voters.ids and one.has_fetched and voter is not None:
            disk = known(state).find(one.node_id)
            disk_id = None if disk is None else disk.directory_id
            key = ReplicaKey(node_id=one.node_id, directory_id=disk_id)
            learners.append(Learner(key=key, progress=one))
    regrouped = replace(role, progress=tuple(progress), learners=tuple(learners[-LEARNERS_MAX:]))
    return thrift.look_again(regrouped)


def settle(state: RaftState, moment: Moment) -> Step:
    """A leader that has removed itself goes, once that is committed (row 116)."""
    role = state.role
    if not isinstance(role, Leader) or state.is_voter or not state.voters_committed:
        return state, ()
    return resign.give_up(state, role, moment)


# ── what is known ────────────────────────────────────────────────────────────────────────────────


def known(state: RaftState) -> VoterSet:
    """The voters with the disks and endpoints that are known by now."""
    voters = state.voters.at(state.config.voters).knowing(state.config.key)
    for disk in state.disks:
        voters = voters.knowing(disk)
    return voters


def reachable(state: RaftState) -> VoterSet:
    """Whom this controller may have to reach: the voters, and those whose removal may be undone.

    A leader that has removed itself is followed until that is committed.
    """
    voters = state.voters.at(state.config.voters)
    if state.voters_committed or len(state.voter_history) < 2:
        return voters
    before = state.voter_history[-2][1].at(state.config.voters)
    for each in before.voters:
        if voters.find(each.node_id) is None:
            voters = voters.joined(each)
    return voters


def tolerance(state: RaftState, voters: VoterSet, moment: Moment) -> Tolerance:
    """How many of these voters are there; none but the leader knows of others."""
    role = state.role
    heard: set[ReplicaKey] = set()
    if isinstance(role, Leader):
        for one in role.progress:
            if _is_heard(state.config, one, moment):
                voter = known(state).find(one.node_id)
                disk = None if voter is None else voter.directory_id
                heard.add(ReplicaKey(node_id=one.node_id, directory_id=disk))
        learned = (one for one in role.learners if _is_heard(state.config, one.progress, moment))
        heard.update(one.key for one in learned)
    if state.recovering is None:
        heard.add(state.config.key)
    healthy = sum(any(_is(each, key) for key in heard) for each in voters.voters)
    return Tolerance(voters=len(voters.voters), healthy=healthy)


def _is(voter: Voter, key: ReplicaKey) -> bool:
    disks = (voter.directory_id, key.directory_id)
    return voter.node_id == key.node_id and (None in disks or disks[0] == disks[1])


def _is_heard(config: RaftConfig, progress: Progress, moment: Moment) -> bool:
    recent = moment.now_ms - progress.fetched_ms <= config.fetch_timeout_ms
    return progress.has_fetched and recent and not progress.recovering


def _learner(state: RaftState, key: ReplicaKey) -> Progress | None:
    role = state.role
    if not isinstance(role, Leader):
        return None
    return next((each.progress for each in role.learners if each.key == key), None)


def learners(state: RaftState, moment: Moment) -> tuple[Learner, ...]:
    """Controllers without a vote that this leader heard of late (row 85)."""
    return _of_late(state.role, moment) if isinstance(state.role, Leader) else ()


def _of_late(role: Leader, moment: Moment) -> tuple[Learner, ...]:
    oldest_ms = moment.now_ms - LEARNER_FORGOTTEN_MS
    return tuple(each for each in role.learners if each.progress.fetched_ms >= oldest_ms)


def learner_heard(
    role: Leader, key: ReplicaKey, noted: Callable[[Progress], Progress], moment: Moment
) -> Leader:
    """A controller without a vote has fetched. Who is silent for long makes room."""
    fresh = Progress(node_id=key.node_id, fetched_ms=moment.now_ms, begin_ms=0)
    before = next((each.progress for each in role.learners if each.key == key), fresh)
    others = tuple(each for each in _of_late(role, moment) if each.key != key)
    if len(others) >= LEARNERS_MAX:
        return replace(role, learners=others)
    learner = Learner(key=key, progress=noted(before))
    return replace(role, learners=(*others, learner))
