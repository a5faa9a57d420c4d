"""The gRPC server of a node: its services, with health and reflection beside them.

`grpc.health.v1` answers per service and starts as NOT_SERVING: whoever owns a service says when it
serves. Reflection is offered as v1 and as v1alpha, which are the same messages under two names
(https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto).
"""

import asyncio
from collections.abc import Callable, Sequence

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from klamm.errors import StartError
from klamm.rpc.channel import SERVER_OPTIONS
from klamm.rpc.parsing import ReadableRequests

CALLS_MAX = 4_096
"""Calls in progress on one server, streams among them; more are refused RESOURCE_EXHAUSTED."""

STOP_GRACE_MS = 500
"""Running calls get so long to end by themselves."""

_CALL_COROUTINES = frozenset({"_schedule_rpc_coro", "_handle_exceptions"})
"""What grpc.aio runs for each call."""

_REFLECTION = "grpc.reflection.v1.ServerReflection"

AddService = Callable[[grpc.aio.Server], None]


class GrpcServer:
    """Serves from `start` until `stop`. Services are added in between, by name."""

    def __init__(self, host: str, port: int) -> None:
        """Bind at once, so that a port in use is known before anything else begins.

        Raises:
            StartError: The address cannot be bound.
        """
        self._server = grpc.aio.server(
            interceptors=(ReadableRequests(),),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        try:
            self.port = self._server.add_insecure_port(f"{_bracketed(host)}:{port}")
        except RuntimeError as error:
            raise StartError(
                f"cannot listen on {host}:{port} for gRPC: the port is in use, or the address is "
                f"not one of this machine"
            ) from error
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._services: list[str] = [health.SERVICE_NAME]

    def add(self, name: str, register: AddService) -> None:
        """Add a service, not serving yet as far as health says. Before `start`."""
        register(self._server)
        self._services.append(name)

    async def start(self) -> None:
        _add_reflection(self._server, self._services)
        for name in self._services[1:]:
            await self.set_serving(name, serving=False)
        await self.set_serving("", serving=True)
        await self._server.start()

    async def set_serving(self, service: str, *, serving: bool) -> None:
        """What `grpc.health.v1` says of a service from now on; "" is the process as a whole."""
        answer = health_pb2.HealthCheckResponse
        await self._health.set(service, answer.SERVING if serving else answer.NOT_SERVING)

    async def stop(self, grace_ms: int = STOP_GRACE_MS) -> None:
        """Take no new calls; end those that run after `grace_ms`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_ms / 1_000)
        await _handlers_ended()


async def _handlers_ended() -> None:
    """Wait for the tasks of calls that were cut off.

    The server does not, and a task that the end of the event loop cancels in its place is told on
    stderr with its stack, as if the node had a bug.
    """
    tasks = [each for each in asyncio.all_tasks() if _coroutine_name(each) in _CALL_COROUTINES]
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_GRACE_MS / 1_000)


def _coroutine_name(task: "asyncio.Task[object]") -> str:
    return str(getattr(task.get_coro(), "__name__", ""))


def _add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    names = (*services, _REFLECTION, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_REFLECTION, {"ServerReflectionInfo": handler}),)
    )


def _bracketed(host: str) -> str:
    """IPv6 addresses stand in brackets before a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
