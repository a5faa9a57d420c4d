"""gRPC plumbing: one place for what every channel, server and failed call has in common.

    channel   host:port → grpc.aio channel         limits, keepalive, reconnecting
    server    services  → grpc.aio server          the same limits, health, reflection
    parsing   bytes → request                  what is none is the caller's fault
    status    KlammError ⇄ google.rpc.Status       definite or indefinite, and who leads instead

What became of one topic or partition is a Kafka error code inside the answer; a gRPC status is for
the call as a whole.
"""
