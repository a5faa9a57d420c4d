"""Whole-call failures as `google.rpc.Status`, both ways.

    error                reason (ErrorInfo)   gRPC code
    NotControllerError   NOT_CONTROLLER       FAILED_PRECONDITION   leader_id, leader_address, epoch
    ApiError             Kafka's error name   by the error          error_code
    BadRequestError      BAD_REQUEST          INVALID_ARGUMENT      violations in BadRequest
    OverloadedError      OVERLOADED           RESOURCE_EXHAUSTED
    CompactedError       COMPACTED            OUT_OF_RANGE          first_offset
    CommitUnknownError   COMMIT_UNKNOWN       DEADLINE_EXCEEDED
    (connection lost)    none                 UNAVAILABLE           definite only if never connected

Source: https://google.aip.dev/193
"""

from collections.abc import Mapping
from typing import NoReturn, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from klamm.errors import (
    ApiError,
    CommitUnknownError,
    DefiniteError,
    ErrorCode,
    IndefiniteError,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.ids import NO_EPOCH, NO_NODE, Epoch, NodeId, Offset

Request = TypeVar("Request")
Response = TypeVar("Response")

DOMAIN = "klamm"

VIOLATIONS_MAX = 100
"""Field violations that one answer lists; a request may hold thousands of bad rows."""

ANSWER_UNREAD = "the answer cannot be read"
"""So begin the details of a call that was answered, and not heard: it may well have happened."""

NEVER_SENT = "nothing was sent"
"""So begin the details of a call that ended before a server could see it: it did not happen."""


class BadRequestError(DefiniteError):
    """A request that no controller would take: each bad field, with what is allowed there."""

    def __init__(self, violations: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {why}" for field, why in violations.items()))
        self.violations = dict(violations)


class CompactedError(DefiniteError):
    """The log no longer holds the offset asked for; `first_offset` is the first it has."""

    def __init__(self, first_offset: Offset) -> None:
        super().__init__(f"the log begins at offset {first_offset}; what was before is compacted")
        self.first_offset = first_offset


class ConnectionLostError(IndefiniteError):
    """The connection broke, or time ran out, after the request may have been sent."""


class HintedNotControllerError(NotControllerError):
    """As it came over the wire, with the leader's address if the responder knew it."""

    def __init__(self, leader: NodeId, epoch: Epoch, address: str) -> None:
        super().__init__(leader, epoch)
        self.address = address


_CODES: Mapping[ErrorCode, grpc.StatusCode] = {
    ErrorCode.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_REGISTRATION: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_TOPIC_EXCEPTION: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_CONFIG: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.BROKER_ID_NOT_REGISTERED: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_ID: grpc.StatusCode.NOT_FOUND,
    ErrorCode.DUPLICATE_BROKER_REGISTRATION: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.TOPIC_ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.STALE_BROKER_EPOCH: grpc.StatusCode.ABORTED,
    ErrorCode.POLICY_VIOLATION: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.REQUEST_TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.UNSUPPORTED_VERSION: grpc.StatusCode.UNIMPLEMENTED,
    ErrorCode.UNKNOWN_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}
"""All other Kafka errors are FAILED_PRECONDITION."""


def to_status(error: KlammError, leader_address: str = "") -> status_pb2.Status:
    """What a call that failed with `error` answers.

    Args:
        error: Why it failed.
        leader_address: `host:port` of the active controller, for NotControllerError.
    """
    match error:
        case NotControllerError():
            return _status(
                grpc.StatusCode.FAILED_PRECONDITION,
                error,
                "NOT_CONTROLLER",
                leader_id=str(error.leader),
                epoch=str(error.epoch),
                leader_address=leader_address,
            )
        case ApiError():
            code = _CODES.get(error.code, grpc.StatusCode.FAILED_PRECONDITION)
            status = _status(code, error, error.code.name, error_code=str(int(error.code)))
            status.message = error.message
            return status
        case BadRequestError():
            return _bad_request(error)
        case OverloadedError():
            return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, error, "OVERLOADED")
        case CompactedError():
            first = str(error.first_offset)
            return _status(grpc.StatusCode.OUT_OF_RANGE, error, "COMPACTED", first_offset=first)
        case UnreachableError():
            return _status(grpc.StatusCode.UNAVAILABLE, error, "UNREACHABLE")
        case CommitUnknownError() | IndefiniteError():
            return _status(grpc.StatusCode.DEADLINE_EXCEEDED, error, "COMMIT_UNKNOWN")
    return _status(grpc.StatusCode.INTERNAL, error, "INTERNAL")


async def abort(
    context: "grpc.aio.ServicerContext[Request, Response]",
    error: KlammError,
    leader_address: str = "",
) -> NoReturn:
    """End the call with `error`. Never returns."""
    wire = rpc_status.to_status(to_status(error, leader_address))
    await context.abort(wire.code, wire.details, wire.trailing_metadata)
    raise AssertionError("abort does not return")


def from_call(error: grpc.aio.AioRpcError) -> KlammError:
    """The error that the other side meant; without its details, what the transport can say."""
    status = _details(error)
    if status is None:
        return _of_transport(error)
    info = error_details_pb2.ErrorInfo()
    violations: dict[str, str] = {}
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = {each.field: each.description for each in bad.field_violations}
    return _of_reason(info.reason, info.metadata, status.message, violations)


def _of_reason(
    reason: str, metadata: Mapping[str, str], message: str, violations: Mapping[str, str]
) -> KlammError:
    match reason:
        case "NOT_CONTROLLER":
            return HintedNotControllerError(
                NodeId(_number(metadata, "leader_id", NO_NODE)),
                Epoch(_number(metadata, "epoch", NO_EPOCH)),
                metadata.get("leader_address", ""),
            )
        case "BAD_REQUEST":
            return BadRequestError(violations)
        case "OVERLOADED":
            return OverloadedError(message)
        case "COMPACTED":
            return CompactedError(Offset(_number(metadata, "first_offset", 0)))
        case "UNREACHABLE":
            return UnreachableError(message)
        case "COMMIT_UNKNOWN":
            return CommitUnknownError(message)
    code = _number(metadata, "error_code", ErrorCode.UNKNOWN_SERVER_ERROR)
    known = code in ErrorCode._value2member_map_
    return ApiError(ErrorCode(code) if known else ErrorCode.UNKNOWN_SERVER_ERROR, message)


def _of_transport(error: grpc.aio.AioRpcError) -> KlammError:
    said = f"{error.code().name}: {error.details()}"
    match error.code():
        case _ if (error.details() or "").startswith(NEVER_SENT):
            return UnreachableError(said)
        case _ if (error.details() or "").startswith(ANSWER_UNREAD):
            return ConnectionLostError(said)
        case grpc.StatusCode.UNIMPLEMENTED:
            return ApiError(ErrorCode.UNSUPPORTED_VERSION, said)
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.INVALID_ARGUMENT:
            return ApiError(ErrorCode.INVALID_REQUEST, said)
    return ConnectionLostError(said)


def _bad_request(error: BadRequestError) -> status_pb2.Status:
    status = _status(grpc.StatusCode.INVALID_ARGUMENT, error, "BAD_REQUEST")
    listed = list(error.violations.items())[:VIOLATIONS_MAX]
    status.details.add().Pack(
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=why)
                for field, why in listed
            ]
        )
    )
    status.message = "; ".join(f"{field}: {why}" for field, why in listed[:3])
    return status


def _status(
    code: grpc.StatusCode, error: KlammError, reason: str, **metadata: str
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    return status


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def _number(metadata: Mapping[str, str], key: str, default: int) -> int:
    try:
        return int(metadata.get(key, default))
    except ValueError:
        return default
