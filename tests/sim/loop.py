"""An asyncio loop under simulated time: the clock jumps to the next timer.

    run_once:  a ready callback of some node, chosen by the seed, runs
               nothing ready? the clock jumps to the next timer
               no timers either? deadlock: that is a finding, and raises

asyncio promises first-in first-out within one loop, so each node keeps its own order and the
seed chooses only *between* nodes. A node is a name in a context variable, one an incarnation;
`kill` drops the callbacks of an incarnation for ever and cancels nothing: a power cut runs no
`finally`.

Traps that this file steps around (all were met when it was first tried): garbage collection
finalising dead tasks in mid-run (it is off, and tasks are held), callbacks of a former life
running in the next (incarnations), work in threads (done inline, once, within a seeded delay).
"""

import asyncio
import contextvars
import gc
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

NODE: contextvars.ContextVar[str] = contextvars.ContextVar("node", default="world")
"""Which incarnation of which node runs; child tasks and timers inherit it."""

EXECUTOR_DELAY_MAX_S = 0.004
"""Simulated work in a thread (an fsync, mostly) takes up to so long."""


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, yet the world waits."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """One loop for all nodes of a simulated world."""

    def __init__(self, rng: random.Random, executor_delay_max_s: float = EXECUTOR_DELAY_MAX_S):
        super().__init__()
        self.rng = rng
        self.executor_delay_max_s = executor_delay_max_s
        self.steps = 0
        self._now_s = 0.0
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self._dead: set[str] = set()
        self._paused: set[str] = set()  # Both for membership only.
        self._kept: list[asyncio.Task[Any]] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0

    def time(self) -> float:
        return self._now_s

    def run_world(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, with the garbage collector off, and close the loop."""
        gc.collect()
        gc.disable()
        previous = asyncio.events._get_running_loop()
        asyncio.events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            asyncio.events._set_running_loop(previous)
            self._forget()
            gc.enable()

    def spawn(self, node: str, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start `main` as an incarnation of a node: everything that it starts dies with it."""
        context = contextvars.copy_context()
        context.run(NODE.set, node)
        return self.create_task(main, context=context)

    def kill(self, node: str) -> None:
        """Power cut: no callback of this incarnation ever runs again."""
        self._dead.add(node)
        self._queues.pop(node, None)

    def pause(self, node: str) -> None:
        """No callback of this incarnation runs until `resume`; its timers pile up meanwhile."""
        self._paused.add(node)

    def resume(self, node: str) -> None:
        self._paused.discard(node)

    def executor_plan(self) -> tuple[bool, float]:
        """Of work in a thread: whether it is done at the end of its time, and that time in s."""
        return False, self.rng.random() * self.executor_delay_max_s

    # What asyncio calls.

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        self._kept.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def run_in_executor(
        self, executor: Any, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Work takes seeded time; its effect comes at once, or at the end of that time."""
        future = self.create_future()
        late, delay_s = self.executor_plan()
        done = None if late else _attempt(function, args)

        def answer() -> None:
            result, error = done or _attempt(function, args)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(delay_s, answer)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio.events._get_running_loop() is self

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when they come up."""

    # How a step is taken.

    def _enqueue(self, handle: asyncio.Handle) -> None:
        node = handle._context.get(NODE, "world")
        if node not in self._dead:
            self._queues.setdefault(node, deque()).append(handle)

    def _step(self) -> None:
        ready = [node for node, queue in self._queues.items() if queue and node not in self._paused]
        if not ready:
            self._jump()
            return
        node = ready[0] if len(ready) == 1 else self.rng.choice(ready)
        handle = self._queues[node].popleft()
        self.steps += 1
        if not handle._cancelled:
            handle._run()

    def _jump(self) -> None:
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if timer._cancelled or timer._context.get(NODE, "world") in self._dead:
                continue
            self._now_s = max(self._now_s, when)
            self._enqueue(timer)
            return
        raise Deadlock(f"nothing is ready and no timer is set at {self._now_s:.3f} s")

    def _forget(self) -> None:
        """End what is left without running it: no callback may leak into the next world."""
        self._queues.clear()
        self._timers.clear()
        self._dead.update({"world"})
        self.set_exception_handler(lambda *_: None)
        # Unwound here, in order, and not by the garbage collector, which crashed the interpreter
        # on coroutines within `asyncio.timeout` whose loop was gone.
        for task in self._kept:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # private to asyncio
            if not task.done():
                _unwind(task.get_coro())
        self._queues.clear()
        self._timers.clear()
        self._kept.clear()
        self.close()


CLOSES_MAX = 8
"""Of one coroutine: each `finally` that awaits takes one."""


def _unwind(coroutine: Any) -> None:
    for _ in range(CLOSES_MAX):
        try:
            coroutine.close()
            return
        except BaseException:
            continue


def _attempt(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except Exception as error:
        return None, error


def run(seed: int, world: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run one simulated world from its seed."""
    loop = SimulatedLoop(random.Random(seed))
    return loop.run_world(world(loop))
