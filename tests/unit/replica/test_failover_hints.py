"""What a broker knows of another's death before and just after the controllers say so."""

import asyncio
from dataclasses import replace
from pathlib import Path

from broker.replica.fenced import JUST_FENCED_MS
from broker.replica.link import Link
from broker.replica.manager import SUSPICION_MS_MAX
from tests.unit.api.worlds import EPOCHS, ME, TWO, Replicas, partition_image
from tests.unit.replica.test_manager import until


class BreakingLink:
    """A link that breaks when told."""

    def __init__(self) -> None:
        self.breaks = asyncio.Event()

    async def fetch(self, request: object, timeout_ms: int) -> object:
        await self.breaks.wait()
        raise ConnectionResetError("the leader's connection is gone")

    def close(self) -> None:
        self.breaks.set()


def fence(replicas: Replicas, *, fenced: bool = True) -> None:
    two = replace(replicas.image.brokers[TWO], fenced=fenced)
    replicas.image = replace(replicas.image, brokers=replicas.image.brokers.set(TWO, two))
    replicas.publish(partition_image(leader=TWO, replicas=(ME, TWO)))


async def following_two(tmp_path: Path) -> tuple[Replicas, BreakingLink, asyncio.Task[None]]:
    link = BreakingLink()

    async def connect(host: str, port: int) -> Link:
        if link.breaks.is_set():
            raise ConnectionRefusedError("nobody there")
        return link  # type: ignore[return-value]

    replicas = Replicas(tmp_path, node_id=str(ME))
    replicas.broker_epoch = EPOCHS[ME]
    replicas.manager._fetchers._connect = connect
    running = asyncio.create_task(replicas.manager.run())
    replicas.publish(partition_image(leader=TWO, replicas=(ME, TWO)))
    for _ in range(20):
        await asyncio.sleep(0)
    return replicas, link, running


async def test_a_broken_connection_makes_a_suspect_until_the_controllers_say(
    tmp_path: Path,
) -> None:
    replicas, link, running = await following_two(tmp_path)
    assert not replicas.manager.suspects()
    link.breaks.set()
    await until(replicas.manager.suspects)
    fence(replicas)
    assert not replicas.manager.suspects(), "it is known now"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_suspicion_passes(tmp_path: Path) -> None:
    replicas, link, running = await following_two(tmp_path)
    link.breaks.set()
    await until(replicas.manager.suspects)
    replicas.clock.now_ms += SUSPICION_MS_MAX + 1
    assert not replicas.manager.suspects(), "a cut link between two that live"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_fenced_broker_is_remembered_for_a_moment(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path, node_id=str(ME))
    replicas.publish(partition_image(leader=TWO, replicas=(ME, TWO)))
    assert replicas.manager.just_fenced() == ()
    fence(replicas)
    assert replicas.manager.just_fenced() == (TWO,)
    replicas.clock.now_ms += JUST_FENCED_MS + 1
    assert replicas.manager.just_fenced() == ()


def test_a_broker_that_is_back_was_not_just_fenced(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path, node_id=str(ME))
    replicas.publish(partition_image(leader=TWO, replicas=(ME, TWO)))
    fence(replicas)
    fence(replicas, fenced=False)
    assert replicas.manager.just_fenced() == ()
