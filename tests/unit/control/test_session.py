"""A broker's uptime against scripted controllers, over real gRPC on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from broker.control.session import NOT_REGISTERED, BrokerSession, Registration, SessionTimes
from klamm.client.client import ControllerClient
from klamm.clock import SystemClock
from klamm.errors import ApiError, ErrorCode, KlammError, StartError
from klamm.ids import DirectoryId, NodeId, Offset
from klamm.metadata.codec import features_from_proto
from klamm.metadata.features import supported
from tests.unit.client.fakes import FakeController, FakeQuorum, three_controllers

ME = NodeId(7)
TIMES = SessionTimes(
    heartbeat_interval_ms=50, session_timeout_ms=400, registration_timeout_ms=1_000
)


class World:
    def __init__(self, quorum: FakeQuorum, controllers: dict[int, FakeController]) -> None:
        self.quorum = quorum
        self.controllers = controllers
        self.standings: list[bool] = []
        self.client = ControllerClient([each.address for each in controllers.values()])
        self.session = BrokerSession(
            self.client, registration(), TIMES, SystemClock(), on_standing=self.standings.append
        )
        self.task: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Registered, caught up, ready: as a broker that has started."""
        await self.session.register()
        self.task = asyncio.create_task(self.session.run())
        self.session.applied(Offset(self.session.broker_epoch + 1))
        self.session.ready()
        await self.session.wait_unfenced()

    def registrations(self) -> int:
        return sum(each.calls.count("RegisterBroker") for each in self.controllers.values())


def registration() -> Registration:
    return Registration(
        cluster_id="abc",
        broker_id=ME,
        incarnation_id=UUID(int=1),
        endpoints=(),
        rack=None,
        directory_id=DirectoryId(UUID(int=2)),
        previous_broker_epoch=NOT_REGISTERED,
    )


@asynccontextmanager
async def started() -> AsyncIterator[World]:
    async with three_controllers() as (quorum, controllers):
        quorum.elect(1)
        world = World(quorum, controllers)
        try:
            yield world
        finally:
            if world.task is not None:
                world.task.cancel()
                await asyncio.gather(world.task, return_exceptions=True)
            await world.client.close()


async def test_unfenced_as_soon_as_its_own_registration_is_applied() -> None:
    async with started() as world:
        await world.session.register()
        world.task = asyncio.create_task(world.session.run())
        heartbeats = world.controllers[1].heartbeats
        while len(heartbeats) < 2:
            await asyncio.sleep(0.001)
        assert all(each.want_fence for each in heartbeats)
        assert world.session.fenced
        world.session.ready()
        world.session.applied(Offset(world.session.broker_epoch + 1))
        async with asyncio.timeout(1):
            await world.session.wait_unfenced()
        assert world.standings == [False]


async def test_a_registration_says_what_the_broker_supports() -> None:
    async with started() as world:
        await world.session.register()
        (request,) = world.controllers[1].registrations
        assert features_from_proto(request.features) == supported()


async def test_a_broken_stream_is_opened_again_with_the_same_epoch() -> None:
    async with started() as world:
        await world.serve()
        epoch = world.session.broker_epoch
        world.quorum.elect(2)
        while not world.controllers[2].heartbeats:
            await asyncio.sleep(0.001)
        assert world.controllers[2].heartbeats[0].broker_epoch == epoch
        assert world.registrations() == 1
        assert world.standings == [False], "it was never fenced"


async def test_a_killed_controller_is_left_for_the_next() -> None:
    async with started() as world:
        await world.serve()
        await world.controllers[1].server.stop(grace_ms=0)
        world.quorum.elect(3)
        async with asyncio.timeout(2):
            while not world.controllers[3].heartbeats:
                await asyncio.sleep(0.001)
        assert world.registrations() == 1


async def test_a_paused_controller_is_left_once_another_is_heard_of() -> None:
    async with started() as world:
        await world.serve()
        world.controllers[1].hang.clear()
        world.quorum.elect(2)
        world.client.controllers.heard(NodeId(2), world.quorum.epoch)
        async with asyncio.timeout(1):
            while not world.controllers[2].heartbeats:
                await asyncio.sleep(0.001)
        world.controllers[1].hang.set()


async def test_an_unknown_epoch_makes_it_register_again() -> None:
    async with started() as world:
        await world.serve()
        before = world.session.broker_epoch
        world.quorum.broker_epochs.clear()
        async with asyncio.timeout(2):
            while world.session.broker_epoch == before:
                await asyncio.sleep(0.001)
        assert world.registrations() == 2
        world.session.applied(Offset(world.session.broker_epoch + 1))
        await world.session.wait_unfenced()
        assert world.standings == [False, True, False]


async def test_stopping_waits_for_leave() -> None:
    async with started() as world:
        await world.serve()
        stop = asyncio.create_task(world.session.shut_down(5_000, 5_000))
        while not world.controllers[1].heartbeats[-1].want_shut_down:
            await asyncio.sleep(0.001)
        assert not stop.done()
        world.quorum.may_stop = True
        assert await stop


async def test_stopping_does_not_wait_for_controllers_that_are_gone() -> None:
    async with started() as world:
        await world.serve()
        for each in world.controllers.values():
            await each.server.stop(grace_ms=0)
        async with asyncio.timeout(2):
            assert not await world.session.shut_down(60_000, 200)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (ErrorCode.INCONSISTENT_CLUSTER_ID, "the cluster is xyz"),
        (ErrorCode.INVALID_REGISTRATION, "the directory belongs to broker 2"),
    ],
)
async def test_a_final_refusal_ends_the_start_at_once(code: ErrorCode, said: str) -> None:
    async with started() as world:
        world.controllers[1].failures = [ApiError(code, said)]
        with pytest.raises(StartError, match=said):
            await world.session.register()
        assert world.registrations() == 1


async def test_another_process_with_this_id_ends_the_start_in_time() -> None:
    async with started() as world:
        refusal: KlammError = ApiError(ErrorCode.DUPLICATE_BROKER_REGISTRATION, "it is alive")
        world.controllers[1].failures = [refusal] * 1_000
        with pytest.raises(StartError, match="another process is running as broker 7"):
            await world.session.register()
        assert world.registrations() > 1


async def test_a_short_duplicate_is_waited_out() -> None:
    async with started() as world:
        refusal: KlammError = ApiError(ErrorCode.DUPLICATE_BROKER_REGISTRATION, "it is alive")
        world.controllers[1].failures = [refusal]
        await world.session.register()
        assert world.registrations() == 2


async def test_no_controller_in_time_ends_the_start() -> None:
    async with started() as world:
        world.quorum.leader = NodeId(-1)
        world.session._times = SessionTimes(
            heartbeat_interval_ms=50, session_timeout_ms=400, registration_timeout_ms=50
        )
        with pytest.raises(StartError, match="could not register within"):
            await world.session.register()
