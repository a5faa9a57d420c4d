"""Names to addresses, in threads of their own.

    create_connection("db.example", …) ─▶ Loop.getaddrinfo ─▶ one lookup of the name ─▶ addresses
                                            │ another asks for the same: waits for that lookup
                                            └ THREADS_MAX look up already: waits for its turn

A lookup cannot be given up: if the name server is silent its thread hangs for tens of seconds,
however soon its caller's deadline passes and the next attempt asks again. asyncio's own loop looks
names up with its default executor, whose few threads also fsync the log: a handful of attempts at
one name would stop them all, and the process's end would wait for them too.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

THREADS_MAX = 16
"""So many names at once; they are daemons, which no end of a process waits for."""

WAITING_MAX = 1_024
"""Names that wait for a thread; more are not known, for now (EAI_AGAIN)."""

Name = tuple[str | bytes | None, str | bytes | int | None, int, int, int, int]
"""What `socket.getaddrinfo` is given."""

Found = list[tuple[Any, ...]]

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, on a loop that looks names up as it stands above."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own, but for names."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups = _Lookups(self)

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name that asyncio has
        proto: int = 0,
        flags: int = 0,
    ) -> Found:
        return await self._lookups.find((host, port, family, type, proto, flags))


class _Lookups:
    """One loop's. All but `_look_up` runs on its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: dict[Name, asyncio.Future[Found | Exception]] = {}
        """Of lookups that run or wait."""
        self._waiting: deque[Name] = deque()
        self._threads = 0

    async def find(self, name: Name) -> Found:
        """
        Raises:
            OSError: There is no such name, or no server that knows.
        """
        answer = self._answers.get(name)
        if answer is None:
            answer = self._begin(name)
        found = await asyncio.shield(answer)
        if isinstance(found, Exception):
            raise found
        return found

    def _begin(self, name: Name) -> "asyncio.Future[Found | Exception]":
        if self._threads >= THREADS_MAX and len(self._waiting) >= WAITING_MAX:
            why = f"{THREADS_MAX + WAITING_MAX} names are being looked up"
            raise socket.gaierror(socket.EAI_AGAIN, why)
        answer = self._answers[name] = self._loop.create_future()
        self._waiting.append(name)
        self._look_up_next()
        return answer

    def _look_up_next(self) -> None:
        while self._waiting and self._threads < THREADS_MAX:
            name = self._waiting.popleft()
            self._threads += 1
            threading.Thread(
                target=_look_up, args=(name, self._tell), name=f"lookup {name[0]!r}", daemon=True
            ).start()

    def _tell(self, name: Name, found: Found | Exception) -> None:
        """From a thread of ours."""
        try:
            self._loop.call_soon_threadsafe(self._ended, name, found)
        except RuntimeError:
            pass  # The loop is closed: nobody asks any more.

    def _ended(self, name: Name, found: Found | Exception) -> None:
        self._threads -= 1
        self._answers.pop(name).set_result(found)
        self._look_up_next()


def _look_up(name: Name, tell: Callable[[Name, Found | Exception], None]) -> None:
    try:
        found: Found | Exception = socket.getaddrinfo(*name)
    except Exception as error:
        # Not OSError alone: what is no name at all is UnicodeError, or worse.
        found = error
    tell(name, found)
