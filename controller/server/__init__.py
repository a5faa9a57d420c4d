"""The edge: protobuf in, domain types inward; refuse at the door, say whether it happened.

    AdminService ───────┐                      door      what no controller would take
    ControllerService ──┼──▶ ActiveController  answers   results and images → messages
    MetadataService ────┴──▶ image, Quorum     freshness an image as new as was asked for
    (QuorumService lives with the quorum)      serving   what grpc.health.v1 says, and when

A failed call carries google.rpc.Status (klamm/rpc/status.py); what became of one topic or partition
is a Kafka error code in its row.
"""
