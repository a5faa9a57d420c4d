"""Changes on their way to the active controller and back: time, failures, reading one's writes.

client ─▶ any broker ─▶ active controller ─▶ committed at offset N
             │ waits until its own image includes N
client ◀─────┘
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from broker.api.context import BrokerServices, RequestContext
from klamm.clock import SystemClock
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    DefiniteError,
    ErrorCode,
    IndefiniteError,
    KlammError,
)
from klamm.ids import Offset
from klamm.rpc.status import BadRequestError

TIMEOUT_MS_MAX = 600_000
"""The controllers' own limit."""

_clock = SystemClock()


class Committed(Protocol):
    """What every answer to a change has."""

    @property
    def committed_offset(self) -> int: ...


Response = TypeVar("Response", bound=Committed)


async def change(
    services: BrokerServices, timeout_ms: int, call: Callable[[int], Awaitable[Response]]
) -> Response:
    """Have a change made, and wait until this broker's image includes it.

    Args:
        timeout_ms: As the client gave it: for both.
        call: Makes the call, with so many milliseconds.

    Raises:
        ApiError: It was refused, or it is not known to be done in time; with a sentence that
            says which.
    """
    timeout_ms = max(1, min(timeout_ms, TIMEOUT_MS_MAX))
    deadline_ms = _clock.monotonic_ms() + timeout_ms
    try:
        response = await call(timeout_ms)
        left_ms = max(1, deadline_ms - _clock.monotonic_ms())
        await services.metadata.wait_for(Offset(response.committed_offset), left_ms)
    except TimeoutError:
        raise ApiError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"it is done, and not known to this broker after {timeout_ms} ms",
        ) from None
    except KlammError as error:
        raise _as_api_error(error) from error
    return response


def request_id(context: RequestContext) -> str:
    """For the log of decisions: whose request it was."""
    return f"{context.client_id or '-'} at {context.client_host}"[:1_024]


def _as_api_error(error: KlammError) -> ApiError:
    match error:
        case ApiError():
            return error
        case BadRequestError():
            return ApiError(ErrorCode.INVALID_REQUEST, str(error))
        case CommitUnknownError() | IndefiniteError():
            return ApiError(ErrorCode.REQUEST_TIMED_OUT, f"it may have happened: {error}")
        case DefiniteError():
            # A code that clients try again after: controllers elect another within a moment.
            return ApiError(ErrorCode.REQUEST_TIMED_OUT, f"nothing was changed: {error}")
    return ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, str(error))
