"""A listener on this machine with handlers that a test gives it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from broker.api import api_versions
from broker.api.registry import Registry
from broker.kafka import codec, header
from broker.kafka.api import ApiKey, served
from broker.kafka.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from broker.listener.dispatch import Dispatcher
from broker.listener.listeners import Listeners
from klamm.config.broker import BrokerConfig
from klamm.metadata.image import EMPTY
from tests.unit.api_admin.one_broker import RawClient

COORDINATOR = ApiKey.FIND_COORDINATOR
VERSION = 1


class Later:
    """A handler whose answers come when the test says so."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[FindCoordinatorResponse]] = {}
        self.seen: list[str] = []
        self.asked = asyncio.Event()

    def handle(self, services: Any, context: Any, request: FindCoordinatorRequest) -> Any:
        self.seen.append(request.key)
        self.asked.set()
        if not request.key.startswith("later"):
            return answer(request.key)
        future = asyncio.get_running_loop().create_future()
        self.waiting[request.key] = future
        return future

    def answer(self, key: str) -> None:
        self.waiting[key].set_result(answer(key))


def answer(key: str) -> FindCoordinatorResponse:
    return FindCoordinatorResponse(host=key)


def ask(key: str) -> FindCoordinatorRequest:
    return FindCoordinatorRequest(key=key)


@asynccontextmanager
async def listening(
    handlers: Mapping[ApiKey, Callable[..., Any]], **keys: str
) -> AsyncIterator[Listeners]:
    config = BrokerConfig.for_tests(**keys)
    table = served([*handlers, ApiKey.API_VERSIONS]).values()
    registry = Registry.of({**handlers, ApiKey.API_VERSIONS: api_versions.handler(table)})
    listeners = Listeners(config)
    await listeners.bind()
    services: Any = SimpleNamespace(config=config, image=EMPTY)
    await listeners.serve(Dispatcher(registry, services))
    try:
        yield listeners
    finally:
        await listeners.stop(timeout_ms=100)


async def connect(listeners: Listeners, listener: str = "PLAINTEXT") -> RawClient:
    return await RawClient.connect(listeners.ports[listener])


async def hosts(client: RawClient, count: int) -> list[str]:
    """What the next `count` answers of `Later` say, in the order in which they come."""
    found = []
    for _ in range(count):
        frame = memoryview(await client.receive())
        _, body = header.read_response_header(COORDINATOR, VERSION, frame)
        found.append(codec.decode_response(COORDINATOR, VERSION, body).host)
    return found
