"""What a failed call says, there and back."""

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from klamm.errors import (
    API_MESSAGE_CHARACTERS_MAX,
    ApiError,
    CommitUnknownError,
    ErrorCode,
    IndefiniteError,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.ids import Epoch, NodeId, Offset
from klamm.rpc import status
from klamm.rpc.status import BadRequestError, CompactedError, HintedNotControllerError


def there_and_back(error: KlammError, leader_address: str = "") -> KlammError:
    wire = rpc_status.to_status(status.to_status(error, leader_address))
    return status.from_call(
        grpc.aio.AioRpcError(
            wire.code,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*wire.trailing_metadata),
            details=wire.details,
        )
    )


@pytest.mark.parametrize(
    "error",
    [
        ApiError(ErrorCode.STALE_BROKER_EPOCH, "broker 1 has epoch 9"),
        BadRequestError({"topics": "at most 1000, are 1001", "timeout_ms": "is negative"}),
        OverloadedError("INBOX_MAX"),
        CompactedError(Offset(42)),
        UnreachableError("no leader"),
        CommitUnknownError("may yet commit"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_comes_back_as_itself(error: KlammError) -> None:
    back = there_and_back(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert isinstance(back, IndefiniteError) is isinstance(error, IndefiniteError)


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.NOT_CONTROLLER}))
def test_every_kafka_error_has_its_code(code: ErrorCode) -> None:
    back = there_and_back(ApiError(code, "why"))
    assert isinstance(back, ApiError)
    assert (back.code, back.message) == (code, "why")


def test_a_refusal_names_the_leader_and_its_address() -> None:
    back = there_and_back(NotControllerError(NodeId(3), Epoch(7)), "10.0.0.3:9093")
    assert isinstance(back, HintedNotControllerError)
    assert (back.leader, back.epoch, back.address) == (3, 7, "10.0.0.3:9093")


def test_a_thousand_bad_rows_are_cut_short() -> None:
    back = there_and_back(BadRequestError({f"topics[{row}]": "bad" for row in range(1_000)}))
    assert isinstance(back, BadRequestError)
    assert len(back.violations) == status.VIOLATIONS_MAX


def test_a_sentence_is_not_as_long_as_what_it_is_about() -> None:
    """Kafka's strings have 32,767 bytes at most, and a request may hold thousands of bad rows."""
    error = ApiError(ErrorCode.INVALID_CONFIG, "ü" * 40_000)
    assert len(error.message) == API_MESSAGE_CHARACTERS_MAX
    assert error.message.endswith("ü…")
    assert ApiError(ErrorCode.INVALID_CONFIG, "why").message == "why"
    whole = "x" * API_MESSAGE_CHARACTERS_MAX
    assert ApiError(ErrorCode.INVALID_CONFIG, whole).message == whole


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        # Nothing was sent.
        (
            grpc.StatusCode.UNAVAILABLE,
            "nothing was sent: no connection to …",
            UnreachableError,
        ),
        # It may have been.
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", status.ConnectionLostError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", status.ConnectionLostError),
        (grpc.StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>", status.ConnectionLostError),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{status.ANSWER_UNREAD}: a message of 18000000 bytes or more",
            status.ConnectionLostError,
        ),
        # A version apart, or too much at once.
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ApiError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", ApiError),
    ],
)
def test_the_transports_own_failures(
    code: grpc.StatusCode, details: str, kind: type[KlammError]
) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    assert type(status.from_call(error)) is kind
