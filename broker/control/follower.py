"""This broker's copy of the metadata log, fetched from any controller as an observer.

    pick a controller (a standby if one is known) ─▶ Fetch stream ─▶ batches ─▶ MetadataLoader
          ▲                                             │
          └──── broken, silent, behind or refusing ─────┘   another, at once

A controller whose log begins later, or that has a snapshot for who begins, names the snapshot:
it is downloaded, published as one delta, and followed from its end (see snapshots.py beside this).

Nothing is kept on this broker's disk, but an image in memory: it is small, and any controller has
it. Observers get committed records, so nothing is ever taken back: a log that is another one by now
was restored or recovered (docs/protocol.md), and only a new process reads it from its start.
"""

import asyncio
import random
from typing import Protocol
from uuid import UUID

from broker.control.snapshots import download, refusal_name
from klamm.client.client import ControllerClient
from klamm.client.node import Node
from klamm.errors import KlammError, StartError, UnknownRecordError
from klamm.ids import LOG_START, NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.rpc.status import ConnectionLostError
from klamm.rpc.stream import MessageStream
from klamm.telemetry.logs import logger
from klamm.v1 import quorum_pb2 as pb

_log = logger(__name__)

FETCH_BYTES_MAX = 4 * 1024 * 1024
FETCH_WAIT_MS = 500
"""A controller with nothing new answers so often: its sign of life."""

SILENCE_MS_MAX = 1_500
"""A controller that has not answered for so long is left for another."""

PAUSE_MS = (2, 20)
"""Between two streams, drawn evenly, so that brokers do not march."""

FetchStream = MessageStream[pb.FetchRequest, pb.FetchResponse]


class Loader(Protocol):
    """The part of MetadataLoader that is used here."""

    def load(self, batches: bytes, high_watermark: Offset) -> None: ...

    async def adopt(self, reader: SnapshotReader) -> None: ...

    @property
    def end(self) -> OffsetAndEpoch: ...


class MetadataFollower:
    """Runs until cancelled; `loader` hears of committed batches in order, each once."""

    def __init__(
        self,
        client: ControllerClient,
        loader: Loader,
        *,
        cluster_id: str,
        node_id: NodeId,
        directory_id: UUID,
    ) -> None:
        self._client = client
        self._loader = loader
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._directory_id = directory_id
        self._epoch = Epoch(0)
        self.high_watermark = LOG_START
        """As the controllers last said; the loader's end is below it while it catches up."""
        self.connected = False
        self.parted = ""
        """Why the controllers' log cannot be followed any more, in words; empty if it can."""
        self._caught_up = asyncio.Event()

    @property
    def lag(self) -> int:
        """Records between the committed end of the log and this broker's image."""
        return max(0, self.high_watermark - self._loader.end.offset)

    async def wait_caught_up(self) -> None:
        """Waits until the image once included all that was committed."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Follow.

        Raises:
            StartError: The controllers are of another cluster.
            UnknownRecordError: The log says what this broker cannot read.
        """
        node = self._pick()
        while True:
            try:
                await self._follow(node)
            except KlammError as error:
                if isinstance(error, StartError | UnknownRecordError):
                    raise
                _log.info("metadata feed left", controller=node.address, reason=error)
            self.connected = False
            low, high = PAUSE_MS
            await asyncio.sleep(random.uniform(low, high) / 1_000)
            node = self._pick(but=node.address)

    def _pick(self, but: str = "") -> Node:
        """A standby if it can be, so that feeding brokers costs the leader nothing."""
        controllers = self._client.controllers
        leader = controllers.leader
        others = [each for each in controllers.addresses if each != but]
        standbys = [each for each in others if leader is None or each != leader.address]
        return controllers.node(random.choice(standbys or others or [but]))

    async def _follow(self, node: Node) -> None:
        stream: FetchStream = MessageStream(node.quorum.Fetch(), node.address)
        try:
            while True:
                await stream.send(self._request(node.address))
                try:
                    async with asyncio.timeout(SILENCE_MS_MAX / 1_000):
                        response = await stream.receive()
                except TimeoutError:
                    raise ConnectionLostError(f"silent since {SILENCE_MS_MAX} ms") from None
                self._take(response, node.address)
                if response.HasField("snapshot_id"):
                    await self._take_snapshot(node, response.snapshot_id)
        finally:
            stream.close()

    def _request(self, address: str) -> pb.FetchRequest:
        end = self._loader.end
        return pb.FetchRequest(
            caller=self._caller(address),
            epoch=self._epoch,
            log_end=pb.OffsetAndEpoch(offset=end.offset, epoch=end.epoch),
            high_watermark=end.offset,
            max_bytes=FETCH_BYTES_MAX,
            max_wait_ms=FETCH_WAIT_MS,
            observer=True,
        )

    def _caller(self, address: str) -> pb.Caller:
        return pb.Caller(
            cluster_id=self._cluster_id,
            node_id=self._node_id,
            directory_id=self._directory_id.bytes,
            receiver_id=self._client.controllers.id_of(address),
        )

    async def _take_snapshot(self, node: Node, told: pb.OffsetAndEpoch) -> None:
        """Another image, all at once. What was before holds until then, and if this fails."""
        snapshot_id = OffsetAndEpoch(Epoch(told.epoch), Offset(told.offset))
        if snapshot_id.offset <= self._loader.end.offset:
            self._part(node.address)  # An older log would not need to name it.
            raise ConnectionLostError(f"its snapshot {snapshot_id} is older than this image")
        try:
            reader = await download(node, self._caller(node.address), self._epoch, snapshot_id)
        except CorruptSnapshotError as error:
            raise ConnectionLostError(str(error)) from error
        await self._loader.adopt(reader)
        _log.info("a snapshot was loaded", controller=node.address, offset=snapshot_id.offset)

    def _take(self, response: pb.FetchResponse, address: str) -> None:
        if response.error == pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID:
            raise StartError(
                f"the controller at {address} is of another cluster than {self._cluster_id!r}, "
                f"which this broker's data belongs to. Check controller.quorum.voters."
            )
        self._epoch = max(self._epoch, Epoch(response.epoch))
        if response.leader_id != NO_NODE:
            self._client.controllers.heard(NodeId(response.leader_id), Epoch(response.epoch))
        if response.error != pb.QUORUM_ERROR_UNSPECIFIED:
            raise ConnectionLostError(f"refused: {refusal_name(response.error)}")
        if response.HasField("diverging"):
            self._part(address)
            raise ConnectionLostError("its log does not continue this broker's image")
        if response.high_watermark >= self._loader.end.offset and not response.HasField(
            "snapshot_id"
        ):
            self.parted = ""  # It has all that is here, and agrees.
        self.connected = True
        self.high_watermark = max(self.high_watermark, Offset(response.high_watermark))
        if response.batches:
            self._loader.load(response.batches, self.high_watermark)
        if self.lag == 0 and self.high_watermark > LOG_START:
            self._caught_up.set()

    def _part(self, address: str) -> None:
        """What is committed there is not what was committed here. One controller may be wrong, so
        that this broker goes on asking.
        """
        if not self.parted:
            _log.error("the metadata here is not that of the controllers", controller=address)
        self.parted = (
            f"the controllers' log is not the one that this broker has followed up to offset "
            f"{self._loader.end.offset}: if it was restored or recovered, start the broker again"
        )
