"""One end of a bidirectional stream: send, receive, and a KlammError when it breaks."""

import asyncio
from collections.abc import Awaitable
from typing import Generic, Protocol, TypeVar

import grpc.aio

from klamm.rpc.status import ConnectionLostError, from_call

Req = TypeVar("Req")
Res = TypeVar("Res")
Req_contra = TypeVar("Req_contra", contravariant=True)


class Call(Protocol[Req_contra]):
    """What is used of `grpc.aio.StreamStreamCall`."""

    def write(self, request: Req_contra, /) -> Awaitable[None]: ...
    def read(self) -> Awaitable[object]: ...
    def cancel(self) -> bool: ...


class MessageStream(Generic[Req, Res]):
    """The caller's end. Not for two senders, nor for two receivers, at a time."""

    def __init__(self, call: Call[Req], address: str) -> None:
        self._call = call
        self.address = address
        """`host:port` of the other end."""

    async def send(self, request: Req) -> None:
        """Hand a request to the transport; that it was read is not known.

        Raises:
            KlammError: As the other end ended the stream, or ConnectionLostError.
        """
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        except asyncio.InvalidStateError as error:
            await self._raise_ending(error)

    async def receive(self) -> Res:
        """The next response.

        Raises:
            KlammError: As the other end ended the stream, or ConnectionLostError.
        """
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        except asyncio.InvalidStateError as error:
            raise ConnectionLostError(f"the stream to {self.address} is closed") from error
        if response is grpc.aio.EOF:
            raise ConnectionLostError(f"{self.address} closed the stream")
        return response  # type: ignore[return-value]

    def close(self) -> None:
        """Break the stream; both ends hear of it. Idempotent."""
        self._call.cancel()

    async def _raise_ending(self, error: asyncio.InvalidStateError) -> None:
        """A stream that has ended says why on its reading side."""
        await self.receive()
        raise ConnectionLostError(f"the stream to {self.address} is closed") from error
