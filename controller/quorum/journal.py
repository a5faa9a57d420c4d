"""What a step changed, as log lines and metrics: one line for each turn of a voter's life."""

from controller.raft.state import Download, Follower, Leader, RaftState
from klamm.clock import Clock
from klamm.errors import CorruptLogError, NoSpaceError
from klamm.ids import NO_NODE, OffsetAndEpoch
from klamm.log.snapshot import CorruptSnapshotError
from klamm.telemetry import logs, metrics

_log = logs.logger("controller.quorum")


TELL_OF_ROOM_MS = 10_000

LEADERLESS_MS = 10_000
"""Without a leader for so long, a quorum is likely to need somebody's help."""

TELL_LEADERLESS_MS = 60_000


class Journal:
    """Told of every step of one voter."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_of_room_ms = -TELL_OF_ROOM_MS
        self._leaderless_since_ms: int | None = None
        self._tell_leaderless_ms = clock.monotonic_ms() + LEADERLESS_MS

    def opened(self, state: RaftState) -> None:
        """The voter has come back from its disk."""
        _log.info(
            "quorum opened",
            node=state.config.me,
            role=state.role_name,
            epoch=state.epoch,
            log_end=state.log.end_offset,
            voters=", ".join(map(str, state.voters.ids)),
        )
        if state.recovering is not None:
            _log.error(
                "this voter's log is not known to be whole: no vote until it is whole",
                reason=state.recovering.reason,
            )
        self._show(state)

    def stepped(self, before: RaftState, after: RaftState) -> None:
        if before.refused_cut is None and after.refused_cut is not None:
            self._on_refused_cut(after, after.refused_cut)
        if after.high_watermark != before.high_watermark:
            metrics.RAFT_HIGH_WATERMARK.set(after.high_watermark)
        if after.log is not before.log:
            metrics.RAFT_LOG_END_OFFSET.set(after.log.end_offset)
        if before.recovering is not None and after.recovering is None:
            has_its_vote = (
                "and has its vote back" if after.is_voter else "the log names another disk"
            )
            _log.warning(
                f"this voter's log is whole again, {has_its_vote}",
                log_end=after.log.end_offset,
                epoch=after.epoch,
            )
            metrics.RAFT_RECOVERING.set(0)
        if after.leader == NO_NODE:
            self._tell_leaderless(after)
        if type(after.role) is type(before.role) and after.epoch == before.epoch:
            if after.leader != before.leader:
                self._on_leader(before, after)
            if after.voters is not before.voters:
                self._on_voters(after)
            return
        if after.voters is not before.voters:
            self._on_voters(after)
        self._show(after)
        if after.leader != before.leader or after.epoch != before.epoch:
            self._on_leader(before, after)
        self._tell_turn(before, after)

    def _on_refused_cut(self, after: RaftState, diverging: OffsetAndEpoch) -> None:
        _log.error(
            "the leader would have committed records cut here; it is not followed",
            leader=after.leader,
            epoch=after.epoch,
            diverging_offset=diverging.offset,
            diverging_epoch=diverging.epoch,
            high_watermark=after.high_watermark,
        )

    def moved(self, before: RaftState, after: RaftState) -> None:
        """The log was truncated, or a download has begun, gone on or ended."""
        if after.truncations == before.truncations:
            self._tell_download(before.download, after.download)
        elif after.log.start != before.log.start:
            _log.info(
                "snapshot installed, the log goes on from it",
                snapshot=after.log.start.offset,
                snapshot_epoch=after.log.start.epoch,
                log_end_before=before.log.end_offset,
            )
        else:
            _log.info(
                "log truncated, a new leader has another end",
                log_end=after.log.end_offset,
                records=before.log.end_offset - after.log.end_offset,
                epoch=after.epoch,
            )

    def damaged(self, snapshot_id: OffsetAndEpoch) -> None:
        _log.warning(
            "a downloaded snapshot is damaged; it is fetched again",
            snapshot=snapshot_id.offset,
            snapshot_epoch=snapshot_id.epoch,
        )

    def _tell_download(self, before: Download | None, after: Download | None) -> None:
        if after is None:
            if before is not None:
                _log.info("snapshot download given up", snapshot=before.snapshot_id.offset)
        elif before is None or before.snapshot_id != after.snapshot_id:
            _log.info(
                "the leader's log begins above ours: snapshot download begun",
                snapshot=after.snapshot_id.offset,
                snapshot_epoch=after.snapshot_id.epoch,
            )
        elif after.complete and not before.complete:
            _log.info(
                "snapshot downloaded",
                snapshot=after.snapshot_id.offset,
                size_bytes=after.size_bytes,
            )

    def no_room(self, error: NoSpaceError) -> None:
        """One line in ten seconds: there is one event after another while the disk is full."""
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._told_of_room_ms + TELL_OF_ROOM_MS:
            self._told_of_room_ms = now_ms
            _log.error(
                "the disk is full, or no open file is left; nothing was written", why=str(error)
            )

    def ended(self, error: BaseException) -> None:
        if isinstance(error, CorruptLogError):
            self.log_damaged(error)

    def log_damaged(self, error: CorruptLogError) -> None:
        metrics.RAFT_LOG_DAMAGE.inc()
        _log.error(
            "the metadata log is damaged; the next start fetches what is lost from the others",
            path=error.path,
            position=error.position,
            reason=error.reason,
        )

    def snapshot_damaged(self, error: CorruptSnapshotError) -> None:
        """The state in memory is sound: another one is written."""
        metrics.RAFT_LOG_DAMAGE.inc()
        _log.error("a snapshot is damaged; it is replaced by a new one", why=str(error))

    def _tell_turn(self, before: RaftState, after: RaftState) -> None:
        # Campaigns that come to nothing are many when a quorum is down: not one line each.
        quiet = after.attempts > 3 and not isinstance(after.role, Leader | Follower)
        tell = _log.debug if quiet else _log.info
        match after.role:
            case Leader(epoch_start=start):
                tell("became leader", epoch=after.epoch, epoch_start=start)
            case Follower(leader=leader, lost=False):
                tell("became follower", epoch=after.epoch, leader=leader)
            case _:
                tell(f"became {after.role_name}", epoch=after.epoch, attempts=after.attempts)
        if isinstance(before.role, Leader) and not isinstance(after.role, Leader):
            _log.info("leads no more", epoch=before.epoch)

    def _tell_leaderless(self, after: RaftState) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._tell_leaderless_ms:
            return
        self._tell_leaderless_ms = now_ms + TELL_LEADERLESS_MS
        _log.warning(
            "no leader for long: most of the voters must be there, with the disks that the log "
            "names; if those are lost for good, `klamm quorum recover` goes on with one that is "
            "left",
            voters=", ".join(map(str, after.voters.ids)),
            epoch=after.epoch,
        )

    def _on_leader(self, before: RaftState, after: RaftState) -> None:
        metrics.RAFT_CURRENT_LEADER.set(after.leader)
        now_ms = self._clock.monotonic_ms()
        if after.leader == NO_NODE:
            if before.leader != NO_NODE:
                self._leaderless_since_ms = now_ms
                self._tell_leaderless_ms = now_ms + LEADERLESS_MS
                _log.info("leader lost", leader=before.leader, epoch=before.epoch)
            return
        metrics.CONTROLLER_NEW_ACTIVE.inc()
        if self._leaderless_since_ms is not None:
            waited_ms = now_ms - self._leaderless_since_ms
            metrics.RAFT_ELECTION_LATENCY.observe(waited_ms / 1_000)
            self._leaderless_since_ms = None

    def _on_voters(self, after: RaftState) -> None:
        voters = ", ".join(map(str, after.voters.ids))
        _log.info("voters", voters=voters, offset=after.voter_history[-1][0])
        if not after.is_voter:
            _log.warning(
                "this node has no vote: the log names another disk for its id, or none; "
                "`klamm join --replace` gives a node a new disk",
                node=after.config.me,
            )

    def _show(self, state: RaftState) -> None:
        metrics.set_raft_state(state.role_name)
        metrics.RAFT_RECOVERING.set(0 if state.recovering is None else 1)
        metrics.RAFT_CURRENT_EPOCH.set(state.epoch)
        voted = NO_NODE if state.voted_for is None else state.voted_for.node_id
        metrics.RAFT_CURRENT_VOTE.set(voted)
        metrics.RAFT_LOG_END_EPOCH.set(state.log.last_epoch)
