"""Sockets that listen, as `listeners` asks for them, or a sentence why there can be none."""

import asyncio
import errno
import os
import socket

from klamm.config.listeners import Listener, format_address
from klamm.errors import StartError

LOOKUP_TIMEOUT_S = 10.0
"""For the name of a listener's host."""

SYSTEM_SIZE = -1
"""Of a socket's buffers: as the system has it."""


async def listening(
    listener: Listener, *, backlog: int, send_bytes: int, receive_bytes: int
) -> list[socket.socket]:
    """Sockets on every address of the listener's host, all on one port.

    They queue connections from now on; whoever accepts them comes later.

    Raises:
        StartError: The host is not known, the port is in use or may not be used.
    """
    made: list[socket.socket] = []
    port = listener.port
    try:
        for family, address in await _addresses(listener):
            made.append(_bound(family, address, port, send_bytes, receive_bytes))
            made[-1].listen(backlog)
            port = made[-1].getsockname()[1]
    except OSError as error:
        for each in made:
            each.close()
        raise StartError(_sentence(listener, error)) from error
    return made


async def _addresses(listener: Listener) -> list[tuple[socket.AddressFamily, str]]:
    if not listener.host:
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, "::")]
        return [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - an empty host is every interface
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
    except TimeoutError as error:
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers in time") from error
    by_address = {str(info[4][0]): info[0] for info in found}
    return [(family, address) for address, family in by_address.items()]


def _bound(
    family: socket.AddressFamily, address: str, port: int, send_bytes: int, receive_bytes: int
) -> socket.socket:
    # TCP by name: only then does asyncio switch off Nagle's algorithm on what is accepted, and
    # with it answers in a pipeline wait 40 ms for the client's acknowledgement.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A restarted broker takes its port back at once; two that listen are refused all the same.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = 0 if address == "::" else 1
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        # Connections that are accepted inherit both.
        if send_bytes != SYSTEM_SIZE:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        if receive_bytes != SYSTEM_SIZE:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.setblocking(False)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


def _sentence(listener: Listener, error: OSError) -> str:
    where = f"{format_address(listener.host or '*', listener.port)}, listener {listener.name}"
    match error.errno:
        case errno.EADDRINUSE:
            why = "the port is in use. Stop what uses it, or give another"
        case errno.EACCES:
            why = "this user may not use the port. Give one above 1023"
        case errno.EADDRNOTAVAIL:
            why = "the address is none of this machine's. Give one that is, or none for all"
        case socket.EAI_AGAIN if isinstance(error, socket.gaierror):
            why = "the host is not known: no name server answers. Give an address"
        case _ if isinstance(error, socket.gaierror):
            why = "the host is not known. Give another"
        case _:
            why = f"{os.strerror(error.errno) if error.errno else error}. Give another"
    return f"Cannot listen on {where}: {why} in the key listeners."
