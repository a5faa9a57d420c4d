"""One controller's part in the quorum, put together: store, core, driver, peers, service.

node = QuorumNode.open(config, files=…, clock=…, rng=…)     recovers from the disk
server.add(SERVICE, node.register)                          before the server starts
await node.run(machine)                                     until cancelled
await node.resign(…); …; await node.close()                 a stop in order
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import grpc.aio
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from controller.quorum import probe
from controller.quorum.describe import describe
from controller.quorum.driver import QuorumDriver
from controller.quorum.identity import DrawId, Identity
from controller.quorum.introductions import Introductions
from controller.quorum.observers import Observers
from controller.quorum.peers import Connect, GrpcPeers
from controller.quorum.port import (
    Peer,
    SnapshotPoint,
    StateMachine,
    Transferred,
)
from controller.quorum.quorum_config import QuorumConfig
from controller.quorum.service import QuorumService
from controller.quorum.store import LogStore
from controller.raft import membership
from controller.raft.effects import TransferRefusal
from controller.raft.events import Moment, ResignRequested, SnapshotWritten, TrimRequested
from controller.raft.snapshots import Creation, may_create
from controller.raft.state import HeldSnapshot, restore
from controller.raft.voters import ReplicaKey, VoterChange, VoterSet, voters_at
from klamm.clock import Clock
from klamm.config.listeners import format_address
from klamm.errors import (
    ApiError,
    ErrorCode,
    IndefiniteError,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.records import NewRecord
from klamm.log.snapshot import SnapshotFiles
from klamm.metadata.features import Supported
from klamm.metadata.records import Endpoint
from klamm.rpc.channel import open_channel
from klamm.rpc.status import CompactedError
from klamm.telemetry import logs, metrics
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc

SERVICE = "klamm.v1.QuorumService"

READ_RETRY_S = (0.002, 0.05)
"""Between two tries to have a read index confirmed: up to the first, doubled up to the second."""

_log = logs.logger("controller.quorum")


class QuorumNode:
    """Implements `Quorum`. Used within one event loop."""

    def __init__(
        self,
        config: QuorumConfig,
        *,
        store: LogStore,
        peers: GrpcPeers,
        driver: QuorumDriver,
        observers: Observers,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._store = store
        self._peers = peers
        self._driver = driver
        self._observers = observers
        self._clock = clock
        self._rng = rng
        self._service = QuorumService(self, driver, observers, clock)
        self._service.introduce = peers.introduce

    @classmethod
    def open(
        cls,
        config: QuorumConfig,
        *,
        files: Files,
        clock: Clock,
        rng: random.Random,
        connect: Connect = open_channel,
        draw_id: DrawId | None = None,
    ) -> "QuorumNode":
        """Recover what stands on the disk. Call it within the event loop.

        Args:
            config: What this voter is, and where it keeps its log.
            files: Its disk.
            clock, rng: For all its timeouts, and their jitter.
            connect: How the others are reached.
            draw_id: Makes the disk another replica's; None if it must stay whose it is.

        Raises:
            StartError: The log or the vote is damaged, lost or unreadable.
        """
        identity = Identity(config.raft, draw_id)
        where, has_peers = config.metadata_log_dir, config.has_peers
        log = LogConfig(
            segment_bytes=config.segment_bytes, preallocate_bytes=config.preallocate_bytes
        )
        store = LogStore.open(files, where, clock, log, has_peers=has_peers, renew=identity.renew)
        config = replace(config, raft=identity.raft)
        _tell_what_was_found(store)
        loaded = store.load()
        moment = Moment(now_ms=clock.monotonic_ms(), draw=rng.random())
        state = restore(
            config.raft,
            loaded.saved,
            loaded.log,
            loaded.voters,
            moment,
            snapshots=loaded.snapshots,
            distrust=loaded.distrust,
        )
        peers = GrpcPeers(
            me=config.raft.key,
            cluster_id=config.cluster_id,
            request_timeout_ms=config.request_timeout_ms,
            endpoint=config.raft.endpoint,
            bootstrap=config.bootstrap,
            configured=config.raft.voters,
            connect=connect,
        )
        driver = QuorumDriver(state, store=store, peers=peers, clock=clock, rng=rng)
        return cls(
            config,
            store=store,
            peers=peers,
            driver=driver,
            observers=Observers(clock),
            clock=clock,
            rng=rng,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Add QuorumService to the server."""
        pb_grpc.add_QuorumServiceServicer_to_server(self._service, server)

    async def run(self, machine: StateMachine) -> None:
        """Take part until cancelled.

        Raises:
            StorageError: The disk failed; the process must end, and find out at its next start.
        """
        await self._driver.run(machine)

    async def close(self) -> None:
        """After `run` has ended: leave the peers, and close the log."""
        await self._peers.close()
        self._store.close()

    @property
    def node_id(self) -> NodeId:
        return self._config.raft.me

    @property
    def cluster_id(self) -> str:
        return self._config.cluster_id

    @property
    def leader(self) -> NodeId:
        return self._driver.state.leader

    @property
    def epoch(self) -> Epoch:
        return self._driver.state.epoch

    @property
    def role(self) -> str:
        return self._driver.state.role_name

    @property
    def recovering(self) -> str:
        """Why this voter has no say until its log is whole again; empty if it is."""
        recovering = self._driver.state.recovering
        return "" if recovering is None else recovering.reason

    @property
    def high_watermark(self) -> Offset:
        return self._driver.state.high_watermark

    @property
    def log_start_offset(self) -> Offset:
        return self._driver.state.log.start_offset

    @property
    def log_end(self) -> OffsetAndEpoch:
        return self._driver.state.log.end

    @property
    def log_bytes(self) -> int:
        return self._store.size_bytes

    def is_full(self) -> bool:
        """See `Quorum`."""
        return self._store.is_full()

    @property
    def snapshots(self) -> tuple[HeldSnapshot, ...]:
        return self._driver.state.snapshots

    @property
    def damaged_snapshots(self) -> frozenset[OffsetAndEpoch]:
        return self._store.snapshot_scrub.damaged

    @property
    def snapshot_files(self) -> SnapshotFiles:
        return self._store.snapshots

    def snapshot_point(self, end_offset: Offset) -> SnapshotPoint | None:
        """See `Quorum`."""
        state = self._driver.state
        if end_offset <= state.log.start_offset:
            return None
        if end_offset > state.high_watermark:
            raise ValueError(f"{end_offset} is not committed, {state.high_watermark} is")
        epoch = state.log.epoch_at(Offset(end_offset - 1))
        snapshot_id = OffsetAndEpoch(epoch=epoch, offset=end_offset)
        if may_create(state, snapshot_id) is Creation.NEEDLESS:
            return None
        if not self._driver.ends_batch(end_offset):
            raise ValueError(f"{end_offset} lies within a batch")
        voters = voters_at(state.voter_history, end_offset)
        return SnapshotPoint(snapshot_id=snapshot_id, voters=voters)

    def snapshot_written(self, snapshot_id: OffsetAndEpoch, size_bytes: int) -> None:
        """See `Quorum`."""
        self._driver.post(SnapshotWritten(snapshot_id=snapshot_id, size_bytes=size_bytes))

    def trim(self, to: OffsetAndEpoch) -> bool:
        """See `Quorum`."""
        if self._service.downloads.any_before(to):
            return False
        self._driver.post(TrimRequested(to))
        return True

    @property
    def peers(self) -> tuple[Peer, ...]:
        state = self._driver.state
        return tuple(
            Peer(
                node_id=each.node_id,
                address=format_address(each.endpoint.host, each.endpoint.port),
            )
            for each in membership.reachable(state).voters
            if each.endpoint is not None
        )

    @property
    def unreachable(self) -> tuple[Peer, ...]:
        """See `QuorumView`."""
        silent = self._peers.unreachable()
        return tuple(each for each in self.peers if each.node_id in silent)

    @property
    def led_before(self) -> tuple[NodeId, Epoch] | None:
        """See `QuorumView`."""
        return self._peers.led_before() if self.leader == NO_NODE else None

    async def propose(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord]
    ) -> Offset:
        """See `Quorum`."""
        return await self._driver.propose(epoch, base_offset, tuple(records))

    def write(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord], timeout_ms: int
    ) -> Awaitable[Offset]:
        """See `Quorum`."""
        return self._driver.propose(epoch, base_offset, tuple(records), timeout_ms)

    @property
    def refusals(self) -> int:
        """See `Quorum`."""
        return self._driver.proposals.refusals

    async def check_endpoint(self, voter: NodeId, endpoint: Endpoint, timeout_ms: int) -> None:
        """See `VoterQuorum`."""
        await probe.check_endpoint(
            self._peers.connect,
            cluster_id=self.cluster_id,
            voter=voter,
            endpoint=endpoint,
            timeout_ms=timeout_ms,
        )

    async def supported_by(self, voter: Peer, timeout_ms: int) -> Supported:
        """See `VoterQuorum`."""
        return await probe.supported_by(
            self._peers.connect, cluster_id=self.cluster_id, peer=voter, timeout_ms=timeout_ms
        )

    async def change_voters(self, change: VoterChange) -> Offset:
        """See `Quorum`."""
        return await self._driver.change_voters(change)

    @property
    def voters(self) -> VoterSet:
        return membership.known(self._driver.state)

    def preview_voters(self, change: VoterChange) -> membership.Preview:
        """See `Quorum`."""
        return membership.preview(self._driver.state, change, self._moment())

    def not_ready(self, key: ReplicaKey) -> membership.Refused | None:
        """See `Quorum`."""
        return membership.not_ready(self._driver.state, key, self._moment())

    @property
    def introductions(self) -> Introductions:
        return self._service.introductions

    def _moment(self) -> Moment:
        return Moment(now_ms=self._clock.monotonic_ms(), draw=0.0)

    async def wait_committed(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        """See `Quorum`."""
        await self._driver.wait_committed(epoch, end_offset, timeout_ms)

    async def read_index(self, timeout_ms: int) -> Offset:
        """See `Quorum`."""
        tries = AsyncRetrying(
            wait=self._read_retry_s,
            retry=retry_if_result(lambda found: found is None),
        )
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                found: Offset | None = await tries(self._try_read_index, timeout_ms)
        except TimeoutError:
            found = None
        if found is None:
            raise UnreachableError(f"no leader confirmed a read within {timeout_ms} ms")
        return found

    def _read_retry_s(self, tries: RetryCallState) -> float:
        low_s, high_s = READ_RETRY_S
        doublings = min(tries.attempt_number - 1, 16)
        return self._rng.uniform(0, min(low_s * 2**doublings, high_s))

    async def _try_read_index(self, timeout_ms: int) -> Offset | None:
        if self.leader == self.node_id:
            try:
                return await self._driver.read_index()
            except (NotControllerError, OverloadedError):
                return None
        if self.leader == NO_NODE:
            return None
        answer = await self._peers.read_index(self.leader, timeout_ms / 1_000)
        if answer is None or answer.error != pb.QUORUM_ERROR_UNSPECIFIED:
            return None
        return Offset(answer.offset)

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        """See `Quorum`."""
        if start_offset < self.log_start_offset:
            raise CompactedError(self.log_start_offset)
        if start_offset >= self.high_watermark:
            return b""
        return self._driver.read(start_offset, max_bytes, self.high_watermark)

    async def wait_high_watermark(self, above: Offset, timeout_ms: int) -> None:
        """See `Quorum`."""
        await self._until(lambda: self.high_watermark > above, timeout_ms)

    async def wait_leader(self, after_epoch: int, timeout_ms: int) -> None:
        """See `Quorum`."""
        await self._until(lambda: self.leader != NO_NODE and self.epoch > after_epoch, timeout_ms)

    async def describe(self, timeout_ms: int) -> pb.DescribeQuorumResponse:
        """See `Quorum`. With a timeout of 0, this controller's own view."""
        leader = self.leader
        if timeout_ms > 0 and leader not in (NO_NODE, self.node_id):
            answer = await self._peers.describe(leader, timeout_ms / 1_000)
            if answer is not None and answer.leader_id == leader:
                return answer
        return describe(
            self._driver.state,
            cluster_id=self.cluster_id,
            clock=self._clock,
            observers=self._observers.list(),
        )

    async def transfer(self, to: NodeId, timeout_ms: int) -> Transferred:
        """See `Quorum`."""
        began_ms = self._clock.monotonic_ms()
        epoch = self.epoch
        if self.leader != self.node_id:
            raise NotControllerError(self.leader, epoch)
        if to != self.node_id:
            await self._give_away(epoch, to, timeout_ms)
        return Transferred(
            former=self.node_id,
            leader=self.leader,
            epoch=self.epoch,
            took_ms=self._clock.monotonic_ms() - began_ms,
        )

    async def _give_away(self, epoch: Epoch, to: NodeId, timeout_ms: int) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                answer = await self._driver.transfer(epoch, to)
                if isinstance(answer, TransferRefusal):
                    raise self._not_transferred(to, answer)
                end = self.log_end.offset
                while self.leader == NO_NODE or self.epoch == epoch or self.high_watermark <= end:
                    await self._driver.changed.wait()
        except TimeoutError:
            raise IndefiniteError(
                f"it is not known who leads, {timeout_ms} ms after controller {to} was to"
            ) from None
        if self.leader != to:
            raise ApiError(
                ErrorCode.NEW_LEADER_ELECTED,
                f"controller {self.leader} leads epoch {self.epoch}, and not {to}",
            )

    def _not_transferred(self, to: NodeId, why: TransferRefusal) -> KlammError:
        match why:
            case TransferRefusal.NOT_LEADER:
                return NotControllerError(self.leader, self.epoch)
            case TransferRefusal.NOT_A_VOTER:
                voters = ", ".join(map(str, self._driver.state.voters.ids))
                return ApiError(
                    ErrorCode.VOTER_NOT_FOUND, f"controller {to} is no voter; {voters} are"
                )
            case TransferRefusal.UNDER_WAY:
                return ApiError(ErrorCode.REASSIGNMENT_IN_PROGRESS, f"{why.value}; try again")
        return ApiError(
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
            f"controller {to} cannot take over: {why.value}. {self.node_id} goes on to lead",
        )

    async def resign(self, timeout_ms: int) -> None:
        """See `Quorum`."""
        epoch = self.epoch
        if self.leader != self.node_id or not self._driver.state.others:
            return
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 2_000):
                answer = await self._driver.transfer(epoch, None)
            handed_over = not isinstance(answer, TransferRefusal)
        except (KlammError, TimeoutError):
            handed_over = False
        if not handed_over:
            self._driver.post(ResignRequested(epoch))
        left_ms = max(0, deadline_ms - self._clock.monotonic_ms())
        await self._until(lambda: self.leader not in (NO_NODE, self.node_id), left_ms)
        if self.leader in (NO_NODE, self.node_id):
            _log.warning("resigned, and nobody is known to lead yet", waited_ms=timeout_ms)

    async def _until(self, condition: Callable[[], bool], timeout_ms: int) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while not condition():
                    await self._driver.changed.wait()
        except TimeoutError:
            return


def _tell_what_was_found(store: LogStore) -> None:
    for notice in store.notices:
        _log.warning("found on the disk", what=notice)
    if store.damaged:
        metrics.RAFT_LOG_DAMAGE.inc()
