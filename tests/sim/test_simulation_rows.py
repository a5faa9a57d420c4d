"""Kafka's simulated histories, one by one (kraft 6.1, rows 1 to 6), with the real shell.

Rows 8 to 14 are invariants, which both simulators look at after every step; 7 is a disk that is
lost: docs/testing.md says who holds what.
"""

from collections.abc import Awaitable, Callable, Iterable

import pytest

from tests.sim.driver.clients import Clients
from tests.sim.driver.world import Node, World, run

SEEDS = range(4)
SOON_S = 10.0
"""Simulated; usual is below one second."""


class Group:
    """Everybody started, and one client that proposes to whoever claims to lead."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._clients = Clients(world)
        for node in world.nodes:
            node.start()

    @property
    def end(self) -> int:
        """Of what is committed, as far as anybody knows."""
        return self.world.history.end

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it, and propose all the while."""

        def holds() -> bool:
            for node in self.world.nodes:
                if node.claims:
                    self._clients.propose(node)
            return condition()

        await self.world.until(holds, SOON_S, what)

    async def pass_by(self, nodes: Iterable[Node], records: int) -> None:
        """All of these know of so many more committed records than anybody does now."""
        goal, those = self.end + records, list(nodes)
        await self.until(
            lambda: all(each.running and each.recorder.end > goal for each in those),
            f"{[each.id for each in those]} beyond {goal}",
        )

    async def leader(self, *, but: Node | None = None) -> Node:
        def found() -> list[Node]:
            return [node for node in self.world.nodes if node.claims and node is not but]

        await self.until(lambda: bool(found()), "leader")
        return found()[0]

    def others(self, *those: Node) -> list[Node]:
        return [node for node in self.world.nodes if node not in those]

    def part(self, side: Iterable[Node], *, heal: bool = False) -> None:
        """Nothing goes between one side and the other; or all of it again."""
        one = list(side)
        change = self.world.network.heal if heal else self.world.network.cut
        for node in one:
            for other in self.others(*one):
                change(node.id, other.id)
                change(other.id, node.id)


def simulated(seed: int, size: int, story: Callable[[Group], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        await story(Group(world))

    run(seed, main, size=size)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_row_1_an_initial_leader_is_elected(size: int) -> None:
    async def story(group: Group) -> None:
        await group.pass_by(group.world.nodes, 10)
        assert sum(node.claims for node in group.world.nodes) == 1

    for seed in SEEDS:
        simulated(seed, size, story)


@pytest.mark.parametrize("in_order", [True, False])
def test_row_2_the_leaders_end_is_followed_by_another(*, in_order: bool) -> None:
    async def story(group: Group) -> None:
        old = await group.leader()
        await group.pass_by(group.world.nodes, 10)
        if in_order:
            await old.stop()
        else:
            old.kill()
        await group.pass_by(group.others(old), 20)
        await group.until(lambda: not old.alive, "end of the old leader")
        old.start()
        await group.pass_by(group.world.nodes, 10)

    for seed in SEEDS:
        simulated(seed, 3, story)


@pytest.mark.parametrize(("size", "majority"), [(3, 2), (5, 3)])
def test_row_3_a_bare_majority_goes_on_after_all_were_killed(size: int, majority: int) -> None:
    async def story(group: Group) -> None:
        await group.pass_by(group.world.nodes, 10)
        before = group.end
        for node in group.world.nodes:
            node.kill()
        back = group.world.nodes[-majority:]
        for node in back:
            node.start()
        await group.pass_by(back, 10)
        assert group.end > before

    for seed in SEEDS:
        simulated(seed, size, story)


def test_row_4_a_leader_that_is_parted_from_the_rest_commits_nothing() -> None:
    async def story(group: Group) -> None:
        old = await group.leader()
        await group.pass_by(group.world.nodes, 10)
        group.part([old])
        await group.leader(but=old)
        ended = group.end
        await group.pass_by(group.others(old), 20)
        assert old.recorder.end <= ended
        group.part([old], heal=True)
        await group.pass_by(group.world.nodes, 10)

    for seed in SEEDS:
        simulated(seed, 3, story)


def test_row_5_the_majority_goes_on_and_the_minority_joins_it_again() -> None:
    async def story(group: Group) -> None:
        old = await group.leader()
        await group.pass_by(group.world.nodes, 10)
        fewer = [old, group.others(old)[0]]
        more = group.others(*fewer)
        group.part(fewer)
        await group.leader(but=old)
        ended = group.end
        await group.pass_by(more, 20)
        assert all(each.recorder.end <= ended for each in fewer)
        group.part(fewer, heal=True)
        await group.pass_by(group.world.nodes, 10)

    for seed in SEEDS:
        simulated(seed, 5, story)


def test_row_6_one_leader_after_the_other_is_lost() -> None:
    """The second is parted from the rest in the moment in which the first is back."""

    async def story(group: Group) -> None:
        first = await group.leader()
        await group.pass_by(group.world.nodes, 10)
        group.part([first])
        second = await group.leader(but=first)
        await group.pass_by(group.others(first), 10)
        group.part([first], heal=True)
        group.part([second])
        await group.pass_by(group.others(second), 10)
        group.part([second], heal=True)
        await group.pass_by(group.world.nodes, 10)

    for seed in SEEDS:
        simulated(seed, 3, story)
