"""Ask a handler through the codec, both ways, as a client of a version would."""

import inspect
from typing import Any

from broker.api.context import RequestContext
from broker.api.served import control_handlers
from broker.kafka import codec
from broker.kafka.api import APIS, ApiKey
from tests.unit.api_admin.one_broker import OneBroker

HANDLERS = control_handlers()


def versions(key: ApiKey) -> range:
    return range(APIS[key].min_version, APIS[key].max_version + 1)


async def ask(
    broker: OneBroker,
    key: ApiKey,
    request: object,
    version: int | None = None,
    listener: str = "PLAINTEXT",
) -> Any:
    """The response as its reader sees it; fields that the version does not have are defaults."""
    if version is None:
        version = APIS[key].max_version
    body = b"".join(codec.encode_request(key, version, request))
    context = RequestContext(
        api_key=key,
        api_version=version,
        client_id="test",
        principal="User:ANONYMOUS",
        listener=listener,
        client_host="127.0.0.1",
    )
    read = codec.decode_request(key, version, memoryview(body))
    answer = HANDLERS[key](broker.services, context, read)
    if inspect.isawaitable(answer):
        answer = await answer
    written = b"".join(codec.encode_response(key, version, answer))
    return codec.decode_response(key, version, memoryview(written))
