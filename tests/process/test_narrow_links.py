"""Scenario 55: links of 1 Mbit/s, on which a snapshot takes longer than every timeout."""

from pathlib import Path

import pytest

from klamm.client.client import ControllerClient
from klamm.errors import KlammError
from klamm.v1 import admin_pb2 as admin
from tests.process.namespaces.clients import set_config
from tests.process.namespaces.controllers import IDS, Controllers, wait_for
from tests.process.namespaces.network import Unavailable, network

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

BITS_PER_SECOND = 1_000_000
FETCH_TIMEOUT_MS = 3_000
TOPICS = 3_000
TOPICS_A_CALL = 500
NAME = "long-" * 45 + "{:06}"
"""A topic is its name, almost: 3,000 of them are 900 KB, and these take seven seconds."""

KEYS = {
    "controller.quorum.fetch.timeout.ms": str(FETCH_TIMEOUT_MS),
    "metadata.log.segment.bytes": "65536",
    "metadata.log.max.record.bytes.between.snapshots": "200000",
    "metadata.max.retention.bytes": "100000",
}
INSTALLED = "snapshot installed"
TRIMMED = "the metadata log begins at a later snapshot"
TRIES = 3
DEADLINE_S = 90.0
MS_A_CALL = 30_000
WRITES_MIN = 3


async def test_a_snapshot_on_a_narrow_link_starves_nobody(tmp_path: Path) -> None:
    """While it goes over the link there are no elections, and writes are acknowledged."""
    try:
        with network(IDS) as net:
            net.narrow(IDS[0], BITS_PER_SECOND)
            net.widen(IDS[0])
            controllers = Controllers(tmp_path / "run", net, keys=KEYS)
            client = ControllerClient(list(controllers.addresses.values()))
            try:
                await starves_nobody(controllers, client)
            finally:
                await client.close()
                await controllers.close()
            assert not controllers.tracebacks()
    except Unavailable as why:
        pytest.skip(str(why))


class Writer:
    """Sets a config of topics: of one, or of so many that a snapshot is due soon."""

    def __init__(self, client: ControllerClient) -> None:
        self._client = client
        self._value = 1_000_000

    async def write(self, topics: int = 1) -> None:
        """Raises: KlammError: Nobody may have led."""
        self._value += 1
        request = admin.IncrementalAlterConfigsRequest()
        for each in range(topics):
            request.MergeFrom(set_config(NAME.format(each), str(self._value)))
        answer = await self._client.incremental_alter_configs(request, MS_A_CALL)
        assert all(each.error_code == 0 for each in answer.results)


async def starves_nobody(controllers: Controllers, client: ControllerClient) -> None:
    await controllers.start(*IDS)
    await controllers.wait_leader(DEADLINE_S)
    await create_topics(controllers, client)
    told = [await download(controllers, client)]
    while told[-1] and len(told) < TRIES:
        # A machine that stood still for a timeout has the same effect once, and not again.
        told.append(await download(controllers, client))
    assert not told[-1], told


async def download(controllers: Controllers, client: ControllerClient) -> str:
    """A follower that was away gets a snapshot on narrow links; what went wrong, or nothing."""
    leader, writer = await controllers.wait_leader(DEADLINE_S), Writer(client)
    late, *others = sorted(IDS, key=lambda each: each == leader)
    installed = controllers.log(late).count(INSTALLED)
    trims = {each: controllers.log(each).count(TRIMMED) for each in others}
    await controllers.stop(late)

    async def trimmed() -> bool | None:
        try:
            await writer.write(TOPICS_A_CALL)
        except KlammError:
            return None
        return all(controllers.log(each).count(TRIMMED) > trims[each] for each in others) or None

    await wait_for(trimmed, "the others' logs to begin later", DEADLINE_S)
    before = (await client.describe_quorum()).quorum
    for each in IDS:
        controllers.network.narrow(each, BITS_PER_SECOND)
    await controllers.start(late)
    writes = 0

    async def written_until_installed() -> bool | None:
        nonlocal writes
        try:
            await writer.write()
        except KlammError:
            return None
        writes += 1
        return controllers.log(late).count(INSTALLED) > installed or None

    await wait_for(written_until_installed, "a snapshot to be installed", DEADLINE_S)
    for each in IDS:
        controllers.network.widen(each)
    after = (await client.describe_quorum()).quorum
    if (after.leader_epoch, after.leader_id) != (before.leader_epoch, before.leader_id):
        return f"an election: {before.leader_epoch} became {after.leader_epoch}"
    return "" if writes > WRITES_MIN else f"only {writes} writes"


async def create_topics(controllers: Controllers, client: ControllerClient) -> None:
    """By a broker that is there for nothing else, and goes."""
    await controllers.broker.start()
    try:
        for start in range(0, TOPICS, TOPICS_A_CALL):
            topics = [
                admin.NewTopic(name=NAME.format(each), num_partitions=1, replication_factor=1)
                for each in range(start, start + TOPICS_A_CALL)
            ]
            request = admin.CreateTopicsRequest(topics=topics)

            async def created(request: admin.CreateTopicsRequest = request) -> bool | None:
                try:
                    answer = await client.create_topics(request, MS_A_CALL)
                except KlammError:
                    return None
                return all(each.error_code == 0 for each in answer.results) or None

            await wait_for(created, "topics to be created", DEADLINE_S)
    finally:
        await controllers.broker.kill()
