"""The other voters over gRPC: unary calls, and one stream of fetches to the leader.

    SendRequest ─▶ Vote, Begin, End   one call each, request_timeout_ms
                ├▶ Fetch              the stream to that peer; opened if there is none
                └▶ FetchSnapshot      another stream, while it lasts

A stream that ends, for whatever reason, is told to the core at once: the kernel knows of a killed
process within a millisecond. Connections are kept up before they are needed, so that an election
does not wait for a handshake.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, cast

import grpc
import grpc.aio

from controller.quorum.control import endpoint_from_wire, endpoint_to_wire
from controller.quorum.messages import (
    WireRequest,
    WireResponse,
    request_to_wire,
    response_from_wire,
)
from controller.raft.effects import SendRequest
from controller.raft.events import Event, RequestFailed, ResponseReceived, StreamLost
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Refusal,
    Request,
    VoteRequest,
)
from controller.raft.voters import ReplicaKey, VoterSet
from klamm.config.listeners import format_address
from klamm.ids import NO_NODE, Epoch, NodeId
from klamm.metadata.records import Endpoint
from klamm.rpc.channel import open_channel
from klamm.telemetry import logs
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc

_log = logs.logger("controller.quorum")

FIRST_BOOTSTRAP = -2
"""Kafka's: addresses without a known id have ids from here downwards."""

OTHER_ADDRESS_S = 1.0
"""So long a voter is tried at one address before the other, if it has two."""

INTRODUCED_MAX = 32
"""Controllers that the log does not name, and that peers told of."""

_STRANGE = {
    Refusal.INCONSISTENT_CLUSTER_ID: "a voter's address answers as another cluster",
    Refusal.INVALID_VOTER_KEY: "a voter's address answers as another node",
    Refusal.DUPLICATE_VOTER: "a voter says that it has this node's id: it is in use twice",
}

Post = Callable[[Event], None]
Connect = Callable[[str], grpc.aio.Channel]
Introduce = Callable[[NodeId, Endpoint], None]
SnapshotCall = grpc.aio.StreamStreamCall[pb.FetchSnapshotRequest, pb.FetchSnapshotResponse]


class FetchCall(Protocol):
    """What is used of klamm/rpc's ClientCall."""

    on_message: Callable[[pb.FetchResponse], None] | None

    def send(self, message: pb.FetchRequest, /) -> None: ...
    def cancel(self) -> bool: ...
    def add_done_callback(self, callback: Callable[[object], None], /) -> None: ...


class GrpcPeers:
    """Used by the driver, within one event loop."""

    def __init__(
        self,
        *,
        me: ReplicaKey,
        cluster_id: str,
        request_timeout_ms: int,
        endpoint: Endpoint | None = None,
        bootstrap: Sequence[str] = (),
        configured: VoterSet | None = None,
        connect: Connect = open_channel,
    ) -> None:
        """
        Args:
            me: Who calls.
            cluster_id: Of which cluster.
            request_timeout_ms: Of one call.
            endpoint: Where this controller itself is reached.
            bootstrap: `host:port` of controllers to ask who leads; their ids are FIRST_BOOTSTRAP,
                and downwards.
            configured: Voters as this node's configuration has them: tried in turn with the log's
                addresses, where those lead nowhere. All nodes may have moved while they were down.
            connect: Gives a channel to `host:port`; it may connect when it likes.
        """
        self._endpoint = endpoint
        self._bootstrap = {
            NodeId(FIRST_BOOTSTRAP - place): address for place, address in enumerate(bootstrap)
        }
        self._configured = {} if configured is None else _addresses(configured)
        self._moved: set[NodeId] = set()
        """Those that are tried where the configuration has them."""
        self._voters: dict[NodeId, str] = {}
        self._introduced: dict[NodeId, str] = {}
        """Others, as peers told of them: leaders that our own log does not name yet."""
        self.connect = connect
        self._me = me
        self._cluster_id = cluster_id
        self._timeout_ms = request_timeout_ms
        self._peers: dict[NodeId, _Peer] = {}
        self._post: Post = lambda _: None
        self._tasks: dict[asyncio.Task[None], None] = {}
        """In the order of their start, in which `close` ends them."""

    def bind(self, post: Post) -> None:
        self._post = post

    def use(self, voters: VoterSet) -> None:
        """Keep a connection to each of them but this node."""
        before, self._voters = self._voters, _addresses(voters)
        self._moved = {
            each for each in self._moved if before.get(each) == self._voters.get(each, "")
        }
        self._connect_all()

    def introduce(self, node_id: NodeId, endpoint: Endpoint) -> None:
        """Somebody says where a controller is; the log knows better, if it names it."""
        address = format_address(endpoint.host, endpoint.port)
        if node_id in self._voters or self._introduced.get(node_id) == address:
            return
        if len(self._introduced) >= INTRODUCED_MAX:
            del self._introduced[next(iter(self._introduced))]
        self._introduced[node_id] = address
        self._connect_all()

    def _connect_all(self) -> None:
        wanted = {**self._bootstrap, **self._introduced, **self._voters}
        wanted.update({each: self._configured[each] for each in self._moved})
        wanted.pop(self._me.node_id, None)
        for node_id, peer in list(self._peers.items()):
            if wanted.get(node_id) != peer.address:
                del self._peers[node_id]
                self._spawn(peer.close())
        for node_id, address in wanted.items():
            if node_id not in self._peers:
                peer = self._peers[node_id] = _Peer(
                    node_id, address, self.connect(address), self._post, self.introduce
                )
                self._spawn(self._keep_connected(peer))

    def _unreachable(self, node_id: NodeId) -> None:
        """Nobody is there: try the other address, if there is one."""
        self._moved ^= {node_id}
        self._connect_all()

    def _has_other(self, node_id: NodeId) -> bool:
        known = self._voters.get(node_id)
        return known is not None and self._configured.get(node_id, known) != known

    def unreachable(self) -> tuple[NodeId, ...]:
        """The voters to whom no connection stands at this moment, by id."""
        return tuple(
            each
            for each in sorted(self._voters)
            if each in self._peers and not self._peers[each].is_connected
        )

    def led_before(self) -> tuple[NodeId, Epoch] | None:
        """Whom others follow in an earlier epoch than the one that this node asks them in.

        For a moment, if they take it for a voter; else for as long as it is there.
        """
        return next((each.led_before for each in self._peers.values() if each.led_before), None)

    def send(self, effect: SendRequest) -> None:
        peer = self._peers.get(effect.to)
        if peer is None:
            self._post(RequestFailed(effect.to, effect.request))
            return
        wire = request_to_wire(effect.request, self._caller(effect.to))
        match effect.request:
            case FetchRequest() as request:
                assert isinstance(wire, pb.FetchRequest)
                timeout_ms = request.max_wait_ms + self._timeout_ms
                peer.fetch(request, wire, timeout_ms / 1_000)
            case FetchSnapshotRequest() as request:
                assert isinstance(wire, pb.FetchSnapshotRequest)
                self._spawn(peer.fetch_snapshot(request, wire, self._timeout_ms / 1_000))
            case _:
                self._spawn(peer.call(effect.request, wire, self._timeout_ms / 1_000))

    async def read_index(self, leader: NodeId, timeout_s: float) -> pb.ReadIndexResponse | None:
        """Ask the leader; None if it cannot be asked."""
        peer = self._peers.get(leader)
        if peer is None:
            return None
        request = pb.ReadIndexRequest(caller=self._caller(leader))
        try:
            return await peer.stub.ReadIndex(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return None

    async def describe(self, leader: NodeId, timeout_s: float) -> pb.DescribeQuorumResponse | None:
        """Ask the leader; None if it cannot be asked."""
        peer = self._peers.get(leader)
        if peer is None:
            return None
        try:
            return await peer.stub.DescribeQuorum(pb.DescribeQuorumRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return None

    async def close(self) -> None:
        """Break all streams and connections; peers hear of it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self._peers.values():
            await peer.close()
        self._peers.clear()

    def _caller(self, receiver: NodeId) -> pb.Caller:
        disk = self._me.directory_id
        return pb.Caller(
            cluster_id=self._cluster_id,
            node_id=self._me.node_id,
            directory_id=b"" if disk is None else disk.bytes,
            receiver_id=max(receiver, NO_NODE),
            endpoint=None if self._endpoint is None else endpoint_to_wire(self._endpoint),
        )

    async def _keep_connected(self, peer: "_Peer") -> None:
        if not self._has_other(peer.node_id):
            await peer.keep_connected()
            return
        if await peer.connected(OTHER_ADDRESS_S):
            await peer.keep_connected()
        elif self._peers.get(peer.node_id) is peer:
            self._unreachable(peer.node_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _addresses(voters: VoterSet) -> dict[NodeId, str]:
    return {
        each.node_id: format_address(each.endpoint.host, each.endpoint.port)
        for each in voters.voters
        if each.endpoint is not None
    }


class _Peer:
    """One other voter."""

    def __init__(
        self,
        node_id: NodeId,
        address: str,
        channel: grpc.aio.Channel,
        post: Post,
        introduce: Introduce,
    ) -> None:
        self._introduce = introduce
        self.node_id = node_id
        self.address = address
        self._post = post
        self._channel = channel
        self.stub: pb_grpc.QuorumServiceAsyncStub = pb_grpc.QuorumServiceStub(self._channel)
        self._stream: _FetchStream | None = None
        self._snapshot: SnapshotCall | None = None
        """Left open between chunks."""
        self._strange = False
        self.led_before: tuple[NodeId, Epoch] | None = None
        """Whom it follows, in an earlier epoch than this node's, by its last answer."""

    async def call(self, request: Request, wire: WireRequest, timeout_s: float) -> None:
        """One unary call; its answer or its failure is posted."""
        try:
            response = response_from_wire(await self._unary(request, wire, timeout_s))
            self._tell_strangeness(response.refusal)
            led = response.leader != NO_NODE and response.epoch < request.epoch
            self.led_before = (response.leader, response.epoch) if led else None
            self._post(ResponseReceived(self.node_id, request, response))
        except grpc.aio.AioRpcError:
            self._post(RequestFailed(self.node_id, request))
        except ValueError as error:
            _log.warning("a peer's answer makes no sense", peer=self.node_id, error=error)
            self._post(RequestFailed(self.node_id, request))

    async def _unary(self, request: Request, wire: WireRequest, timeout_s: float) -> WireResponse:
        match request, wire:
            case VoteRequest(), pb.VoteRequest():
                return await self.stub.Vote(wire, timeout=timeout_s)
            case BeginQuorumEpochRequest(), pb.BeginQuorumEpochRequest():
                return await self.stub.BeginQuorumEpoch(wire, timeout=timeout_s)
            case EndQuorumEpochRequest(), pb.EndQuorumEpochRequest():
                return await self.stub.EndQuorumEpoch(wire, timeout=timeout_s)
        raise AssertionError(f"{request} is no unary call")

    def fetch(self, request: FetchRequest, wire: pb.FetchRequest, timeout_s: float) -> None:
        """Send it on the stream. A stream that is still busy with another is given up for it."""
        stream = self._stream
        if stream is None or stream.over or stream.busy:
            if stream is not None:
                stream.abandon()
            call = cast("FetchCall", self.stub.Fetch())
            stream = self._stream = _FetchStream(self.node_id, call, self._post, self._introduce)
        stream.send(request, wire, timeout_s)

    async def fetch_snapshot(
        self, request: FetchSnapshotRequest, wire: pb.FetchSnapshotRequest, timeout_s: float
    ) -> None:
        """One chunk; a stream that fails is opened anew for the next."""
        call = self._snapshot or self.stub.FetchSnapshot()
        self._snapshot = None
        try:
            async with asyncio.timeout(timeout_s):
                await call.write(wire)
                answer = await call.read()
            if not isinstance(answer, pb.FetchSnapshotResponse):
                raise ValueError("the stream of a snapshot ended")
            response = response_from_wire(answer)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, ValueError) as error:
            _log.debug("no chunk of a snapshot", peer=self.node_id, why=str(error))
            call.cancel()
            self._post(RequestFailed(self.node_id, request))
            return
        assert isinstance(response, FetchSnapshotResponse)
        if response.position + response.length < response.size_bytes and self._snapshot is None:
            self._snapshot = call
        else:
            call.cancel()
        self._post(ResponseReceived(self.node_id, request, response))

    def _tell_strangeness(self, refusal: Refusal) -> None:
        """Once, and not with each of the calls that go on."""
        strange = refusal in _STRANGE
        if strange and not self._strange:
            _log.warning(
                _STRANGE[refusal],
                voter=self.node_id,
                address=self.address,
                refusal=refusal.name,
            )
        self._strange = strange

    @property
    def is_connected(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def connected(self, timeout_s: float) -> bool:
        """Whether a connection stands within so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.channel_ready()
        except (TimeoutError, grpc.aio.UsageError):
            return False
        return True

    async def keep_connected(self) -> None:
        """Have the connection stand before it is needed."""
        try:
            while True:
                state = self._channel.get_state(try_to_connect=True)
                await self._channel.wait_for_state_change(state)
        except grpc.aio.UsageError:
            return  # Closed.

    async def close(self) -> None:
        if self._stream is not None:
            self._stream.abandon()
        if self._snapshot is not None:
            self._snapshot.cancel()
        await self._channel.close()


class _FetchStream:
    """One bidirectional call; one fetch at a time on it. Its end is posted once."""

    def __init__(self, peer: NodeId, call: FetchCall, post: Post, introduce: Introduce) -> None:
        self._introduce = introduce
        self.over = False
        self._peer = peer
        self._call = call
        self._post = post
        self._asked: FetchRequest | None = None
        self._timer: asyncio.TimerHandle | None = None
        call.on_message = self._on_answer
        call.add_done_callback(self._on_done)

    @property
    def busy(self) -> bool:
        """A fetch is on its way."""
        return self._asked is not None

    def send(self, request: FetchRequest, wire: pb.FetchRequest, timeout_s: float) -> None:
        assert not self.busy, "one fetch at a time"
        self._asked = request
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._end)
        self._call.send(wire)

    def _on_answer(self, answer: pb.FetchResponse) -> None:
        request, self._asked = self._asked, None
        if self._timer is not None:
            self._timer.cancel()
        if self.over or request is None:
            self._end()  # An answer to nothing.
            return
        try:
            response = response_from_wire(answer)
            endpoint = endpoint_from_wire(answer.leader_endpoint)
        except ValueError as error:
            _log.warning("a leader's answer makes no sense", peer=self._peer, error=error)
            self._end()
            return
        if answer.HasField("leader_endpoint") and response.leader != NO_NODE:
            self._introduce(response.leader, endpoint)
        self._post(ResponseReceived(self._peer, request, response))

    def abandon(self) -> None:
        """Close it, and say nothing: who closes it knows."""
        self.over = True
        self._give_up()

    def _on_done(self, _: object) -> None:
        self._end()

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        self._give_up()
        self._post(StreamLost(self._peer))

    def _give_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._call.cancel()
