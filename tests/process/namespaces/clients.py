"""Clients that write configs of topics and read them, and write down what they did and saw.

No call is ever sent again: one entry of the history is one request to one controller.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc.aio

from klamm.client.node import Node
from klamm.errors import DefiniteError
from klamm.rpc.status import HintedNotControllerError, from_call
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from klamm.v1 import records_pb2 as records
from tests.process.namespaces.controllers import IDS, Controllers
from tests.process.namespaces.history import Entry, Kind, Outcome

CLIENTS = 5
TOPICS = ("red", "green", "blue")
CONFIG = "retention.ms"
CALL_DEADLINE_S = 2.0
PAUSE_S = 0.02
"""Between two calls of one client."""
FIRST_VALUE = 1_000_000
KINDS = (Kind.WRITE, Kind.LINEARIZABLE, Kind.BOUNDED, Kind.LOCAL)
WEIGHTS = (10, 8, 2, 2)

LEVELS = {
    Kind.LINEARIZABLE: metadata.CONSISTENCY_LEVEL_LINEARIZABLE,
    Kind.BOUNDED: metadata.CONSISTENCY_LEVEL_BOUNDED,
    Kind.LOCAL: metadata.CONSISTENCY_LEVEL_LOCAL,
}


@dataclass(slots=True)
class History:
    """All clients' entries, in the order of their ends."""

    entries: list[Entry] = field(default_factory=list)
    next_value: int = FIRST_VALUE
    counts: dict[tuple[Kind, Outcome], int] = field(default_factory=dict)

    def value(self) -> str:
        """One that nobody has written."""
        self.next_value += 1
        return str(self.next_value)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        which = entry.kind, entry.outcome
        self.counts[which] = self.counts.get(which, 0) + 1

    def count(self, kind: Kind, outcome: Outcome = Outcome.OK) -> int:
        return self.counts.get((kind, outcome), 0)


class Clients:
    """Some of them at once, until the block ends."""

    def __init__(self, controllers: Controllers, seed: int) -> None:
        self.history = History()
        self._clients = [
            _Client(controllers, self.history, random.Random(f"{seed} client {each}"))
            for each in range(CLIENTS)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each.run()) for each in self._clients]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.ending = True
        # Each ends after its call, so that no outcome is left out.
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self._clients))
        for end in ends:
            if isinstance(end, BaseException) and error is None:
                raise end

    def check(self) -> None:
        """Raise what ended a client too early."""
        for task in self._tasks:
            if task.done():
                task.result()


class _Client:
    def __init__(self, controllers: Controllers, history: History, chance: random.Random) -> None:
        self.ending = False
        self._controllers = controllers
        self._history = history
        self._chance = chance
        self._nodes = {each: Node(address) for each, address in controllers.addresses.items()}
        self._leader = chance.choice(IDS)
        self._seen = 0
        """The furthest end offset that an answer told."""

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._nodes.values()))

    async def run(self) -> None:
        while not self.ending:
            (kind,) = self._chance.choices(KINDS, WEIGHTS)
            key = self._chance.choice(TOPICS)
            await (self._write(key) if kind is Kind.WRITE else self._read(kind, key))
            await asyncio.sleep(PAUSE_S)

    async def _write(self, key: str) -> None:
        value, node, called = self._history.value(), self._leader, time.monotonic()
        life = self._controllers.lives[node]
        offset, outcome = -1, Outcome.OK
        try:
            answer = await self._nodes[node].admin.IncrementalAlterConfigs(
                set_config(key, value), timeout=CALL_DEADLINE_S
            )
            assert [each.error_code for each in answer.results] == [0], answer
            offset = answer.committed_offset
            self._seen = max(self._seen, offset)
        except grpc.aio.AioRpcError as error:
            outcome = self._note(error)
        self._history.add(
            Entry(
                kind=Kind.WRITE,
                outcome=outcome,
                node=node,
                life=life,
                key=key,
                value=value,
                called=called,
                returned=time.monotonic(),
                offset=offset,
            )
        )

    async def _read(self, kind: Kind, key: str) -> None:
        node, called = self._chance.choice(IDS), time.monotonic()
        min_offset = self._seen if kind is Kind.BOUNDED else 0
        life = self._controllers.lives[node]
        value, offset, outcome = None, -1, Outcome.OK
        try:
            answer = await describe(self._nodes[node], kind, min_offset, [key])
            (topic,) = answer.topics
            value, offset = topic.configs.get(CONFIG), answer.header.offset
            self._seen = max(self._seen, offset)
        except grpc.aio.AioRpcError:
            outcome = Outcome.FAILED
        except ValueError:
            # A controller that has just begun has not read of the topic yet; only local reads see.
            assert kind is Kind.LOCAL, f"{kind.value} at {node} does not know {key}: {answer}"
            outcome = Outcome.FAILED
        self._history.add(
            Entry(
                kind=kind,
                outcome=outcome,
                node=node,
                life=life,
                key=key,
                value=value,
                called=called,
                returned=time.monotonic(),
                offset=offset,
                min_offset=min_offset,
            )
        )

    def _note(self, error: grpc.aio.AioRpcError) -> Outcome:
        """What became of a write; and whom to ask next."""
        failure = from_call(error)
        self._leader = self._chance.choice(IDS)
        if isinstance(failure, HintedNotControllerError) and failure.leader in self._nodes:
            self._leader = failure.leader
        return Outcome.FAILED if isinstance(failure, DefiniteError) else Outcome.UNKNOWN


def set_config(topic: str, value: str) -> admin.IncrementalAlterConfigsRequest:
    """The request that sets CONFIG of one topic."""
    alteration = admin.AlterConfig(
        key=CONFIG, operation=admin.ALTER_CONFIG_OPERATION_SET, value=value
    )
    resource = admin.AlterConfigResource(
        resource_type=records.CONFIG_RESOURCE_TYPE_TOPIC,
        resource_name=topic,
        alterations=[alteration],
    )
    return admin.IncrementalAlterConfigsRequest(resources=[resource])


async def describe(
    node: Node, kind: Kind, min_offset: int, topics: Sequence[str]
) -> metadata.DescribeTopicsResponse:
    """Ask one controller, once. Raises: grpc.aio.AioRpcError."""
    consistency = metadata.Consistency(
        level=LEVELS[kind], min_offset=min_offset, timeout_ms=int(CALL_DEADLINE_S * 1_000)
    )
    request = metadata.DescribeTopicsRequest(consistency=consistency, names=topics)
    return await node.metadata.DescribeTopics(request, timeout=CALL_DEADLINE_S)
