"""All voters lose power at once, and each its unsynced sectors in any order (scenarios 27, 37, 38).

What is left on each disk may have holes with whole batches behind them. Nothing that was
acknowledged is among it, so the quorum comes back by itself, with all of it.
"""

import asyncio
from pathlib import Path

import pytest

from controller.quorum.opening import METADATA_LOG
from klamm.ids import Offset
from klamm.log import recovery
from klamm.log.recovery import whole_batch_in
from klamm.log.verify import find_damage
from tests.sim.driver.clients import Clients
from tests.sim.driver.scenario import settle
from tests.sim.driver.world import Node, World, run
from tests.sim.planting import Mutant, planted

SEEDS = {1: 30, 3: 18, 5: 10}
"""By the number of voters."""
SLOW_S = (0.05, 0.15)
"""A sync; so that much is written meanwhile, and waits for the next one."""
UNSYNCED_BYTES = 5_000
VALUE_BYTES = 400
"""A batch is about a sector."""


def last_segment(disk: dict[Path, bytes]) -> tuple[Path, bytes]:
    found = [each for each in disk.items() if each[0].match(f"{METADATA_LOG}/*.log")]
    return found[-1]


def has_hole(node: Node) -> bool:
    """Is a batch of the last segment lost, and a later one is not?"""
    path, content = last_segment(node.files.durable())
    damage = find_damage(content, Offset(int(path.stem)), epochs_sealed=True)
    return damage is not None and whole_batch_in(content[damage[0] :], Offset(0)) is not None


def unsynced_bytes(node: Node) -> int:
    path, content = last_segment(node.files.snapshot())
    durable = node.files.durable().get(path, b"")
    return len(content.rstrip(b"\0")) - len(durable.rstrip(b"\0"))


async def write_much(world: World, clients: Clients) -> None:
    """Until cancelled: each few milliseconds through who claims to lead."""
    while True:
        await asyncio.sleep(world.rng.uniform(0.001, 0.01))
        for node in world.nodes:
            if node.claims:
                clients.propose(node, value_bytes=VALUE_BYTES)


def all_lose_power(seed: int, size: int) -> int:
    """How many disks have a hole with whole batches behind it."""
    holed: list[int] = []

    async def main(world: World) -> None:
        clients, history = Clients(world), world.history
        for node in world.nodes:
            node.files.scatters = True
            node.start()
        work = world.loop.create_task(write_much(world, clients))
        await world.until(lambda: len(history.acknowledged) > 50, 10.0, "leader at the start")
        # Some bounds have been written by now, and some have not.
        await world.watch((work,), world.rng.uniform(0.0, 3.0))
        world.loop.disk_s.update({str(node.id): SLOW_S for node in world.nodes})
        await world.until(
            lambda: sum(unsynced_bytes(each) > UNSYNCED_BYTES for each in world.nodes) > size // 2,
            5.0,
            "majority with much that is not synced",
        )
        work.cancel()
        for node in world.nodes:
            node.cut_power()
        holed.append(sum(has_hole(node) for node in world.nodes))
        world.loop.disk_s.clear()
        for node in world.nodes:
            node.start()
        await world.until(lambda: all(each.running for each in world.nodes), 5.0, "start of all")
        assert not any(each.quorum and each.quorum.recovering for each in world.nodes)
        await settle(world, clients)

    run(seed, main, size=size)
    return holed[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", SEEDS)
def test_they_come_back_by_themselves_with_all_that_was_acknowledged(size: int) -> None:
    holed = [all_lose_power(seed, size) for seed in range(SEEDS[size])]
    assert sum(each > size // 2 for each in holed) > len(holed) / 5, holed


def test_without_telling_holes_from_damage_nobody_would_have_a_say() -> None:
    """It is what the test above is about: with it planted, it fails."""
    strict = Mutant(
        "holes are damage",
        "whole batches behind it prove that a batch was durable",
        lambda: [(recovery, "was_not_written", lambda *_: False)],
    )
    with planted(strict):
        failed = sum(fails(seed) for seed in range(10))
    assert failed > 2


def fails(seed: int) -> bool:
    try:
        all_lose_power(seed, 3)
    except (AssertionError, ExceptionGroup):
        return True
    return False
