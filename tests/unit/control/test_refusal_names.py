"""What a controller refuses a broker with, in words."""

from broker.control.snapshots import refusal_name
from klamm.v1 import quorum_pb2 as pb


def test_a_newer_controllers_reason_is_a_number_and_no_traceback() -> None:
    wire = pb.FetchResponse.FromString(b"\x08\x63")  # error: 99
    assert refusal_name(wire.error) == "99"
    assert refusal_name(pb.QUORUM_ERROR_OVERLOADED) == "QUORUM_ERROR_OVERLOADED"
