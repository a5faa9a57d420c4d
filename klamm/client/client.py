"""ControllerClient: every call that a broker or a person makes to the controllers.

Requests and answers are the messages of proto/klamm/v1. A call takes `timeout_ms` for everything:
finding the leader, refusals, and waiting for the commit. What fails raises

    ApiError, BadRequestError   refused for good
    UnreachableError            nobody led in time; nothing was sent
    CommitUnknownError          it was sent, and may have happened or happen yet
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc.aio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random

from klamm.client.controllers import Controllers, Leader
from klamm.client.node import Node
from klamm.clock import Clock, SystemClock
from klamm.errors import (
    CommitUnknownError,
    IndefiniteError,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.ids import Epoch, NodeId, Offset
from klamm.rpc.status import ConnectionLostError, from_call
from klamm.rpc.stream import MessageStream
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as control
from klamm.v1 import metadata_pb2 as metadata

Response = TypeVar("Response")

TIMEOUT_MS = 30_000
"""Of a call whose caller names none; Kafka's `request.timeout.ms`."""

READ_ATTEMPT_MS_MAX = 2_000
"""One controller gets so long for a query, then another is asked."""

BACKUP_SILENCE_MS_MAX = 10_000
"""A controller that sends nothing of a backup for so long is left for another."""

REPLACED_GRACE_MS = 200
"""A leader that was replaced may still say what became of a call, so long after it is known."""

RETRY_PAUSE_MS = (5, 20)

FIRST_PAUSE_MS = (1, 3)
"""Before the first retry where somebody was overloaded: a leader is for a moment, when it hands
over."""

RETRIES_AT_ONCE = 3
"""So often who was sent elsewhere, or has lost the leader, goes on without a pause: the search for
the next leader waits where there is news first."""

SessionStream = MessageStream[control.SessionRequest, control.SessionResponse]

if TYPE_CHECKING:
    BackupCall = grpc.aio.UnaryStreamCall[metadata.BackupRequest, metadata.BackupResponse]


class ControllerClient:
    """Finds the active controller through any of them, and finds it again."""

    def __init__(self, addresses: Sequence[str], clock: Clock | None = None) -> None:
        self.controllers = Controllers(addresses)
        self._clock = clock if clock is not None else SystemClock()

    async def close(self) -> None:
        await self.controllers.close()

    # ── Changes: answered once committed ──────────────────────────────────────────────────────

    async def create_topics(
        self, request: admin.CreateTopicsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.CreateTopicsResponse:
        return await self._change(
            lambda node, timeout: node.admin.CreateTopics(request, timeout=timeout),
            timeout_ms,
            idempotent=request.validate_only,
        )

    async def delete_topics(
        self, request: admin.DeleteTopicsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.DeleteTopicsResponse:
        return await self._change(
            lambda node, timeout: node.admin.DeleteTopics(request, timeout=timeout),
            timeout_ms,
            idempotent=False,
        )

    async def incremental_alter_configs(
        self, request: admin.IncrementalAlterConfigsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.IncrementalAlterConfigsResponse:
        """SET and DELETE say what is to be, so they are safe to send twice; APPEND is not."""
        absolute = (admin.ALTER_CONFIG_OPERATION_SET, admin.ALTER_CONFIG_OPERATION_DELETE)
        return await self._change(
            lambda node, timeout: node.admin.IncrementalAlterConfigs(request, timeout=timeout),
            timeout_ms,
            idempotent=request.validate_only
            or all(
                each.operation in absolute
                for resource in request.resources
                for each in resource.alterations
            ),
        )

    async def change_voters(
        self, request: admin.ChangeVotersRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.ChangeVotersResponse:
        """Not safe to send twice: the second is refused if the first was done."""
        answer = await self._change(
            lambda node, timeout: node.admin.ChangeVoters(request, timeout=timeout),
            timeout_ms,
            idempotent=request.dry_run,
        )
        assert isinstance(answer, admin.ChangeVotersResponse)
        return answer

    async def unregister_broker(
        self, request: admin.UnregisterBrokerRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.UnregisterBrokerResponse:
        """Not safe to send twice: the second finds no broker, or its next uptime."""
        return await self._change(
            lambda node, timeout: node.admin.UnregisterBroker(request, timeout=timeout),
            timeout_ms,
            idempotent=False,
        )

    async def update_features(
        self, request: admin.UpdateFeaturesRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.UpdateFeaturesResponse:
        """Safe to send twice: a level that is in force already is no change."""
        return await self._change(
            lambda node, timeout: node.admin.UpdateFeatures(request, timeout=timeout),
            timeout_ms,
            idempotent=True,
        )

    async def transfer_leadership(
        self, request: admin.TransferLeadershipRequest, timeout_ms: int = TIMEOUT_MS
    ) -> admin.TransferLeadershipResponse:
        """Safe to send twice: it says who is to lead."""
        answer = await self._change(
            lambda node, timeout: node.admin.TransferLeadership(request, timeout=timeout),
            timeout_ms,
            idempotent=True,
        )
        self.controllers.heard(NodeId(answer.leader_id), Epoch(answer.leader_epoch))
        return answer

    # ── A broker's life ───────────────────────────────────────────────────────────────────────

    async def register_broker(
        self, request: control.RegisterBrokerRequest, timeout_ms: int = TIMEOUT_MS
    ) -> control.RegisterBrokerResponse:
        """Safe to send twice: an incarnation registers once."""
        return await self._change(
            lambda node, timeout: node.controller.RegisterBroker(request, timeout=timeout),
            timeout_ms,
            idempotent=True,
        )

    async def open_session(self, timeout_ms: int = TIMEOUT_MS) -> SessionStream:
        """A heartbeat stream to the active controller. Tell `session_broke` when it ends.

        Opening sends nothing yet: a controller that does not lead refuses in the first answer.
        """
        leader = await self.controllers.find(timeout_ms)
        call = self.controllers.node(leader.address).controller.Session()
        return MessageStream(call, leader.address)

    def session_broke(self, stream: SessionStream, error: KlammError) -> None:
        """The stream ended with `error`: look for the leader anew, or follow the hint."""
        leader = self.controllers.leader
        if leader is not None and leader.address == stream.address:
            self._note(leader, error)

    async def alter_partition(
        self, request: control.AlterPartitionRequest, timeout_ms: int = TIMEOUT_MS
    ) -> control.AlterPartitionResponse:
        """Safe to send twice: the partition epoch lets it happen once."""
        return await self._change(
            lambda node, timeout: node.controller.AlterPartition(request, timeout=timeout),
            timeout_ms,
            idempotent=True,
        )

    async def allocate_producer_ids(
        self, request: control.AllocateProducerIdsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> control.AllocateProducerIdsResponse:
        """Safe to send twice: it costs a block of ids that nobody uses."""
        return await self._change(
            lambda node, timeout: node.controller.AllocateProducerIds(request, timeout=timeout),
            timeout_ms,
            idempotent=True,
        )

    # ── Queries: any controller ───────────────────────────────────────────────────────────────

    async def describe_cluster(
        self, request: metadata.DescribeClusterRequest, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.DescribeClusterResponse:
        return await self._query(
            lambda node, timeout: node.metadata.DescribeCluster(request, timeout=timeout),
            timeout_ms,
        )

    async def describe_features(
        self, request: metadata.DescribeFeaturesRequest, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.DescribeFeaturesResponse:
        return await self._query(
            lambda node, timeout: node.metadata.DescribeFeatures(request, timeout=timeout),
            timeout_ms,
        )

    async def describe_quorum(
        self, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.MetadataServiceDescribeQuorumResponse:
        request = metadata.MetadataServiceDescribeQuorumRequest()
        return await self._query(
            lambda node, timeout: node.metadata.DescribeQuorum(request, timeout=timeout),
            timeout_ms,
        )

    async def list_brokers(
        self, request: metadata.ListBrokersRequest, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.ListBrokersResponse:
        return await self._query(
            lambda node, timeout: node.metadata.ListBrokers(request, timeout=timeout), timeout_ms
        )

    async def list_topics(
        self, request: metadata.ListTopicsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.ListTopicsResponse:
        return await self._query(
            lambda node, timeout: node.metadata.ListTopics(request, timeout=timeout), timeout_ms
        )

    async def describe_topics(
        self, request: metadata.DescribeTopicsRequest, timeout_ms: int = TIMEOUT_MS
    ) -> metadata.DescribeTopicsResponse:
        return await self._query(
            lambda node, timeout: node.metadata.DescribeTopics(request, timeout=timeout),
            timeout_ms,
        )

    async def watch(
        self, from_offset: Offset, progress_interval_ms: int = 1_000, timeout_ms: int = TIMEOUT_MS
    ) -> AsyncIterator[metadata.WatchResponse]:
        """Committed records from `from_offset` on (-1: from now), each once, until closed.

        When its controller is gone, goes on at another from where it was; fails when none has
        answered for `timeout_ms`.
        """
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        while True:
            node = self.controllers.any()
            request = metadata.WatchRequest(
                from_offset=from_offset, progress_interval_ms=progress_interval_ms
            )
            try:
                async for response in node.metadata.Watch(request):
                    yield response
                    from_offset = Offset(response.header.offset)
                    deadline_ms = self._clock.monotonic_ms() + timeout_ms
            except grpc.aio.AioRpcError as error:
                failure = from_call(error)
                if not _elsewhere(failure):
                    raise failure from None
            if self._clock.monotonic_ms() >= deadline_ms:
                raise UnreachableError(f"no controller feeds a watch since {timeout_ms} ms")
            self.controllers.try_another()
            await asyncio.sleep(RETRY_PAUSE_MS[1] / 1_000)

    async def backup(self, timeout_ms: int = TIMEOUT_MS) -> AsyncIterator[metadata.BackupResponse]:
        """A file of all that was committed when this was called; a chunk at 0 begins it.

        When its controller is gone before the last chunk, another begins anew; fails when none has
        sent anything for `timeout_ms`.
        """
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        while True:
            call = self.controllers.any().metadata.Backup(metadata.BackupRequest())
            try:
                last = False
                while not last:
                    response = await _chunk(call)
                    yield response
                    last = response.last
                    deadline_ms = self._clock.monotonic_ms() + timeout_ms
                return
            except KlammError as error:
                if not _elsewhere(error):
                    raise
                if self._clock.monotonic_ms() >= deadline_ms:
                    raise UnreachableError(f"no controller sends a backup: {error}") from error
            finally:
                call.cancel()
            self.controllers.try_another()
            await asyncio.sleep(RETRY_PAUSE_MS[1] / 1_000)

    # ── How ───────────────────────────────────────────────────────────────────────────────────

    async def _change(
        self,
        call: Callable[[Node, float], Awaitable[Response]],
        timeout_ms: int,
        *,
        idempotent: bool,
    ) -> Response:
        """To the leader; again while that is safe and there is time."""
        deadline_ms = self._clock.monotonic_ms() + timeout_ms

        async def attempt() -> Response:
            leader = await self.controllers.find(self._left(deadline_ms))
            node = self.controllers.node(leader.address)
            try:
                return await self._while_leading(
                    leader, call(node, self._left(deadline_ms) / 1_000)
                )
            except grpc.aio.AioRpcError as error:
                failure = from_call(error)
                self._note(leader, failure)
                raise failure from None

        try:
            return await self._retrying(deadline_ms, idempotent=idempotent)(attempt)
        except ConnectionLostError as error:
            raise CommitUnknownError(
                f"the answer was lost; it may have happened ({error})"
            ) from error

    async def _while_leading(self, leader: Leader, call: Awaitable[Response]) -> Response:
        """The call's answer; not waited for once another leads, as a paused node never answers."""
        answer = asyncio.ensure_future(call)
        replaced = asyncio.ensure_future(self.controllers.wait_other_leader(leader.address))
        doubt = asyncio.ensure_future(self.controllers.doubt(leader))
        try:
            await asyncio.wait((answer, replaced), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                await asyncio.wait((answer,), timeout=REPLACED_GRACE_MS / 1_000)
            if not answer.done():
                raise ConnectionLostError(f"{leader.address} was replaced, and never answered")
            return answer.result()
        finally:
            for task in (answer, replaced, doubt):
                task.cancel()

    async def _query(
        self, call: Callable[[Node, float], Awaitable[Response]], timeout_ms: int
    ) -> Response:
        """To any controller; to another when that one is gone or cannot answer as asked."""
        deadline_ms = self._clock.monotonic_ms() + timeout_ms

        async def attempt() -> Response:
            timeout = min(self._left(deadline_ms), READ_ATTEMPT_MS_MAX) / 1_000
            try:
                return await call(self.controllers.any(), timeout)
            except grpc.aio.AioRpcError as error:
                self.controllers.try_another()
                raise from_call(error) from None

        try:
            return await self._retrying(deadline_ms, idempotent=True)(attempt)
        except (ConnectionLostError, CommitUnknownError) as error:
            raise UnreachableError(
                f"no controller answered within {timeout_ms} ms: {error}"
            ) from error

    def _retrying(self, deadline_ms: int, *, idempotent: bool) -> AsyncRetrying:
        def out_of_time(_: RetryCallState) -> bool:
            return self._clock.monotonic_ms() + RETRY_PAUSE_MS[1] >= deadline_ms

        def may_retry(error: BaseException) -> bool:
            return _elsewhere(error) and (idempotent or not isinstance(error, IndefiniteError))

        return AsyncRetrying(
            retry=retry_if_exception(may_retry),
            stop=out_of_time,
            wait=_pause_s,
            reraise=True,
        )

    def _note(self, leader: Leader, error: KlammError) -> None:
        match error:
            case NotControllerError():
                self.controllers.refused(leader, error)
            case UnreachableError() | ConnectionLostError():
                self.controllers.lost(leader)

    def _left(self, deadline_ms: int) -> int:
        return max(1, deadline_ms - self._clock.monotonic_ms())


def _pause_s(attempts: RetryCallState) -> float:
    error = None if attempts.outcome is None else attempts.outcome.exception()
    moved = isinstance(error, NotControllerError | UnreachableError | ConnectionLostError)
    if moved and attempts.attempt_number <= RETRIES_AT_ONCE:
        return 0
    if isinstance(error, OverloadedError) and attempts.attempt_number == 1:
        return _first_pause_s(attempts)
    return _usual_pause_s(attempts)


_first_pause_s = wait_random(*(ms / 1_000 for ms in FIRST_PAUSE_MS))
_usual_pause_s = wait_random(*(ms / 1_000 for ms in RETRY_PAUSE_MS))


async def _chunk(call: "BackupCall") -> metadata.BackupResponse:
    """The next one. Raises: KlammError: There is none, and why."""
    try:
        async with asyncio.timeout(BACKUP_SILENCE_MS_MAX / 1_000):
            response = await call.read()
    except TimeoutError:
        raise ConnectionLostError(f"silent for {BACKUP_SILENCE_MS_MAX} ms") from None
    except grpc.aio.AioRpcError as error:
        raise from_call(error) from None
    if not isinstance(response, metadata.BackupResponse):
        raise ConnectionLostError("the stream ended before its last chunk")
    return response


def _elsewhere(error: BaseException) -> bool:
    """Another controller, or the same one a moment later, may do better."""
    return isinstance(
        error, (NotControllerError, OverloadedError, UnreachableError, IndefiniteError)
    )
