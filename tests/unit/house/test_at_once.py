"""What would be called in the loop's next turn is called now, and the same way."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from klamm.at_once import at_once


async def outside_of_tasks(do: Callable[[], None]) -> None:
    """As a transport calls its protocol."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            do()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(call)
    await done


async def test_a_task_has_its_first_turn_and_is_a_task() -> None:
    loop, did = asyncio.get_running_loop(), []
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        did.append(asyncio.current_task())
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
        did.append(asyncio.current_task())

    def begin() -> None:
        tasks.append(at_once(lambda: loop.create_task(work())))
        assert did == tasks
        assert not tasks[0].done()

    await outside_of_tasks(begin)
    await tasks[0]
    assert did == tasks * 2


async def test_who_awaits_a_future_goes_on() -> None:
    loop, did = asyncio.get_running_loop(), []
    futures = [loop.create_future() for _ in range(3)]

    async def wait(number: int) -> None:
        did.append(await futures[number])

    waiting = [asyncio.ensure_future(wait(number)) for number in range(3)]
    await asyncio.sleep(0)

    def wake() -> None:
        at_once(lambda: [each.set_result(number) for number, each in enumerate(futures)])
        assert did == [0, 1, 2]

    await outside_of_tasks(wake)
    await asyncio.gather(*waiting)


async def test_what_is_called_may_have_others_called_soon() -> None:
    loop, did = asyncio.get_running_loop(), []

    def first() -> None:
        did.append("first")
        loop.call_soon(did.append, "second")

    def call() -> None:
        at_once(lambda: loop.call_soon(first))
        assert did == ["first"]

    await outside_of_tasks(call)
    await asyncio.sleep(0)
    assert did == ["first", "second"]


async def test_an_error_leaves_the_loop_as_it_was() -> None:
    loop = asyncio.get_running_loop()

    def fail() -> None:
        loop.call_soon(lambda: None)
        raise ValueError("no")

    def call() -> None:
        with pytest.raises(ValueError, match="no"):
            at_once(fail)
        assert "call_soon" not in vars(loop)

    await outside_of_tasks(call)


async def test_an_error_of_one_that_is_called_is_told_to_the_loop_and_the_others_are_called() -> (
    None
):
    loop, did, told = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("no")

    def fail() -> None:
        raise error

    def do() -> str:
        loop.call_soon(fail)
        loop.call_soon(did.append, "after it")
        return "done"

    def call() -> None:
        assert at_once(do) == "done"
        assert (told, did) == ([error], ["after it"])

    await outside_of_tasks(call)


async def test_what_was_to_be_called_before_an_error_is_called_soon() -> None:
    """It may have woken somebody, who would wait for ever."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]
    futures[1].set_result(None)
    waiting = asyncio.ensure_future(futures[0])

    async def wait() -> str:
        await waiting
        return "woken"

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)

    def call() -> None:
        with pytest.raises(asyncio.InvalidStateError):
            at_once(lambda: [each.set_result(None) for each in futures])

    await outside_of_tasks(call)
    async with asyncio.timeout(30):
        assert await task == "woken"


async def test_what_is_called_has_a_context_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    said: ContextVar[str] = ContextVar("said", default="nothing")

    def call() -> None:
        at_once(lambda: loop.call_soon(said.set, "something"))
        assert said.get() == "nothing"

    await outside_of_tasks(call)


async def test_within_a_task_nothing_is_different() -> None:
    """No other can be entered there."""
    did: list[str] = []

    async def work() -> None:
        did.append("done")

    task = at_once(lambda: asyncio.get_running_loop().create_task(work()))
    assert did == []
    await task
    assert did == ["done"]
