"""What a handler is given, as far as it is the same for every call; and another way to read."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from klamm.rpc.framing import Metadata
from klamm.rpc.status import BadRequestError, to_status

if TYPE_CHECKING:
    Base = grpc.aio.ServicerContext[Any, Any]
else:
    Base = grpc.aio.ServicerContext


class Context(Base):
    """Status and trailers, and that there is neither compression nor authentication."""

    # Of the class: a call sets few of them.
    _code = grpc.StatusCode.OK
    _details = ""
    _trailing: Metadata = ()

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = tuple(trailing_metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing

    def set_compression(self, compression: grpc.Compression) -> None:
        """Answers go uncompressed; a server may choose."""

    def disable_next_message_compression(self) -> None:
        """As it is anyway."""

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}


class OneByOne:
    """A stream's messages, handed over where they come in: one at a time, the next once the one
    before is answered."""

    def __init__(self, next_message: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """`next_message` gives None if there is none; `take` sees to it that it is answered."""
        self._next = next_message
        self._take = take
        self._unanswered = False
        self._feeding = False

    @property
    def idle(self) -> bool:
        """Is nothing to be answered? Nor is there anything to be taken, then."""
        return not self._unanswered

    def answered(self) -> None:
        self._unanswered = False
        self.feed()

    def feed(self) -> None:
        """Look for the next one. No deeper in the stack for each: many may be answered at once."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while not self._unanswered and (message := self._next()) is not None:
                self._unanswered = True
                self._take(message)
        finally:
            self._feeding = False


def no_message(error: DecodeError) -> grpc.Status:
    """The caller's fault, and no bug of the server."""
    refusal = BadRequestError({"request": f"is no message: {error}"})
    return rpc_status.to_status(to_status(refusal))
