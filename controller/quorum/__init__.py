"""The shell around `controller/raft`: the voter's disk, its peers, its timers, its callers.

             QuorumService (gRPC)      Quorum: propose, wait_committed, read_index, …
                     │ requests            │ calls
                     ▼                     ▼
    timers ──▶  QuorumDriver ── step(state, event, moment) ── controller/raft
                 │     │   │
          Write  │     │   │ Tell ──▶ StateMachine: on_snapshot, on_commit, on_claim, …
                 ▼     ▼ Send
              Store   Peers (gRPC)

    port      what is offered above: Quorum, StateMachine, and their errors
    driver    one task steps the core and carries out its effects, in order
    store     quorum-state and the metadata log; group commit
    peers     one stream to the leader, unary calls to the voters; broken streams are events
    service   the servicer: refuses at the door, answers observers from what is committed
    installs  snapshots on their way in, and how they and the log fit each other at a start
    downloads snapshots on their way out
    messages  protobuf ⇄ the core's messages

The driver knows Store, Peers and Clock as ports, so that the simulator runs it too.
"""
