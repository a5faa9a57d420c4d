"""The simulated loop itself: time jumps, order is the seed's, the dead stay dead."""

import asyncio

import pytest

from tests.sim.loop import Deadlock, SimulatedLoop, run


def test_an_hour_takes_no_time() -> None:
    async def world(loop: SimulatedLoop) -> float:
        await asyncio.sleep(3_600)
        async with asyncio.timeout(10):
            await asyncio.sleep(1)
        return loop.time()

    assert run(1, world) == 3_601


def test_timeouts_fire_in_simulated_time() -> None:
    async def world(_: SimulatedLoop) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_future()

    run(1, world)


def order(seed: int) -> list[str]:
    async def world(loop: SimulatedLoop) -> list[str]:
        seen: list[str] = []

        async def node(name: str) -> None:
            for turn in range(5):
                seen.append(f"{name}{turn}")
                await asyncio.sleep(0)

        await asyncio.gather(*(loop.spawn(name, node(name)) for name in "abc"))
        return seen

    return run(seed, world)


def test_same_seed_same_history_and_first_in_first_out_within_a_node() -> None:
    assert order(7) == order(7)
    assert len({tuple(order(seed)) for seed in range(8)}) > 1
    assert [each for each in order(3) if each[0] == "a"] == [f"a{turn}" for turn in range(5)]


def test_a_killed_node_runs_nothing_more_not_even_finally() -> None:
    async def world(loop: SimulatedLoop) -> tuple[str, ...]:
        ran: list[str] = []

        async def node() -> None:
            try:
                await asyncio.sleep(2)
                ran.append("woke")
            finally:
                ran.append("finally")

        loop.spawn("a#1", node())
        await asyncio.sleep(1)
        loop.kill("a#1")
        await asyncio.sleep(10)
        return tuple(ran)  # as of now: what is left is collected when the world has ended

    assert run(1, world) == ()


def test_deadlock_is_a_finding() -> None:
    async def world(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(Deadlock):
        run(1, world)


def test_work_in_a_thread_is_done_inline_and_answered_later() -> None:
    async def world(loop: SimulatedLoop) -> tuple[int, bool]:
        answer = await loop.run_in_executor(None, lambda: 42)
        return answer, loop.time() > 0

    assert run(1, world) == (42, True)
    assert run(1, lambda loop: _to_thread()) == 7


async def _to_thread() -> int:
    return await asyncio.to_thread(lambda: 7)
