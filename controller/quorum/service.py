"""The servicer of klamm.v1.QuorumService: refuses at the door, and hands the rest to the core.

    Vote, Begin, End, a voter's Fetch ─▶ driver.request ─▶ the core answers, at once or when there
                                                           is something to say
    FetchSnapshot ─▶ likewise, a chunk to each request
    an observer's Fetch, FetchSnapshot ─▶ served here, by any controller, from what is committed

A caller of another cluster, or one that means another node, is told so by name.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import grpc.aio

from controller.quorum.control import endpoint_from_wire, endpoint_to_wire
from controller.quorum.downloads import DOWNLOADS_MAX, Downloads, observe
from controller.quorum.fetches import Fetches
from controller.quorum.introductions import Introductions
from controller.quorum.messages import (
    DIRECTORY_ID_BYTES,
    WireRequest,
    end_to_wire,
    log_end,
    replica_key,
    request_from_wire,
    response_to_wire,
)
from controller.quorum.observers import Observers
from controller.quorum.port import Quorum
from controller.raft import membership
from controller.raft.messages import FetchRequest, Request
from controller.raft.snapshots import needed
from controller.raft.voters import ReplicaKey
from klamm.clock import Clock
from klamm.errors import DefiniteError, OverloadedError
from klamm.ids import NO_NODE, NodeId, Offset
from klamm.metadata.records import Endpoint
from klamm.rpc.status import CompactedError
from klamm.telemetry import logs
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from controller.quorum.driver import QuorumDriver
    from klamm.rpc.served import ServedCall

_log = logs.logger("controller.quorum")

STREAMS_MAX = 1_024
"""Fetch streams of voters and observers together."""

FETCH_WAIT_MS_MAX = 30_000
FETCH_BYTES_MAX = 8 * 1024 * 1024
READ_INDEX_MS = 2_000
CLOSE_BEHIND_RECORDS = 1_000
"""More than are committed while an observer rests; who has less is catching up."""

DOUBLES_MAX = 16
"""Disks that have our id and are told of; more are refused in silence."""

_Answer = TypeVar(
    "_Answer",
    pb.VoteResponse,
    pb.BeginQuorumEpochResponse,
    pb.EndQuorumEpochResponse,
    pb.FetchResponse,
    pb.FetchSnapshotResponse,
)


class QuorumService(pb_grpc.QuorumServiceServicer):
    """Serves while the driver runs."""

    def __init__(
        self, quorum: Quorum, driver: "QuorumDriver", observers: Observers, clock: Clock
    ) -> None:
        self.downloads = Downloads(clock)
        self._quorum = quorum
        self._driver = driver
        self._observers = observers
        self.introductions = Introductions()
        self.introduce: Callable[[NodeId, Endpoint], None] = lambda *_: None
        """Told where a controller that announces itself is reached."""
        self._streams: dict[NodeId, object] = {}
        """The newest stream of each voter."""
        self._stream_count = 0
        self._doubles: set[bytes] = set()
        """Disks of others that have our id, as they say."""

    async def Vote(self, request: pb.VoteRequest, context: object) -> pb.VoteResponse:
        """Give or refuse a vote or a pre-vote."""
        return await self._ask(request, pb.VoteResponse)

    async def BeginQuorumEpoch(
        self, request: pb.BeginQuorumEpochRequest, context: object
    ) -> pb.BeginQuorumEpochResponse:
        """Learn who leads."""
        return await self._ask(request, pb.BeginQuorumEpochResponse)

    async def EndQuorumEpoch(
        self, request: pb.EndQuorumEpochRequest, context: object
    ) -> pb.EndQuorumEpochResponse:
        """Learn that nobody leads."""
        return await self._ask(request, pb.EndQuorumEpochResponse)

    async def Fetch(  # type: ignore[override]  # grpc.aio also takes a handler that writes
        self,
        request_iterator: object,
        context: "grpc.aio.ServicerContext[pb.FetchRequest, pb.FetchResponse]",
    ) -> None:
        """Replication: one answer to each request, in order, until the caller leaves."""
        if self._stream_count >= STREAMS_MAX:
            await context.write(self.refused(pb.QUORUM_ERROR_OVERLOADED))
            return
        self._stream_count += 1
        caller = cast("ServedCall", context)
        fetches = Fetches(self, self._driver, caller)
        try:
            await caller.each(fetches.take)
        finally:
            self._stream_count -= 1
            fetches.close()

    async def FetchSnapshot(  # type: ignore[override]  # as Fetch
        self,
        request_iterator: object,
        context: "grpc.aio.ServicerContext[pb.FetchSnapshotRequest, pb.FetchSnapshotResponse]",
    ) -> None:
        """A snapshot: one chunk to each request, in order, until the caller leaves."""
        if self.downloads.streams >= DOWNLOADS_MAX:
            await context.read()
            await context.write(self._refused_chunk(pb.QUORUM_ERROR_OVERLOADED))
            return
        self.downloads.streams += 1
        try:
            while True:
                request: object = await context.read()
                if not isinstance(request, pb.FetchSnapshotRequest):
                    return
                await context.write(await self._fetch_snapshot(request))
        finally:
            self.downloads.streams -= 1

    async def ReadIndex(
        self, request: pb.ReadIndexRequest, context: object
    ) -> pb.ReadIndexResponse:
        """The leader's read index, for a standby."""
        refused = self._strangeness_of_voter(request.caller)
        offset = Offset(0)
        if refused is None:
            try:
                async with asyncio.timeout(READ_INDEX_MS / 1_000):
                    offset = await self._driver.read_index()
            except OverloadedError:
                refused = pb.QUORUM_ERROR_OVERLOADED
            except (DefiniteError, TimeoutError):
                refused = pb.QUORUM_ERROR_NOT_LEADER_OR_FOLLOWER
        return pb.ReadIndexResponse(
            error=refused or pb.QUORUM_ERROR_UNSPECIFIED,
            epoch=self._quorum.epoch,
            leader_id=self._quorum.leader,
            offset=offset,
        )

    async def DescribeQuorum(
        self, request: pb.DescribeQuorumRequest, context: object
    ) -> pb.DescribeQuorumResponse:
        """As this controller sees it."""
        return await self._quorum.describe(0)

    async def _ask(self, request: WireRequest, kind: type[_Answer]) -> _Answer:
        """What the core answers."""
        asked = self.understand(request)
        if not isinstance(asked, int):
            try:
                answer = response_to_wire(await self._driver.request(*asked))
            except OverloadedError:
                asked = pb.QUORUM_ERROR_OVERLOADED
            else:
                assert isinstance(answer, kind), f"{answer} answers {request}"
                return answer
        return kind(error=asked, epoch=self._quorum.epoch, leader_id=self._quorum.leader)

    def understand(
        self, request: WireRequest
    ) -> tuple[ReplicaKey, Request] | pb.QuorumError.ValueType:
        """Who asks what; or why it is not listened to."""
        refused = self._strangeness_of_voter(request.caller)
        if refused is not None:
            return refused
        try:
            sender = replica_key(request.caller)
            self._meet(request, sender)
            asked = request_from_wire(request)
        except ValueError as error:
            node = request.caller.node_id
            _log.warning("a peer's request makes no sense", peer=node, why=error)
            return pb.QUORUM_ERROR_INVALID_REQUEST
        if isinstance(asked, FetchRequest):
            self.downloads.fetched(sender, asked.log_end.offset)
        return sender, asked

    def _meet(self, request: WireRequest, sender: ReplicaKey) -> None:
        if not request.caller.HasField("endpoint"):
            return
        endpoint = endpoint_from_wire(request.caller.endpoint)
        if isinstance(request, pb.FetchRequest):
            self.introductions.heard(sender, endpoint)
        elif isinstance(request, pb.BeginQuorumEpochRequest):
            self.introduce(sender.node_id, endpoint)

    def show_leader(self, answer: pb.FetchResponse) -> None:
        """Whoever asks the wrong controller may not know where the right one is."""
        voter = membership.reachable(self._driver.state).find(NodeId(answer.leader_id))
        if voter is not None and voter.endpoint is not None:
            answer.leader_endpoint.CopyFrom(endpoint_to_wire(voter.endpoint))

    def limit(self, request: pb.FetchRequest) -> None:
        """Nobody is kept waiting for longer, or given more at a time."""
        request.max_wait_ms = min(request.max_wait_ms, FETCH_WAIT_MS_MAX)
        request.max_bytes = min(request.max_bytes, FETCH_BYTES_MAX)

    def follows_closely(self, request: pb.FetchRequest) -> bool:
        """Has this observer nearly all that is committed?"""
        behind = self._quorum.high_watermark - request.log_end.offset
        return behind <= CLOSE_BEHIND_RECORDS

    async def observe(self, request: pb.FetchRequest) -> pb.FetchResponse:
        """The answer to an observer."""
        refused = self._strangeness(request.caller)
        if refused is not None:
            return self.refused(refused)
        try:
            return await self._observe(request)
        except ValueError:
            return self.refused(pb.QUORUM_ERROR_INVALID_REQUEST)

    async def _fetch_snapshot(self, request: pb.FetchSnapshotRequest) -> pb.FetchSnapshotResponse:
        refused = self._strangeness(request.caller)
        if refused is not None:
            return self._refused_chunk(refused)
        try:
            wanted = log_end(request.snapshot_id)
            self.downloads.asked(replica_key(request.caller), wanted, self._quorum)
            if not await self.downloads.is_sound(wanted, self._quorum):
                return self._refused_chunk(pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND)
            if request.observer:
                return observe(self._quorum, request, self._driver.read_chunk)
        except ValueError:
            return self._refused_chunk(pb.QUORUM_ERROR_INVALID_REQUEST)
        return await self._ask(request, pb.FetchSnapshotResponse)

    def _refused_chunk(self, error: pb.QuorumError.ValueType) -> pb.FetchSnapshotResponse:
        return pb.FetchSnapshotResponse(
            error=error, epoch=self._quorum.epoch, leader_id=self._quorum.leader
        )

    async def _observe(self, request: pb.FetchRequest) -> pb.FetchResponse:
        """Committed records from the fetcher's end on."""
        end = log_end(request.log_end)
        log = self._driver.state.log
        key = replica_key(request.caller)
        self._observers.fetched(key, end.offset, self._quorum)
        self.downloads.fetched(key, end.offset)
        wanted = needed(self._driver.state, end)
        if wanted is not None:
            answer = self.refused(pb.QUORUM_ERROR_UNSPECIFIED)
            answer.log_start_offset = self._quorum.log_start_offset
            answer.snapshot_id.CopyFrom(end_to_wire(wanted))
            return answer
        comparable = log.start_offset < end.offset <= self._quorum.high_watermark
        if comparable and not log.agrees_with(end):
            answer = self.refused(pb.QUORUM_ERROR_UNSPECIFIED)
            answer.diverging.CopyFrom(end_to_wire(log.end_of(end.epoch)))
            return answer
        known = Offset(max(end.offset, request.high_watermark))
        if known >= self._quorum.high_watermark:
            await self._quorum.wait_high_watermark(known, request.max_wait_ms)
        answer = self.refused(pb.QUORUM_ERROR_UNSPECIFIED)
        answer.log_start_offset = self._quorum.log_start_offset
        if end.offset < self._quorum.high_watermark:
            try:
                max_bytes = request.max_bytes
                answer.batches = await self._quorum.read_committed(end.offset, max_bytes)
            except CompactedError:
                answer.error = pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND
        answer.high_watermark = self._quorum.high_watermark
        return answer

    def refused(self, error: pb.QuorumError.ValueType) -> pb.FetchResponse:
        """No records, and where we stand."""
        return pb.FetchResponse(
            error=error,
            epoch=self._quorum.epoch,
            leader_id=self._quorum.leader,
            high_watermark=self._quorum.high_watermark,
        )

    def enter(self, caller: pb.Caller, stream: object, *, first: bool) -> NodeId:
        """Whose stream this is; NO_NODE if it is no voter's, and its end says nothing."""
        voter = self._voter_of(caller, first=first)
        if voter != NO_NODE:
            self._streams[voter] = stream
        return voter

    def leave(self, voter: NodeId, stream: object) -> bool:
        """Was it the voter's newest?"""
        newest = self._streams.get(voter) is stream
        if newest:
            del self._streams[voter]
        return newest

    def _voter_of(self, caller: pb.Caller, *, first: bool) -> NodeId:
        """Whose stream this is; NO_NODE if it is no voter's, and its end says nothing."""
        try:
            key = replica_key(caller)
        except ValueError:
            return NO_NODE
        if self._strangeness_of_voter(caller) is not None:
            return NO_NODE
        state = self._driver.state
        if state.admits(key):
            return key.node_id
        if first and key.node_id in state.voters.ids:
            # Served, and without a vote.
            _log.warning(
                "a node has a voter's id and another disk; it has no vote",
                node=key.node_id,
                disk=key.directory_id,
            )
        return NO_NODE

    def _tell_of_double(self, caller: pb.Caller) -> None:
        """Somebody has our id: said once for each of its disks."""
        disk = caller.directory_id[:DIRECTORY_ID_BYTES]
        if disk in self._doubles or len(self._doubles) >= DOUBLES_MAX:
            return
        self._doubles.add(disk)
        _log.warning(
            "another process has this node's id; it is refused. One of the two needs another",
            node=self._quorum.node_id,
            disk=disk.hex(),
        )

    def _strangeness(self, caller: pb.Caller) -> pb.QuorumError.ValueType | None:
        """Why this caller is not listened to at all; None if it is."""
        if caller.cluster_id != self._quorum.cluster_id:
            return pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID
        if caller.receiver_id not in (NO_NODE, self._quorum.node_id):
            return pb.QUORUM_ERROR_INVALID_VOTER_KEY
        return None

    def _strangeness_of_voter(self, caller: pb.Caller) -> pb.QuorumError.ValueType | None:
        """As `_strangeness`, of one that speaks as a controller: brokers count their ids apart."""
        strange = self._strangeness(caller)
        if strange is None and caller.node_id < 0:
            return pb.QUORUM_ERROR_INVALID_REQUEST
        if strange is None and caller.node_id == self._quorum.node_id:
            self._tell_of_double(caller)
            return pb.QUORUM_ERROR_DUPLICATE_VOTER
        return strange
