"""The quorum: consensus, decisions, and the gRPC services in front of them.

    server/   EDGE   protobuf in, domain types inward
      │
    active    the active controller: decide on `pending`, propose, answer when committed
      │
    quorum/   SHELL  drives the core: store, peers, timers
      │
    raft/     CORE   consensus          plan/  CORE  decisions

Started by `python -m controller`.
"""
