"""The way to the active controller, over real gRPC on loopback.

A change is sent once unless it is certain that it did not happen; queries go to whoever answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from klamm.client.client import ControllerClient
from klamm.client.controllers import NODES_MAX
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    ErrorCode,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.rpc.server import GrpcServer
from klamm.rpc.status import BadRequestError
from klamm.v1.admin_pb2 import CreateTopicsRequest
from klamm.v1.controller_pb2 import AllocateProducerIdsRequest, SessionRequest
from klamm.v1.metadata_pb2 import DescribeClusterRequest
from tests.unit.client.fakes import FakeController, FakeQuorum, three_controllers

World = tuple[FakeQuorum, dict[int, FakeController], ControllerClient]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with three_controllers() as (quorum, controllers):
        client = ControllerClient([each.address for each in controllers.values()])
        yield quorum, controllers, client
        await client.close()


async def test_a_change_reaches_the_leader_and_nobody_else(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(2)
    response = await client.create_topics(CreateTopicsRequest(), 2_000)
    assert response.committed_offset == 7
    assert [controllers[node].calls.count("CreateTopics") for node in (1, 2, 3)] == [0, 1, 0]


async def test_one_address_is_enough(world: World) -> None:
    quorum, controllers, _ = world
    quorum.elect(3)
    client = ControllerClient([controllers[1].address])
    assert (await client.create_topics(CreateTopicsRequest(), 2_000)).committed_offset == 7
    assert set(client.controllers.addresses) == {each.address for each in controllers.values()}
    await client.close()


async def test_controllers_that_came_later_are_known_when_the_leader_dies(world: World) -> None:
    quorum, controllers, _ = world
    later = {node: quorum.controllers.pop(NodeId(node)) for node in (2, 3)}
    quorum.elect(1)
    client = ControllerClient([controllers[1].address])
    await client.create_topics(CreateTopicsRequest(), 2_000)
    assert client.controllers.addresses == (controllers[1].address,)
    quorum.controllers.update({NodeId(node): each for node, each in later.items()})
    await client.controllers.learn()
    await controllers[1].server.stop(grace_ms=0)
    await client.controllers.learn()  # In vain, and no harm.
    quorum.elect(3)
    assert (await client.create_topics(CreateTopicsRequest(), 5_000)).committed_offset == 7
    await client.close()


async def test_addresses_that_come_and_go_for_years_make_room_for_others(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(2)
    await client.create_topics(CreateTopicsRequest(), 2_000)
    for port in range(1, 3 * NODES_MAX):
        client.controllers._add(f"127.0.0.1:{port}", NodeId(4))
    addresses = client.controllers.addresses
    assert len(addresses) == NODES_MAX
    assert {each.address for each in controllers.values()} <= set(addresses)
    assert addresses[-1] == f"127.0.0.1:{3 * NODES_MAX - 1}"


async def test_a_hint_is_followed(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    await client.create_topics(CreateTopicsRequest(), 2_000)
    asked = sum(each.calls.count("FindController") for each in controllers.values())
    quorum.elect(2)
    await client.create_topics(CreateTopicsRequest(), 2_000)
    assert controllers[2].calls.count("CreateTopics") == 1
    assert sum(each.calls.count("FindController") for each in controllers.values()) == asked


async def test_a_change_waits_for_an_election(world: World) -> None:
    quorum, _, client = world
    change = asyncio.create_task(client.create_topics(CreateTopicsRequest(), 5_000))
    for _ in range(20):
        await asyncio.sleep(0)
    quorum.elect(1)
    assert (await change).committed_offset == 7


async def test_no_leader_in_time_is_a_definite_failure(world: World) -> None:
    _, controllers, client = world
    with pytest.raises(UnreachableError, match=r"no active controller within 1\d\d ms"):
        await client.create_topics(CreateTopicsRequest(), 150)
    assert not any("CreateTopics" in each.calls for each in controllers.values())


async def test_nobody_there() -> None:
    spare = GrpcServer("127.0.0.1", 0)
    client = ControllerClient([f"127.0.0.1:{spare.port}"])
    await spare.start()
    await spare.stop(grace_ms=0)
    with pytest.raises(UnreachableError):
        await client.create_topics(CreateTopicsRequest(), 200)
    with pytest.raises(UnreachableError):
        await client.describe_cluster(DescribeClusterRequest(), 200)
    await client.close()


async def test_a_killed_leader_is_replaced_within_milliseconds(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    await client.create_topics(CreateTopicsRequest(), 2_000)
    await controllers[1].server.stop(grace_ms=0)
    change = asyncio.create_task(client.allocate_producer_ids(AllocateProducerIdsRequest(), 5_000))
    while controllers[2].calls.count("FindController") < 2:
        await asyncio.sleep(0.001)
    started = time.perf_counter()
    quorum.elect(2)
    await change
    assert time.perf_counter() - started < 0.5, "polled or backed off instead of being told"


@pytest.mark.parametrize(
    "failure",
    [
        NotControllerError(NO_NODE, Epoch(1)),
        OverloadedError("INBOX_MAX events are waiting"),
    ],
)
async def test_a_definite_refusal_is_tried_again(world: World, failure: KlammError) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].failures = [failure]
    quorum.epoch = Epoch(1)
    change = asyncio.create_task(client.create_topics(CreateTopicsRequest(), 5_000))
    while not controllers[1].calls.count("CreateTopics"):
        await asyncio.sleep(0.001)
    quorum.elect(1)
    await change
    assert controllers[1].calls.count("CreateTopics") == 2


async def test_who_was_sent_elsewhere_goes_there_without_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writes of a client stand still for as long as leadership is handed over, no longer."""

    def pause_s(_: object) -> float:
        raise AssertionError("paused, and knew where to go")

    monkeypatch.setattr("klamm.client.client._usual_pause_s", pause_s)
    quorum, controllers, client = world
    quorum.elect(1)
    await client.create_topics(CreateTopicsRequest(), 5_000)
    quorum.elect(2)
    await client.create_topics(CreateTopicsRequest(), 5_000)
    assert controllers[1].calls.count("CreateTopics") == 2
    assert controllers[2].calls.count("CreateTopics") == 1


async def test_an_unknown_outcome_is_never_tried_again(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].failures = [CommitUnknownError("leadership was lost")]
    with pytest.raises(CommitUnknownError):
        await client.create_topics(CreateTopicsRequest(), 2_000)
    assert controllers[1].calls.count("CreateTopics") == 1


async def test_a_lost_answer_is_an_unknown_outcome(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].hang.clear()
    change = asyncio.create_task(client.create_topics(CreateTopicsRequest(), 5_000))
    while not controllers[1].calls.count("CreateTopics"):
        await asyncio.sleep(0.001)
    await controllers[1].server.stop(grace_ms=0)
    with pytest.raises(CommitUnknownError, match="may have happened"):
        await change


async def test_what_is_idempotent_is_sent_again_after_an_unknown_outcome(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].failures = [CommitUnknownError("leadership was lost")]
    answer = await client.allocate_producer_ids(AllocateProducerIdsRequest(), 2_000)
    assert answer.first_producer_id == 1_000
    assert controllers[1].calls.count("AllocateProducerIds") == 2


@pytest.mark.parametrize("told", [True, False])
async def test_a_paused_leader_is_left_once_another_leads(world: World, told: bool) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].hang.clear()
    call = asyncio.create_task(client.allocate_producer_ids(AllocateProducerIdsRequest(), 5_000))
    while not controllers[1].calls.count("AllocateProducerIds"):
        await asyncio.sleep(0.001)
    quorum.elect(2)
    if told:
        client.controllers.heard(NodeId(2), quorum.epoch)
    await call
    assert controllers[2].calls.count("AllocateProducerIds") == 1
    controllers[1].hang.set()


@pytest.mark.parametrize(
    "failure",
    [
        ApiError(ErrorCode.DUPLICATE_BROKER_REGISTRATION, "broker 1 is another process"),
        BadRequestError({"topics[0].name": "is empty"}),
    ],
)
async def test_a_final_refusal_comes_through_whole(world: World, failure: KlammError) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    controllers[1].failures = [failure]
    with pytest.raises(type(failure)) as caught:
        await client.create_topics(CreateTopicsRequest(), 2_000)
    assert str(caught.value) == str(failure)
    assert controllers[1].calls.count("CreateTopics") == 1


async def test_queries_outlive_their_controller(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    await client.describe_cluster(DescribeClusterRequest(), 2_000)
    (served,) = (each for each in controllers.values() if "DescribeCluster" in each.calls)
    await served.server.stop(grace_ms=0)
    response = await client.describe_cluster(DescribeClusterRequest(), 2_000)
    assert response.header.responder_id != served.node_id


async def test_a_watch_goes_on_elsewhere_from_where_it_was(world: World) -> None:
    _, controllers, client = world
    seen: list[int] = []
    async for response in client.watch(Offset(10), timeout_ms=2_000):
        seen.append(response.header.offset)
        if len(seen) == 6:
            break
    assert seen == [11, 12, 13, 14, 15, 16]
    calls = [call for each in controllers.values() for call in each.calls]
    assert sorted(calls) == ["Watch 10", "Watch 13"]


async def test_a_session_hears_and_is_refused(world: World) -> None:
    quorum, _, client = world
    quorum.elect(1)
    quorum.broker_epochs[0] = 0
    stream = await client.open_session(2_000)
    await stream.send(SessionRequest(want_fence=True))
    assert (await stream.receive()).is_fenced
    quorum.elect(2)
    await stream.send(SessionRequest())
    with pytest.raises(NotControllerError) as caught:
        await stream.receive()
    client.session_broke(stream, caught.value)
    assert client.controllers.leader is not None
    assert client.controllers.leader.node_id == 2


async def test_a_session_breaks_with_its_controller(world: World) -> None:
    quorum, controllers, client = world
    quorum.elect(1)
    stream = await client.open_session(2_000)
    quorum.broker_epochs[0] = 0
    await stream.send(SessionRequest())
    await stream.receive()
    await controllers[1].server.stop(grace_ms=0)
    with pytest.raises(KlammError) as caught:
        await stream.receive()
    client.session_broke(stream, caught.value)
    assert client.controllers.leader is None


async def backed_up(client: ControllerClient) -> list[bytes]:
    """The chunks, as they came."""
    return [
        each.chunk if each.position else b"<" + each.chunk
        async for each in client.backup(timeout_ms=20_000)
    ]


async def test_a_backup_that_breaks_begins_anew_elsewhere(world: World) -> None:
    _, controllers, client = world
    assert await backed_up(client) == [b"<one", b"two"]
    for each in controllers.values():
        each.calls.clear()
        each.failures.append(OverloadedError("BACKUPS_MAX"))
    assert await backed_up(client) == [b"<one"] * 3 + [b"<one", b"two"]
    assert sorted(each.calls.count("Backup") for each in controllers.values()) == [1, 1, 2]


async def test_a_backup_that_ends_too_early_is_none(world: World) -> None:
    _, controllers, client = world
    for each in controllers.values():
        each.cut_short = True
    with pytest.raises(UnreachableError, match="no controller sends a backup"):
        async for _ in client.backup(timeout_ms=0):
            pass


async def test_a_backup_that_is_refused_for_good_is_not_asked_for_again(world: World) -> None:
    _, controllers, client = world
    for each in controllers.values():
        each.failures.append(ApiError(ErrorCode.UNSUPPORTED_VERSION, "what is that?"))
    with pytest.raises(ApiError, match="what is that"):
        await backed_up(client)
    assert sum(each.calls.count("Backup") for each in controllers.values()) == 1
