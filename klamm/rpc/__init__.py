"""gRPC: one place for what every channel, server and failed call has in common.

    channel   host:port → calls                    connecting, and connecting again
    calls     a client's call, and its end of a connection
    server    services → a port                    health, reflection
    served    a server's call, and its end of a connection
    context   what each handler is given           messages one by one, without a turn of the loop
    admission how much of anything one server takes
    link      one TCP connection, either end       keepalive, back-pressure
    framing   gRPC's bytes inside HTTP/2           messages, statuses, timeouts
    status    KlammError ⇄ google.rpc.Status       definite or indefinite, and who leads instead
    stream    a bidirectional stream that fails by KlammError

Anything that speaks gRPC can call, and be called; generated code is used as it is. The transport
below is Klamm's own (klamm/http2): grpcio's was half of what a commit cost.

What became of one topic or partition is a Kafka error code inside the answer; a gRPC status is for
the call as a whole.
"""
