"""The gRPC server of a node: its services, with health and reflection beside them.

`grpc.health.v1` answers per service and starts as NOT_SERVING: whoever owns a service says when it
serves. Reflection is offered as v1 and as v1alpha, which are the same messages under two names
(https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto).
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from klamm import descriptors
from klamm.errors import StartError
from klamm.rpc.admission import Calls
from klamm.rpc.served import ServerLink

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

STOP_GRACE_MS = 500
"""Running calls get so long to end by themselves."""

BACKLOG = 1_024
"""Connections that the kernel keeps until they are taken."""

LOOKUP_TIMEOUT_S = 10.0
"""A name server that has not answered by then does not."""

_REFLECTION = "grpc.reflection.v1.ServerReflection"

Found = Sequence[tuple[Any, ...]]
"""What `getaddrinfo` answers."""

AddService = Callable[[grpc.aio.Server], None]


class GrpcServer:
    """Serves from `start` until `stop`. Services are added in between, by name."""

    def __init__(self, host: str, port: int, found: Found | None = None) -> None:
        """Bind at once, so that a port in use is known before anything else begins.

        Args:
            host, port: Where; port 0: any that is free.
            found: What `look_up` said of them; not needed of an address, which is no name.

        Raises:
            StartError: The address cannot be bound.
        """
        self._calls = Calls()
        self._registry = _Registry(self._calls)
        self._sockets = _bind(host, port, found)
        self.port: int = self._sockets[0].getsockname()[1]
        self._listening: list[asyncio.Server] = []
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._registry)
        self._services: list[str] = [health.SERVICE_NAME]

    def add(self, name: str, register: AddService) -> None:
        """Add a service, not serving yet as far as health says. Before `start`."""
        register(self._registry)
        self._services.append(name)

    async def start(self) -> None:
        _add_reflection(self._registry, self._services)
        for name in self._services[1:]:
            await self.set_serving(name, serving=False)
        await self.set_serving("", serving=True)
        for each in self._sockets:
            self._listening.append(
                await descriptors.accept(lambda: ServerLink(self._calls), each, BACKLOG)
            )

    async def set_serving(self, service: str, *, serving: bool) -> None:
        """What `grpc.health.v1` says of a service from now on; "" is the process as a whole."""
        answer = health_pb2.HealthCheckResponse
        await self._health.set(service, answer.SERVING if serving else answer.NOT_SERVING)

    async def stop(self, grace_ms: int = STOP_GRACE_MS) -> None:
        """Take no new calls; end those that run after `grace_ms`. Callers that take their answers
        within it have them whole."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + grace_ms / 1_000
        self._calls.stopping = True
        await self._health.enter_graceful_shutdown()
        for listening in self._listening:
            listening.close()
        for each in self._sockets:
            each.close()
        links = list(self._calls.links)
        for link in links:
            link.connection.go_away()
            link.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await self._calls.idle.wait()
                for link in links:
                    await link.all_drained()
        for link in links:
            link.close("the server stops")
        running = list(self._calls.running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=STOP_GRACE_MS / 1_000)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                for link in links:
                    await link.gone.wait()


class _Registry(grpc.aio.Server):
    """What generated code adds its methods to."""

    def __init__(self, calls: Calls) -> None:
        self._methods = calls.methods

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]
    ) -> None:
        """Generated code registers every method by name as well; that is enough."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        for name, handler in method_handlers.items():
            self._methods[f"/{service_name}/{name}"] = handler

    def add_insecure_port(self, address: str) -> int:
        raise grpc.aio.UsageError("the server is bound already")

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        raise grpc.aio.UsageError("the server is bound already")

    async def start(self) -> None:
        raise grpc.aio.UsageError("GrpcServer starts")

    async def stop(self, grace: float | None) -> None:
        raise grpc.aio.UsageError("GrpcServer stops")

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        raise grpc.aio.UsageError("GrpcServer ends")


async def look_up(host: str, port: int) -> Found:
    """The addresses of a host to listen on; the loop goes on meanwhile.

    Raises:
        StartError: There is no such host, or no name server answers.
    """
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            return await asyncio.get_running_loop().getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
    except TimeoutError as error:
        silent = socket.gaierror(socket.EAI_AGAIN, "no name server answers in time")
        raise _unusable(host, port, silent) from error
    except OSError as error:
        raise _unusable(host, port, error) from error


def _bind(host: str, port: int, found: Found | None) -> list[socket.socket]:
    """A socket for each address of the host, all with one port.

    Raises:
        StartError: One of them cannot be bound.
    """
    bound: list[socket.socket] = []
    try:
        addresses = found or socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            each = socket.socket(family, kind, protocol)
            bound.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            at = (address[0], port or _port(bound), *address[2:])
            each.bind(at)
            each.listen(BACKLOG)
    except OSError as error:
        for each in bound:
            each.close()
        raise _unusable(host, port, error) from error
    return bound


def _unusable(host: str, port: int, error: OSError) -> StartError:
    why = "the port is in use, or the address is not one of this machine"
    if isinstance(error, socket.gaierror):
        why = f"the host is not known ({error.strerror})"
    elif error.errno == errno.EACCES:
        why = "this user may not use the port; give one above 1023"
    return StartError(f"cannot listen on {host}:{port} for gRPC: {why}")


def _port(bound: Sequence[socket.socket]) -> int:
    """That the first one was given; 0 for the first itself."""
    return int(bound[0].getsockname()[1]) if len(bound) > 1 else 0


def _add_reflection(server: _Registry, services: Sequence[str]) -> None:
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    names = (*services, _REFLECTION, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(_REFLECTION, {"ServerReflectionInfo": handler})
