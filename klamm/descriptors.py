"""Open files: a process may have so many, sockets and all, and needs some for its disk.

    0 ─────────── files, connections ───────────▶ soft limit - reserve ─── our own only ──▶ limit

Who asks for a connection when the rest is all that is left is sent away: a flood of them could
otherwise end the node, which finds no descriptor for the next segment (scenario 42).
"""

import asyncio
import resource
import socket
from collections.abc import Callable

RESERVE = 128
"""Descriptors; of a low limit a quarter."""


ACCEPTED_AT_ONCE = 4
"""In one turn of the loop. asyncio takes a connection some turns before its protocol is asked, and
would take as many at once as the kernel keeps waiting."""


async def accept(
    make: Callable[[], asyncio.BaseProtocol], sock: socket.socket, backlog: int
) -> asyncio.Server:
    """Serve connections from now on.

    Args:
        make: A protocol for each, which asks `are_scarce`.
        sock: Bound, and listening already.
        backlog: So many wait in the kernel until they are taken.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, sock=sock, backlog=ACCEPTED_AT_ONCE)
    sock.listen(backlog)
    return server


def raise_limit() -> None:
    """As many as this process may allow itself; the soft limit is for programs with select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def are_scarce(transport: asyncio.BaseTransport) -> bool:
    """Is this connection, just accepted, one of those that there is no descriptor for?

    The kernel hands out the lowest that is free: all below this one are in use.
    """
    sock = transport.get_extra_info("socket")
    number = -1 if sock is None else sock.fileno()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and number >= soft - min(RESERVE, soft // 4)
