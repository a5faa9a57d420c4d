"""A channel and a server's end in one process, with a wire between them that cuts bytes as it
likes, holds them back, and breaks where it is told. No socket."""

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import pytest

from klamm.rpc.admission import Calls
from klamm.rpc.channel import Channel
from klamm.rpc.link import Link
from klamm.rpc.served import ServerLink

HIGH_BYTES = 2_000
"""A writer is asked to pause above it: much sooner than over a socket."""


class Pipe(asyncio.Transport):
    """One end's way to the other."""

    def __init__(self, wire: "Wire", protocol: Link) -> None:
        super().__init__()
        self._wire = wire
        self._protocol = protocol
        self._unsent = bytearray()
        self._reading = True
        self._closing = False
        self._paused_writer = False
        self._lost = False
        self.other: Pipe
        protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The wire has its own."""

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "written to a closed transport"
        self._unsent += data
        if len(self._unsent) > HIGH_BYTES and not self._paused_writer:
            self._paused_writer = True
            self._protocol.pause_writing()
        self._wire.wake()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._wire.wake()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._wire.wake()

    def abort(self) -> None:
        self._unsent.clear()
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.1", 1) if name == "peername" else default

    def carry(self, random: Random) -> bool:
        """Some of what waits; whether there was any."""
        if not self._unsent or not self.other._reading or self.other._closing:
            return False
        size = min(random.choice((1, 9, 100, 5_000)), len(self._unsent), self._wire.left_bytes)
        data = bytes(self._unsent[:size])
        del self._unsent[:size]
        self._wire.left_bytes -= size
        if not self._wire.silent:
            self.other._protocol.data_received(data)
        if self._paused_writer and len(self._unsent) < HIGH_BYTES // 2 and not self._lost:
            self._paused_writer = False
            self._protocol.resume_writing()
        return True

    @property
    def ends(self) -> bool:
        return self._closing and (not self._unsent or self.other._closing)

    def lose(self) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._unsent.clear()
            self._protocol.connection_lost(None)


class Wire:
    """Both ways. After `cut_at` bytes it breaks, or carries nothing more, if it `swallows`."""

    def __init__(
        self, client: Link, server: Link, random: Random, cut_at: int, swallows: bool
    ) -> None:
        self.left_bytes = cut_at
        self.silent = False
        self._swallows = swallows
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._awake = False
        self._ends: tuple[Pipe, ...] = ()
        one, two = Pipe(self, client), Pipe(self, server)
        one.other, two.other = two, one
        self._ends = (one, two)
        self.wake()

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._awake = False
        if len(self._ends) < 2:
            return
        if self.left_bytes == 0 and not self.silent:
            if not self._swallows:
                self._break()
                return
            self.silent, self.left_bytes = True, 1 << 40
        if self.silent:
            if any(each.is_closing() for each in self._ends):
                self._break()
            return  # The kernel takes no more, once its buffers are full.
        moved = [each.carry(self._random) for each in self._ends]
        if any(each.ends for each in self._ends):
            self._break()
        elif any(moved):
            self.wake()

    def _break(self) -> None:
        for each in self._ends:
            each.lose()


def connect(
    monkeypatch: pytest.MonkeyPatch,
    handlers: Mapping[str, Any],
    random: Random,
    *,
    cut_at: int,
    swallows: bool = False,
) -> tuple[Channel, Calls]:
    """A channel whose first connection is a wire; there is no second one."""
    loop = asyncio.get_running_loop()
    calls = Calls()
    calls.methods.update(handlers)
    wires: list[Wire] = []

    async def create_connection(make: Any, *_: object, **__: object) -> tuple[None, Link]:
        if wires:
            raise ConnectionRefusedError("there is one connection only")
        client = cast("Link", make())
        wires.append(Wire(client, ServerLink(calls), random, cut_at=cut_at, swallows=swallows))
        return None, client

    monkeypatch.setattr(loop, "create_connection", create_connection)
    return Channel("10.0.0.1:1"), calls


def timers() -> list[asyncio.TimerHandle]:
    """That are still to fire."""
    loop = cast("Any", asyncio.get_running_loop())
    return [each for each in loop._scheduled if not each.cancelled()]
