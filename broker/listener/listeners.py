"""All Kafka listeners of a broker: their sockets, the limits they share, and their end.

    bind ─▶ ports are known; clients queue ─▶ serve ─▶ clients are served ─▶ stop

Bound first and served later: a broker registers the ports that it got, and answers once its image
has its registration. Until then clients wait in the sockets' backlog instead of being refused.
"""

import asyncio
import socket
from collections import Counter
from functools import partial

from broker.listener.connection import Connection
from broker.listener.dispatch import Client, ConnectionFault, Dispatcher
from broker.listener.frames import FrameReader, new_scratch
from broker.listener.sockets import listening
from klamm import descriptors
from klamm.config.broker import BrokerConfig
from klamm.telemetry.logs import logger
from klamm.telemetry.metrics import BROKER_CONNECTIONS, BROKER_CONNECTIONS_REFUSED

log = logger(__name__)

SWEEP_INTERVAL_MS_MAX = 1_000
"""How often connections are looked at for silence; more often if the limit is short."""

LINGER_MS_MAX = 5_000
"""A connection that is to be closed waits so long for its client to take the last answers."""

REFUSAL_LOG_INTERVAL_MS = 1_000
"""Connections refused for a limit are told in one line, with their number, so often: whoever
floods a node with connections must not flood its disk too."""


class Listeners:
    """One a broker."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._scratch = new_scratch()
        self._sockets: dict[str, list[socket.socket]] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Connection, None] = {}
        self._by_host: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._refused = 0
        """Since the last line about it."""
        self._refusal_logged_s = float("-inf")

    async def bind(self) -> dict[str, int]:
        """Take the ports. Returns the port of each listener, by its name.

        Raises:
            StartError: One cannot be had; none is kept then.
        """
        config = self._config
        try:
            for each in config.listeners:
                self._sockets[each.name] = await listening(
                    each,
                    backlog=config.socket_listen_backlog_size,
                    send_bytes=config.socket_send_buffer_bytes,
                    receive_bytes=config.socket_receive_buffer_bytes,
                )
        except BaseException:
            self._close_sockets()
            raise
        return self.ports

    @property
    def ports(self) -> dict[str, int]:
        """Of the listeners that are bound, by name."""
        return {name: made[0].getsockname()[1] for name, made in self._sockets.items()}

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    async def serve(self, dispatcher: Dispatcher) -> None:
        """Accept connections from now on, and answer them with `dispatcher`. After `bind`."""
        loop = asyncio.get_running_loop()
        for name, sockets in self._sockets.items():
            make = partial(self._connection, dispatcher, name, loop)
            for each in sockets:
                backlog = self._config.socket_listen_backlog_size
                self._servers.append(await descriptors.accept(make, each, backlog))
            log.info("listening", listener=name, port=sockets[0].getsockname()[1])
        self._sweep_later(loop)

    async def stop(self, timeout_ms: int) -> None:
        """Accept and read nothing more, answer what is in flight, and close; safe at any time.

        What is not answered within `timeout_ms` is cut off.
        """
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            log.warning("connections cut off", count=len(self._connections))
            for connection in list(self._connections):
                connection.abort()
            await asyncio.sleep(0)  # They say so in the next turn of the loop.
        self._servers.clear()
        self._close_sockets()

    # What connections ask: see `Door`.

    def admit(self, connection: Connection, host: str) -> str | None:
        config = self._config
        if len(self._connections) >= config.max_connections:
            return f"there are {len(self._connections)} connections already (max.connections)"
        if self._by_host[host] >= config.max_connections_per_ip:
            return f"{host} has {self._by_host[host]} already (max.connections.per.ip)"
        self._connections[connection] = None
        self._by_host[host] += 1
        BROKER_CONNECTIONS.labels(connection.listener).inc()
        return None

    def leave(self, connection: Connection, host: str) -> None:
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        BROKER_CONNECTIONS.labels(connection.listener).dec()

    def fault(self, client: Client, fault: ConnectionFault) -> None:
        BROKER_CONNECTIONS_REFUSED.labels(fault.reason).inc()
        fields = {"peer": client, "listener": client.listener, "reason": fault}
        if fault.reason != "limit":
            log.warning("connection closed", **fields, api=fault.api)
            return
        self._refused += 1
        now_s = asyncio.get_running_loop().time()
        if now_s - self._refusal_logged_s >= REFUSAL_LOG_INTERVAL_MS / 1_000:
            log.warning("connections refused", **fields, count=self._refused)
            self._refused = 0
            self._refusal_logged_s = now_s

    # How.

    def _connection(
        self, dispatcher: Dispatcher, listener: str, loop: asyncio.AbstractEventLoop
    ) -> Connection:
        reader = FrameReader(self._scratch, self._config.socket_request_max_bytes)
        return Connection(self, dispatcher, listener, reader, loop)

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        interval_ms = max(10, min(SWEEP_INTERVAL_MS_MAX, self._config.connections_max_idle_ms // 4))
        self._sweep = loop.call_later(interval_ms / 1_000, self._look_for_silence, loop)

    def _look_for_silence(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close connections without a whole request for too long: silent, or a byte at a time."""
        idle_since_s = loop.time() - self._config.connections_max_idle_ms / 1_000
        linger_since_s = loop.time() - LINGER_MS_MAX / 1_000
        for connection in list(self._connections):
            since_s = linger_since_s if connection.is_ending else idle_since_s
            if connection.active_s <= since_s and (connection.is_ending or connection.is_idle):
                log.debug("idle connection closed", listener=connection.listener)
                connection.abort()
        self._sweep_later(loop)

    def _close_sockets(self) -> None:
        for sockets in self._sockets.values():
            for each in sockets:
                each.close()
        self._sockets.clear()
