"""One run: trouble for a while, then peace, then every disk's word against what was promised."""

import asyncio

from tests.sim.driver.clients import Clients
from tests.sim.driver.troubles import Troubles
from tests.sim.driver.world import World, run

SIZES = (3, 3, 3, 5, 3, 3, 5, 1)
"""Voters, by the seed."""

TROUBLE_S = 17.0
PEACE_S = 10.0
"""Until a proposal commits, and all nodes know of it; of which two seconds are used, mostly."""


async def trouble_and_peace(world: World) -> None:
    clients, troubles = Clients(world), Troubles(world)
    for node in world.nodes:
        node.start()
    work = [
        world.loop.create_task(each)
        for each in (
            clients.propose_for_ever(0.08),
            clients.read_for_ever(0.15),
            troubles.go_on(),
        )
    ]
    until_s = world.loop.time() + TROUBLE_S
    while world.loop.time() < until_s:
        await asyncio.sleep(0.1)
        world.check()
        for each in work:
            if each.done():
                each.result()
    for each in work:
        each.cancel()
    troubles.stop()
    await settle(world, clients)
    for node in world.nodes:
        node.cut_power()
    for node in world.nodes:
        node.start()
    await settle(world, clients)
    world.tell("end", world.history.end, world.loop.steps)


async def settle(world: World, clients: Clients) -> None:
    """A proposal is acknowledged, and every node is told of everything."""
    history = world.history
    known = len(history.acknowledged)

    def acknowledged() -> bool:
        for node in world.nodes:
            if node.claims and len(history.acknowledged) == known:
                clients.propose(node)
        return len(history.acknowledged) > known

    await world.until(acknowledged, PEACE_S, "proposal acknowledged in peace")

    def up_to_date() -> bool:
        for node in world.nodes:
            if not node.alive:  # It was stopping when peace came.
                node.start()
        return all(node.running and node.recorder.end == history.end for node in world.nodes)

    await world.until(up_to_date, PEACE_S, "node up to date in peace")
    for value, end in history.acknowledged.items():
        assert history.place.get(value) == end, f"{value!r} is lost"


def run_seed(seed: int) -> World:
    """Raises an AssertionError that says how to see it again."""
    size = SIZES[seed % len(SIZES)]
    try:
        return run(seed, trouble_and_peace, size=size)
    except Exception as error:
        raise AssertionError(
            f"seed {seed}: {type(error).__name__}: {error}\n"
            f"again: python -m tests.sim.driver.replay {seed}"
        ) from error
