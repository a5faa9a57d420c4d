"""What all connections of a server have in common: methods, calls, and how much of anything."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import grpc

if TYPE_CHECKING:
    from klamm.rpc.served import ServerLink

    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Above the 8 MiB that one fetch of the metadata log may carry, with its framing."""

CALLS_MAX = 4_096
"""Calls in progress on one server, streams among them; more are refused RESOURCE_EXHAUSTED."""

CONNECTIONS_MAX = 4_096
"""Of one server; more are closed as they come."""

UNREAD_BYTES_MAX = 512 * 1024 * 1024
"""Of requests that are not whole or not read yet, on one server; more are refused
RESOURCE_EXHAUSTED."""

UNSENT_BYTES_MAX = 512 * 1024 * 1024
"""Of answers that wait for their callers' windows, on one server; a call whose answer goes beyond
is reset. Half of it may wait on one connection."""

REQUEST_LOOKS_MAX = 12
"""A request with one message must be whole after so many looks (link.py): until then it has a place
among CALLS_MAX that costs its caller nothing."""


def may_wait(own_bytes: int, others_bytes: int) -> bool:
    """Whether so much may wait for one connection's window, beside what waits for others'."""
    return own_bytes <= UNSENT_BYTES_MAX // 2 and own_bytes + others_bytes <= UNSENT_BYTES_MAX


class Calls:
    """What the links of one server have in common."""

    def __init__(self) -> None:
        self.methods: dict[str, Handler] = {}
        """By path: `/package.Service/Method`."""
        self.links: dict[ServerLink, None] = {}
        self.running: dict[asyncio.Task[None], None] = {}
        """In the order of their start, in which they are ended."""
        self.count = 0
        self.unread_bytes = 0
        self.unsent_bytes = 0
        self.stopping = False
        """What connects now comes too late."""
        self.idle = asyncio.Event()
        """Set while no call is in progress."""
        self.idle.set()

    def began(self) -> None:
        self.count += 1
        self.idle.clear()

    def finished(self, task: asyncio.Task[None] | None) -> None:
        """A handler runs no more. May be said twice."""
        self.running.pop(cast("asyncio.Task[None]", task), None)

    def cancel(self, task: asyncio.Task[None] | None) -> None:
        """Nobody waits for what the handler does."""
        if task is not None:
            task.cancel()
            task.add_done_callback(self.finished)  # It may not have begun, and says nothing then.

    def ended(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.idle.set()
