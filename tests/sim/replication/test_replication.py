"""Nothing acknowledged is lost, and no offset has two values, whatever happens; and it goes on."""

import pytest

from tests.sim.replication.world import Broker, World

SEEDS = range(60)
ROUNDS = 60


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost(seed: int) -> None:
    world = run_seed(seed)
    assert world.acked, "nothing was ever acknowledged"


def test_a_seed_is_a_history() -> None:
    assert run_seed(7).trace == run_seed(7).trace


def run_seed(seed: int, **planted: bool) -> World:
    world = World(seed)
    for name, value in planted.items():
        setattr(world, name, value)
    world.run(200)
    for _ in range(ROUNDS):
        shake(world)
        world.run(world.rng.randint(5, 300))
    heal(world)
    world.run(4_000)
    before = [client.sequence for client in world.clients]
    world.run(1_000)
    assert all(now.sequence > then for now, then in zip(world.clients, before, strict=True)), (
        "the partition does not take writes any more"
    )
    world.clients = []
    world.run(1_500)
    world.check_end()
    return world


def shake(world: World) -> None:
    """One random misfortune, or the end of one."""
    victim: Broker = world.rng.choice(list(world.brokers.values()))
    match world.rng.randint(0, 10):
        case 0 | 1 if victim.partition is not None:
            world.crash(victim, loses=world.rng.random() < 0.6)
        case 0 | 1 | 2 if victim.partition is None:
            world.restart(victim)
        case 3:
            world.isolate(victim)
        case 4:
            for broker in world.brokers.values():
                world.reconnect(broker)
        case 5 | 6:
            world.controller.move_leader(victim.id)
        case 7 if victim.partition is not None and victim.id in world.controller.now.active:
            # A session lost, though the broker lives: fenced, and back in a while.
            world.controller.fence(victim.id)
            life = victim.life
            world.after(world.rng.randint(20, 400), lambda: world.on_ready(victim, life))
        case 8:
            world.drop = world.rng.choice((0.0, 0.05, 0.3))
        case 9:
            other = world.rng.choice([each for each in world.brokers if each != victim.id])
            world.cuts ^= {frozenset((victim.id, other))}
        case 10:
            victim.unheard = not victim.unheard


def heal(world: World) -> None:
    world.drop = 0.0
    world.deaf = 0.5
    world.cuts = set()
    for broker in world.brokers.values():
        broker.unheard = False
        if broker.partition is None:
            world.restart(broker)
        world.reconnect(broker)
