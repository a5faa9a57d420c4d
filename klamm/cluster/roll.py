"""Restarts the nodes of a cluster one by one, so that it never stops serving.

standby controllers ─▶ leadership to the first of them ─▶ the former leader ─▶ brokers

Before each step, and at the end, all must be well; if it is not in time, the roll ends there, with
at most one node's worth of trouble. So leadership of the quorum moves once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from klamm.errors import StartError, UnreachableError

HEALTHY_S = 60.0
"""All must be well again within so long of a restart."""

POLL_S = 0.1

Say = Callable[[str], None]


class Rolling(Protocol):
    """What is done to the cluster."""

    async def leader(self) -> int:
        """The active controller's node id. Raises: UnreachableError."""
        ...

    async def hand_over(self, to: int) -> None:
        """Returns once controller `to` leads. Raises: KlammError: It does not."""
        ...

    async def restart(self, name: str) -> None:
        """Stop a node in order, and start it; it serves on return. Raises: StartError."""
        ...

    async def ailments(self) -> Sequence[str]:
        """What is amiss, in sentences; empty if all is well. Raises: UnreachableError."""
        ...


async def roll(
    cluster: Rolling,
    controllers: Sequence[int],
    brokers: Sequence[int],
    say: Say,
    healthy_s: float = HEALTHY_S,
) -> None:
    """Restart all of them, telling `say` what was done.

    Args:
        cluster: What it is done to.
        controllers: Node ids.
        brokers: Node ids.
        say: Gets one line a step.
        healthy_s: How long may pass between a restart and a cluster that is well.

    Raises:
        StartError: The cluster was not well in time, or a node did not come up; nodes after that
            were left alone.
        KlammError: No other controller could take over.
    """
    await _wait_well(cluster, "before anything was restarted", healthy_s)
    active = await cluster.leader()
    for node in [each for each in controllers if each != active]:
        await _restart(cluster, f"controller-{node}", say, healthy_s)
    if len(controllers) > 1:
        # Somebody may have been elected meanwhile: then there is nothing to hand over.
        heir = next(each for each in controllers if each != active)
        if await cluster.leader() == active:
            await cluster.hand_over(heir)
            say(f"controller-{heir} leads")
    await _restart(cluster, f"controller-{active}", say, healthy_s)
    for node in brokers:
        await _restart(cluster, f"broker-{node}", say, healthy_s)


async def _restart(cluster: Rolling, name: str, say: Say, healthy_s: float) -> None:
    await cluster.restart(name)
    await _wait_well(cluster, f"after {name} was restarted", healthy_s)
    say(f"{name} restarted")


async def _wait_well(cluster: Rolling, when: str, healthy_s: float) -> None:
    wrong: Sequence[str] = ("nothing is known of it",)
    try:
        async with asyncio.timeout(healthy_s):
            while wrong := await _ailments(cluster):  # noqa: ASYNC110 - other processes, no Event
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise StartError(
            f"The cluster was not well within {healthy_s:g} s, {when}: {'; '.join(wrong)}."
        ) from None


async def _ailments(cluster: Rolling) -> Sequence[str]:
    try:
        return await cluster.ailments()
    except UnreachableError as error:
        return (str(error),)
