"""Requests that are no messages: refused in the call's status, and not an error of the server.

    bytes ──▶ the service's deserializer ──▶ message ──▶ handler
                     └─ DecodeError ──▶ Unreadable ──▶ INVALID_ARGUMENT

grpc.aio answers an exception of a deserializer with UNKNOWN and writes its stack to the log, as
if the server had a bug; anybody who can connect could fill a disk with that.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from klamm.rpc.status import BadRequestError, abort

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a message would, from the deserializer to the call."""

    reason: str


class ReadableRequests(grpc.aio.ServerInterceptor):
    """Lets calls through to their handlers as long as their requests can be read.

    A handler that reads by `context.read()` is given `Unreadable`, and passes it to
    `refuse_unreadable` itself.
    """

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        codecs = (_reading(handler.request_deserializer), handler.response_serializer)
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), *codecs)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream), *codecs)
            case True, True:
                return grpc.stream_stream_rpc_method_handler(
                    _streams(handler.stream_stream), *codecs
                )
        return handler


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return Unreadable(str(error))

    return read


def _unary(handle: Any) -> Any:
    async def checked(request: Any, context: "Context") -> Any:
        await refuse_unreadable(request, context)
        return await handle(request, context)

    return checked if inspect.iscoroutinefunction(handle) else handle


def _stream(handle: Any) -> Any:
    async def checked(request: Any, context: "Context") -> AsyncIterator[Any]:
        await refuse_unreadable(request, context)
        async with aclosing(handle(request, context)) as answers:
            async for answer in answers:
                yield answer

    return checked if inspect.isasyncgenfunction(handle) else handle


def _streams(handle: Any) -> Any:
    async def readable(requests: AsyncIterator[Any], context: "Context") -> AsyncIterator[Any]:
        async for request in requests:
            await refuse_unreadable(request, context)
            yield request

    async def checked(requests: AsyncIterator[Any], context: "Context") -> AsyncIterator[Any]:
        async with aclosing(handle(readable(requests, context), context)) as answers:
            async for answer in answers:
                yield answer

    return checked if inspect.isasyncgenfunction(handle) else handle


async def refuse_unreadable(request: Any, context: "Context") -> None:
    """End the call with INVALID_ARGUMENT, if the request is none; else do nothing."""
    if isinstance(request, Unreadable):
        await abort(context, BadRequestError({"request": f"is no message: {request.reason}"}))
