"""The quorum in words: Kafka's `describe --status` and `--replication`."""

from controller.quorum.control import voter_to_wire
from controller.quorum.observers import Observer
from controller.raft import membership
from controller.raft.events import Moment
from controller.raft.state import Leader, Learner, Progress, RaftState
from klamm.clock import Clock
from klamm.ids import NodeId
from klamm.metadata.codec import features_to_proto
from klamm.metadata.features import supported
from klamm.v1 import quorum_pb2 as pb


def describe(
    state: RaftState, *, cluster_id: str, clock: Clock, observers: tuple[Observer, ...]
) -> pb.DescribeQuorumResponse:
    """As this controller sees it: the others' positions are known to the leader only."""
    role = state.role
    behind_ms = clock.wall_ms() - clock.monotonic_ms()
    progress: dict[NodeId, Progress] = {}
    learners = membership.learners(state, Moment(now_ms=clock.monotonic_ms(), draw=0.0))
    if isinstance(role, Leader):
        progress = {each.node_id: each for each in role.progress}
    return pb.DescribeQuorumResponse(
        cluster_id=cluster_id,
        leader_id=state.leader,
        leader_epoch=state.epoch,
        high_watermark=state.high_watermark,
        current_voters=[
            _voter(state, each.node_id, progress.get(each.node_id), clock.wall_ms(), behind_ms)
            for each in state.voters.voters
        ],
        observers=[_learner(each, behind_ms) for each in learners]
        + [
            pb.ReplicaState(
                node_id=each.key.node_id,
                directory_id=b"" if each.key.directory_id is None else each.key.directory_id.bytes,
                log_end_offset=each.end_offset,
                last_fetch_timestamp_ms=each.fetched_wall_ms,
                last_caught_up_timestamp_ms=each.caught_up_wall_ms,
            )
            for each in observers
        ],
        voters=[voter_to_wire(each) for each in state.voters.at(state.config.voters).voters],
        responder_id=state.config.me,
        responder_role=state.role_name,
        responder_log_end_offset=state.log.end_offset,
        responder_recovering="" if state.recovering is None else state.recovering.reason,
        responder_features=features_to_proto(supported()),
    )


def _learner(learner: Learner, behind_ms: int) -> pb.ReplicaState:
    """A controller without a vote."""
    disk, seen = learner.key.directory_id, learner.progress
    return pb.ReplicaState(
        node_id=learner.key.node_id,
        directory_id=b"" if disk is None else disk.bytes,
        log_end_offset=seen.end_offset,
        last_fetch_timestamp_ms=seen.fetched_ms + behind_ms,
        last_caught_up_timestamp_ms=seen.caught_up_ms + behind_ms if seen.caught_up_ms >= 0 else -1,
    )


def _voter(
    state: RaftState, node_id: NodeId, progress: Progress | None, wall_ms: int, behind_ms: int
) -> pb.ReplicaState:
    voter = state.voters.find(node_id)
    disk = None if voter is None else voter.directory_id
    row = pb.ReplicaState(
        node_id=node_id,
        directory_id=b"" if disk is None else disk.bytes,
        log_end_offset=-1,
        last_fetch_timestamp_ms=-1,
        last_caught_up_timestamp_ms=-1,
    )
    if node_id == state.config.me:
        row.log_end_offset = state.log.end_offset
        row.recovering = state.recovering is not None
        if isinstance(state.role, Leader):
            row.last_fetch_timestamp_ms = row.last_caught_up_timestamp_ms = wall_ms
    elif progress is not None and progress.has_fetched:
        row.log_end_offset = progress.end_offset
        row.recovering = progress.recovering
        row.last_fetch_timestamp_ms = progress.fetched_ms + behind_ms
        if progress.caught_up_ms >= 0:
            row.last_caught_up_timestamp_ms = progress.caught_up_ms + behind_ms
    return row
