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
from contextvars import Context, copy_context
from typing import Any, TypeVar

Done = TypeVar("Done")


def at_once(do: Callable[[], Done]) -> Done:
    """Do it, and then call what it would have had called soon, in that order.

    An error of what is called is the loop's to tell, and keeps none of the others from being
    called; if `do` itself fails, they are called soon.

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
    except BaseException:
        del shadowed.call_soon
        for callback, args, context in soon.callbacks:
            loop.call_soon(callback, *args, context=context)
        raise
    del shadowed.call_soon
    for callback, args, context in soon.callbacks:
        try:
            context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # As the loop does: it is nobody else's.
            loop.call_exception_handler(
                {"message": f"exception in callback {callback!r}", "exception": error}
            )
    return done


class _Soon:
    """What was to be called, in that order."""

    __slots__ = ("callbacks",)

    def __init__(self) -> None:
        self.callbacks: list[tuple[Callable[..., object], tuple[Any, ...], Context]] = []

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> None:
        """In the place of the loop's own."""
        own = copy_context() if context is None else context
        self.callbacks.append((callback, args, own))
