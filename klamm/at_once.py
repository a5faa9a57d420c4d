"""What the loop would call in its next turn, called now.

    at_once(lambda: loop.create_task(handler))   the task has had its first turn
    at_once(lambda: future.set_result(end))      who awaits it has gone on

A turn of the loop costs as much as many a step that it waits for: it asks the kernel, makes an
object for each callback, and comes back to a processor that has done something else meanwhile. A
commit needs one to start its handler and one to wake it. Python 3.12 has the first of the two as
`eager_start`; 3.11 has neither, but looks `call_soon` up where it is called.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

Done = TypeVar("Done")


def at_once(do: Callable[[], Done]) -> Done:
    """Do it, and then call what it would have had called soon, in that order.

    Within a task nothing is different from `do()`: no other can be entered there.
    """
    loop = asyncio.get_running_loop()
    if asyncio.current_task(loop) is not None:
        return do()
    soon = _Soon()
    shadowed: Any = loop
    shadowed.call_soon = soon.call_soon
    try:
        done = do()
    finally:
        del shadowed.call_soon
    for callback, args, context in soon.callbacks:
        if context is None:
            callback(*args)
        else:
            context.run(callback, *args)
    return done


class _Soon:
    """What was to be called, in that order."""

    __slots__ = ("callbacks",)

    def __init__(self) -> None:
        self.callbacks: list[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = []

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> None:
        """In the place of the loop's own."""
        self.callbacks.append((callback, args, context))
