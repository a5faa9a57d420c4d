"""One run: three controllers, clients, faults for a time, an end in peace, and the verdict."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from klamm.client.client import ControllerClient
from klamm.client.node import Node
from klamm.errors import KlammError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from tests.process.namespaces.clients import TOPICS, Clients, History, describe, set_config
from tests.process.namespaces.controllers import IDS, Controllers, wait_for
from tests.process.namespaces.history import Kind, Outcome, Written, judge
from tests.process.namespaces.nemesis import Nemesis
from tests.process.namespaces.network import network

START_DEADLINE_S = 60.0
RECOVERY_DEADLINE_S = 60.0
"""From a fault's end until there is a leader and writes are acknowledged; usual is below 3 s."""
WRITES_BETWEEN = 10
"""So many are acknowledged before each fault, or it would have nothing to spoil."""
WRITES_A_SECOND_MIN = 1.0
READS_A_SECOND_MIN = 0.5
"""Of the whole run, faults and all; a tenth or less of what a slow machine does."""
WATCH_DEADLINE_S = 60.0
PROGRESS_MS = 100
MS_A_CALL = 20_000


@dataclass(slots=True)
class Trial:
    """What is to be run, and what has happened."""

    directory: Path
    seed: int
    fault_s: float
    """Faults go on until they took so long together."""
    clocks: Path | None = None
    """See `controllers.faketime`."""
    of_versions: bool = False
    """Only faults that mix versions: see other_version.py."""
    story: list[str] = field(default_factory=list)
    on_tell: Callable[[str], None] = print
    began: float = field(default_factory=time.monotonic)
    recovery_s_max: float = 0.0

    def tell(self, what: str) -> None:
        line = f"{time.monotonic() - self.began:7.1f} s  {what}"
        self.story.append(line)
        self.on_tell(line)

    async def run(self) -> History:
        """Raises: AssertionError: With all that is needed to look for the reason."""
        with network(IDS) as net:
            controllers = Controllers(self.directory, net, self.clocks)
            try:
                return await self._run(controllers)
            except (AssertionError, KlammError, grpc.aio.AioRpcError) as error:
                raise AssertionError(self._account(str(error), controllers)) from error
            finally:
                await controllers.close()

    def _account(self, wrong: str, controllers: Controllers) -> str:
        story = "\n".join(self.story)
        again = f"python -m tests.process.soak --seconds {self.fault_s:.0f} --seed {self.seed}"
        again += " --clocks" if self.clocks is not None else ""
        again += " --versions" if self.of_versions else ""
        return f"{wrong}\n\n{story}\n\n{controllers.last_lines()}\n\nseed {self.seed}: {again}"

    async def _run(self, controllers: Controllers) -> History:
        await controllers.start(*IDS)
        await controllers.wait_leader(START_DEADLINE_S)
        await _create_topics(controllers)
        clients = Clients(controllers, self.seed)
        async with clients:
            began = time.monotonic()
            await self._trouble(controllers, clients)
            served_s = time.monotonic() - began
        history = clients.history
        self.tell(f"{_counts(history)}; the longest recovery took {self.recovery_s_max:.1f} s")
        log = await self._end(controllers, history)
        wrong = judge(history.entries, log)
        assert not wrong, "\n".join(wrong[:10])
        assert not controllers.tracebacks(), "\n".join(controllers.tracebacks())
        reads = history.count(Kind.LINEARIZABLE)
        assert history.count(Kind.WRITE) >= served_s * WRITES_A_SECOND_MIN, _counts(history)
        assert reads >= served_s * READS_A_SECOND_MIN, _counts(history)
        return history

    async def _trouble(self, controllers: Controllers, clients: Clients) -> None:
        """Faults, and peace between them for long enough that writes go on."""
        nemesis = Nemesis(controllers, self.seed, self.tell)
        spent_s = 0.0
        await self._recover(clients)
        for kind in nemesis.kinds(of_versions=self.of_versions):
            began = time.monotonic()
            await nemesis.strike(kind)
            spent_s += time.monotonic() - began
            await self._recover(clients)
            gone = set(IDS) - controllers.running()
            assert not gone, f"controllers that ended by themselves: {gone}"
            if spent_s >= self.fault_s:
                return

    async def _recover(self, clients: Clients) -> None:
        began, goal = time.monotonic(), clients.history.count(Kind.WRITE) + WRITES_BETWEEN

        async def gone_on() -> bool | None:
            clients.check()
            return clients.history.count(Kind.WRITE) >= goal or None

        await wait_for(gone_on, "writes to go on", RECOVERY_DEADLINE_S)
        self.recovery_s_max = max(self.recovery_s_max, time.monotonic() - began)

    async def _end(self, controllers: Controllers, history: History) -> Sequence[Written]:
        """A last write; all three then have one log and one state."""
        client = ControllerClient(list(controllers.addresses.values()))
        try:
            request = set_config(TOPICS[0], history.value())
            answer = await client.incremental_alter_configs(request, MS_A_CALL)
        finally:
            await client.close()
        end = answer.committed_offset
        logs, states = {}, {}
        for each, address in controllers.addresses.items():
            node = Node(address)
            try:
                logs[each] = await wait_for(
                    lambda node=node: _log(node, end),  # type: ignore[misc]
                    f"controller {each} to send its log up to {end}",
                    WATCH_DEADLINE_S,
                )
                states[each] = await wait_for(
                    lambda node=node: _state(node, end),  # type: ignore[misc]
                    f"controller {each} to have {end}",
                    RECOVERY_DEADLINE_S,
                )
            finally:
                await node.close()
        assert all(each == logs[IDS[0]] for each in logs.values()), "the logs differ"
        assert all(each == states[IDS[0]] for each in states.values()), f"they differ: {states}"
        return [
            Written(each.offset, each.record.config.resource_name, each.record.config.value)
            for each in logs[IDS[0]]
            if each.record.WhichOneof("record") == "config"
        ]


async def _create_topics(controllers: Controllers) -> None:
    """By a broker that is there for nothing else, and goes."""
    client = ControllerClient(list(controllers.addresses.values()))
    topics = [admin.NewTopic(name=each, num_partitions=1, replication_factor=1) for each in TOPICS]

    async def created() -> bool | None:
        try:
            answer = await client.create_topics(admin.CreateTopicsRequest(topics=topics), MS_A_CALL)
        except KlammError:
            return None
        return all(each.error_code == 0 for each in answer.results) or None

    await controllers.broker.start()
    try:
        await wait_for(created, "topics to be created", START_DEADLINE_S)
    finally:
        await controllers.broker.close()
        await client.close()


async def _log(node: Node, end: int) -> list[metadata.WatchEvent] | None:
    """All events below `end`, as this controller tells them; None if it breaks off."""
    events: list[metadata.WatchEvent] = []
    request = metadata.WatchRequest(from_offset=0, progress_interval_ms=PROGRESS_MS)
    try:
        async for answer in node.metadata.Watch(request, timeout=WATCH_DEADLINE_S):
            events.extend(each for each in answer.events if each.offset < end)
            if answer.header.offset >= end:
                return events
    except grpc.aio.AioRpcError:
        return None
    return None


async def _state(node: Node, end: int) -> list[metadata.Topic] | None:
    try:
        return list((await describe(node, Kind.BOUNDED, end, TOPICS)).topics)
    except grpc.aio.AioRpcError:
        return None


def _counts(history: History) -> str:
    writes = ", ".join(f"{history.count(Kind.WRITE, each)} {each.value}" for each in Outcome)
    reads = sum(history.count(each) for each in Kind if each is not Kind.WRITE)
    return f"writes: {writes}; reads: {history.count(Kind.LINEARIZABLE)} linearizable of {reads}"
