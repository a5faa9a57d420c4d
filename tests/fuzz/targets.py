"""All targets, by name."""

from tests.fuzz import (
    controller_requests,
    grpc_wire,
    kafka_codec,
    log_files,
    metadata_records,
    quorum_messages,
    record_batches,
    small_files,
    snapshots,
)
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET
    for module in (
        quorum_messages,
        metadata_records,
        record_batches,
        log_files,
        snapshots,
        small_files,
        controller_requests,
        grpc_wire,
        kafka_codec,
    )
}
