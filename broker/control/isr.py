"""The way of ISR proposals to the active controller: batched, one request in flight.

    leaders submit ──▶ waiting {partition: proposal} ──▶ one request ──▶ answers, row by row
                              what arrives meanwhile ─────┘ goes with the next

A request is repeated for as long as it takes: a leader without an answer can do nothing else, and
the partition epoch lets each proposal happen once. (KIP-497; kraft.md 3.5.)
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random

from broker.replica.isr import IsrAnswer, IsrChange
from klamm.errors import ErrorCode, KlammError
from klamm.ids import Epoch, NodeId, Offset, TopicId
from klamm.telemetry.logs import logger
from klamm.v1 import controller_pb2 as pb

ROWS_MAX = 10_000
"""Of one request; the controller takes no more."""

ATTEMPT_MS_MAX = 10_000
RETRY_PAUSE_S = (0.02, 0.08)
"""Kafka waits 50 ms; drawn evenly around that."""

_log = logger(__name__)

Key = tuple[TopicId, int]
Answered = Callable[[IsrAnswer], None]


class Controller(Protocol):
    """The part of ControllerClient that is used here."""

    async def alter_partition(
        self, request: pb.AlterPartitionRequest, timeout_ms: int = ...
    ) -> pb.AlterPartitionResponse: ...


class Uptime(Protocol):
    """The part of BrokerSession that is used here."""

    @property
    def broker_epoch(self) -> Offset: ...


class IsrProposals:
    """Implements the port `broker.replica.isr.AlterPartition`. One task runs `run`."""

    def __init__(self, controller: Controller, broker_id: NodeId, uptime: Uptime) -> None:
        self._controller = controller
        self._broker_id = broker_id
        self._uptime = uptime
        self._waiting: dict[Key, tuple[IsrChange, Answered]] = {}
        self._out: dict[Key, tuple[IsrChange, Answered]] = {}
        self._news = asyncio.Event()

    def submit(
        self, topic_id: TopicId, partition: int, change: IsrChange, answered: Answered
    ) -> None:
        key = (topic_id, partition)
        if key in self._waiting or key in self._out:
            refusal = IsrAnswer(error=ErrorCode.OPERATION_NOT_ATTEMPTED)
            asyncio.get_running_loop().call_soon(answered, refusal)
            return
        self._waiting[key] = (change, answered)
        self._news.set()

    async def run(self) -> None:
        """Send what is submitted, until cancelled."""
        while True:
            await self._news.wait()
            while self._waiting:
                keys = tuple(islice(self._waiting, ROWS_MAX))
                self._out = {key: self._waiting.pop(key) for key in keys}
                answers = await self._ask()
                out, self._out = self._out, {}
                for key, (_, answered) in out.items():
                    lost = IsrAnswer(error=ErrorCode.UNKNOWN_SERVER_ERROR)
                    answered(answers.get(key, lost))
            self._news.clear()

    async def _ask(self) -> dict[Key, IsrAnswer]:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(KlammError),
            wait=wait_random(*RETRY_PAUSE_S),
            before_sleep=_tell,
        )
        answers: dict[Key, IsrAnswer] = await retrying(self._ask_once)
        return answers

    async def _ask_once(self) -> dict[Key, IsrAnswer]:
        rows = ((key, change) for key, (change, _) in self._out.items())
        request = _request(self._broker_id, self._uptime.broker_epoch, rows)
        response = await self._controller.alter_partition(request, ATTEMPT_MS_MAX)
        # Rows come back in the order asked.
        return dict(zip(self._out, map(_answer, response.results), strict=False))


def _request(
    broker_id: NodeId, broker_epoch: Offset, rows: Iterable[tuple[Key, IsrChange]]
) -> pb.AlterPartitionRequest:
    return pb.AlterPartitionRequest(
        broker_id=broker_id,
        broker_epoch=broker_epoch,
        partitions=[
            pb.AlterPartitionChange(
                topic_id=topic_id.bytes,
                partition=partition,
                leader_epoch=change.leader_epoch,
                partition_epoch=change.partition_epoch,
                new_isr=[
                    pb.IsrMember(broker_id=each.broker_id, broker_epoch=each.broker_epoch)
                    for each in change.members
                ],
            )
            for (topic_id, partition), change in rows
        ],
    )


def _answer(row: pb.AlterPartitionResult) -> IsrAnswer:
    known = row.error_code in ErrorCode._value2member_map_
    return IsrAnswer(
        error=ErrorCode(row.error_code) if known else ErrorCode.UNKNOWN_SERVER_ERROR,
        leader_epoch=Epoch(row.leader_epoch),
        partition_epoch=row.partition_epoch,
        isr=tuple(NodeId(each) for each in row.isr),
    )


def _tell(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome is not None else None
    _log.warning("isr proposals not answered, asking again", reason=error)
