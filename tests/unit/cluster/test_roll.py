"""A rolling restart: in which order, and when it stops."""

from collections.abc import Sequence

import pytest

from klamm.cluster.roll import roll
from klamm.errors import StartError, UnreachableError


class FakeCluster:
    def __init__(self, leader: int) -> None:
        self.leads = leader
        self.done: list[str] = []
        self.ill_after: str | None = None
        self.moments_until_well = 0
        self.left = 0

    async def leader(self) -> int:
        return self.leads

    async def hand_over(self, to: int) -> None:
        self.done.append(f"controller-{to} leads")
        self.leads = to

    async def restart(self, name: str) -> None:
        self.done.append(name)
        self.left = self.moments_until_well

    async def ailments(self) -> Sequence[str]:
        if self.done and self.done[-1] == self.ill_after:
            return ("broker-2 is on fire",)
        self.left -= 1
        if self.left == 1:
            raise UnreachableError("nobody leads")
        return ("not yet",) if self.left > 0 else ()


async def test_the_leader_is_last_of_the_controllers_and_hands_over_first() -> None:
    """Leadership moves once, to one that will not be restarted again."""
    cluster = FakeCluster(leader=1)
    cluster.moments_until_well = 3
    said: list[str] = []
    await roll(cluster, [1, 2, 3], [1, 2], said.append)
    assert cluster.done == [
        "controller-2",
        "controller-3",
        "controller-2 leads",
        "controller-1",
        "broker-1",
        "broker-2",
    ]
    assert said[2:4] == ["controller-2 leads", "controller-1 restarted"]


async def test_a_controller_alone_has_nobody_to_hand_over_to() -> None:
    cluster = FakeCluster(leader=1)
    await roll(cluster, [1], [1], lambda _: None)
    assert cluster.done == ["controller-1", "broker-1"]


async def test_what_does_not_get_well_stops_it() -> None:
    cluster = FakeCluster(leader=3)
    cluster.ill_after = "controller-1"
    with pytest.raises(StartError, match=r"after controller-1 was restarted: broker-2 is on fire"):
        await roll(cluster, [1, 2, 3], [1, 2], lambda _: None, healthy_s=0.3)
    assert cluster.done == ["controller-1"]
