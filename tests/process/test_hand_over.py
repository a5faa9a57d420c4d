"""Leadership of the quorum handed over under a writing load, with real processes."""

import asyncio

import pytest

from klamm.client.client import ControllerClient
from klamm.errors import IndefiniteError, KlammError
from klamm.v1 import admin_pb2, metadata_pb2
from tests.process.running import Running

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WRITERS = 4
TRANSFERS = 6
BETWEEN = 12
"""Acknowledged writes between two transfers."""

PAUSE_S = 0.02
"""Of a writer between two: some hundred topics, and not thousands that others must wait for."""

CALL_MS = 30_000


class Load:
    """Topics created one after the other, each by a name of its own, and what was answered."""

    def __init__(self, client: ControllerClient, prefix: str = "hand-over-") -> None:
        self._client = client
        self._prefix = prefix
        self._count = 0
        self.acknowledged: set[str] = set()
        self.refused: list[str] = []
        self.unknown: set[str] = set()
        self.ending = False

    async def write(self) -> None:
        """Until `ending`."""
        while not self.ending:
            self._count += 1
            name = f"{self._prefix}{self._count}"
            topic = admin_pb2.NewTopic(name=name, num_partitions=1, replication_factor=1)
            request = admin_pb2.CreateTopicsRequest(topics=[topic])
            try:
                (result,) = (await self._client.create_topics(request, CALL_MS)).results
            except IndefiniteError:
                self.unknown.add(name)
            except KlammError as error:
                self.refused.append(f"{name}: {error}")
            else:
                # One that was tried again after it had happened would be told that it is there.
                assert result.error_code == 0, f"{name} happened twice: {result.error_message}"
                self.acknowledged.add(name)
            await asyncio.sleep(PAUSE_S)

    async def wait_acknowledged(self, more: int) -> None:
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(CALL_MS / 1_000):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.01)


async def hand_over_under_load(addresses: list[str]) -> Load:
    client, other = ControllerClient(addresses), ControllerClient(addresses)
    load = Load(client)
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(load.write())
            for _ in range(TRANSFERS):
                await load.wait_acknowledged(BETWEEN)
                told = (await other.describe_quorum()).quorum
                target = next(each for each in (1, 2, 3) if each != told.leader_id)
                request = admin_pb2.TransferLeadershipRequest(voter_id=target)
                answer = await other.transfer_leadership(request, CALL_MS)
                assert answer.leader_id == target
                assert answer.leader_epoch > told.leader_epoch
            await load.wait_acknowledged(BETWEEN)
            load.ending = True
        await check(client, load)
    finally:
        await client.close()
        await other.close()
    return load


async def check(client: ControllerClient, load: Load) -> None:
    """What was acknowledged is there, and nothing that was not asked for or was refused.

    It is all deleted then: the cluster serves other tests too.
    """
    there: set[str] = set()
    token = ""
    while True:
        request = metadata_pb2.ListTopicsRequest(name_prefix="hand-over-", page_token=token)
        answer = await client.list_topics(request)
        there |= {each.name for each in answer.topics}
        if not (token := answer.next_page_token):
            break
    assert load.acknowledged <= there
    assert there <= load.acknowledged | load.unknown
    references = [admin_pb2.TopicReference(name=each) for each in sorted(there)]
    for first in range(0, len(references), 500):
        some = references[first : first + 500]
        await client.delete_topics(admin_pb2.DeleteTopicsRequest(topics=some))


def test_no_write_is_lost_or_doubled_while_leadership_moves(cluster: Running) -> None:
    addresses = list(cluster.cluster.controller_addresses)
    load = cluster.do(hand_over_under_load(addresses), 150)
    assert load.refused == []
    # Nothing died: leadership is given up when all is committed, so all get their answer.
    assert load.unknown == set()
    assert len(load.acknowledged) >= TRANSFERS * BETWEEN


async def stop_under_load(cluster: Running) -> Load:
    addresses = list(cluster.cluster.controller_addresses)
    client, other = ControllerClient(addresses), ControllerClient(addresses)
    load = Load(client, "hand-over-stop-")
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(load.write())
            for _ in range(2):
                await load.wait_acknowledged(BETWEEN)
                leader = (await other.describe_quorum()).quorum.leader_id
                await cluster.cluster.stop_node(f"controller-{leader}")
                await load.wait_acknowledged(BETWEEN)
                assert (await other.describe_quorum()).quorum.leader_id != leader
                await cluster.cluster.start_node(f"controller-{leader}")
            load.ending = True
        await check(client, load)
    finally:
        await client.close()
        await other.close()
    return load


def test_a_leader_that_is_told_to_stop_hands_over_and_fails_no_write(cluster: Running) -> None:
    """Scenario 64; row 64."""
    load = cluster.do(stop_under_load(cluster), 150)
    assert (load.refused, load.unknown) == ([], set())


def test_a_stranger_gets_nothing_and_the_leader_stays(cluster: Running) -> None:
    """Refused by name, by whichever controller was asked."""

    async def conversation() -> None:
        client = ControllerClient(list(cluster.cluster.controller_addresses))
        try:
            before = (await client.describe_quorum()).quorum
            with pytest.raises(KlammError, match="controller 9 is no voter; 1, 2, 3 are"):
                await client.transfer_leadership(admin_pb2.TransferLeadershipRequest(voter_id=9))
            after = (await client.describe_quorum()).quorum
            assert (after.leader_id, after.leader_epoch) == (before.leader_id, before.leader_epoch)
        finally:
            await client.close()

    cluster.do(conversation())
