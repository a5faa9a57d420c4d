"""The shell around `controller/raft`: the voter's disk, its peers, its timers, its callers.

             QuorumService (gRPC)      Quorum: propose, wait_committed, read_index, …
                     │ requests            │ calls
                     ▼                     ▼
    timers ──▶  QuorumDriver ── step(state, event, moment) ── controller/raft
                 │     │   │
          Write  │     │   │ Tell ──▶ StateMachine: on_snapshot, on_commit, on_claim, …
                 ▼     ▼ Send
              Store   Peers (gRPC)

    port         what is offered above: Quorum, StateMachine, and their errors       (node: it all)
    driver       steps the core where something is posted               (doing: one step)
    calls        those that wait for the core, and their answers       (proposals, refused: writes)
    applier      what is committed, to the state machine, in order
    store        quorum-state and the metadata log                (outside: as the driver knows it)
    flusher      group commit                     (kernel_sync: an fsync without a thread of ours)
    peers        one stream to the leader, unary calls to the voters; broken streams are events
    service      the servicer: refuses at the door, answers observers from what is committed
    fetches      one stream of fetches, from a request to its answer
    messages     protobuf ⇄ the core's messages                      (control: records of the log)
    journal      what a step changed, as log lines and metrics

    opening      what a disk holds at a start, and what is to be believed of it
                 (bounds, known_voters, identity, quorum_state, installs)
    downloads    snapshots on their way out; installs: on their way in
    disk_watch   damage and room, while it runs                                      (scrub, room)

The driver knows Store, Peers and Clock as ports, so that the simulator runs it too.
"""
