"""Consensus, pure: KRaft's quorum (KIP-595, KIP-996, KIP-853's voters) as a function.

                    step(state, event, moment) ──▶ (state', effects)

    event    what happened: a request, an answer, a broken stream, time, a proposal, an fsync
    moment   the time, and one random draw
    effects  what the shell must do, in the order given

    state     what a voter remembers, and `restore` from what stood on its disk
    step      the front door: sees epochs, dispatches, checks invariants
    election  pre-vote, vote, becoming and unbecoming a leader
    vote      the same, asked of this voter
    replication   fetch, divergence, truncation, high watermark      (follow: the fetching side)
    thrift    who is told of new records at once, and who a little later
    snapshots who needs one, who may read one; a log begins at one   (download: the fetching side)
    reads     linearizable reads, many to a round
    resign    giving up, and what successors do about it
    transfer  handing over to one of them, with nothing left undone
    no_room   a voter whose disk is full
    slow_disk a leader whose own disk has stopped
    trust     a voter whose log has lost what it acknowledged
    membership    changing who votes, one voter at a time; learners
    voters    who votes, with which disk

No clock, chance, socket, disk or loop here; no record is ever opened: a log is its EpochChain.

How to drive it (the shell: controller/quorum/driver.py; the simulator: tests/sim). Start with
`restore(config, saved, log, voters, moment, snapshots=…)`. Then, one event at a time, never two
steps at once:

    1. If `state.next_deadline_ms` has come, step TimePassed before any other event.
    2. Carry out the effects in order:
       SaveQuorumState   durable before anything that follows it is done
       AppendRecords, AppendControl, AppendVoters, AppendFetched
                         written, so that reads see it; need not be durable: begin an fsync (or
                         have it follow the one in flight), go on, and step
                         LogFlushed(end_offset, truncations) once what stood there when the
                         fsync began is durable. `truncations` counts the Truncates done before the
                         fsync began. One fsync may cover many appends.
       Truncate, InstallSnapshot    durable before anything that follows; `truncations` counts both
       AppendChunk, AbandonDownload    to and of a file that bears no name of a snapshot yet
       VerifySnapshot    beside: look at every byte, make it durable, step SnapshotVerified with
                         the voters in its header, or SnapshotDamaged
       TrimLog, DeleteSnapshot    need not be durable: at the next start the log begins at a held
                         snapshot, or lower
       SendRequest       no waiting. Its answer comes as ResponseReceived, a certain or suspected
                         loss as RequestFailed (optional), both with the request. Fetch goes over
                         a stream: if that breaks, StreamLost(peer); no RequestFailed for it then.
       SendResponse, SendRecords    answer `call`; SendRecords adds the batches from `start_offset`
                         on as they are in the log (committed or not), up to `max_bytes`;
                         SendChunk the bytes of a snapshot
       Tell              to the state machine: LoadSnapshot, Commit, Claim, Renounce in order;
                         AcceptProposal, RefuseProposal, AcceptChange, RefuseChange, AnswerRead,
                         RefuseRead, RefuseTransfer, HandOver to whoever waits
    3. Who asked and went away: RequestDropped(call).
    4. A snapshot of what the state machine has applied, written under its name where
       `snapshots.may_create` allows it: SnapshotWritten. Retention wants the log to begin at one
       that is held: TrimRequested.

Messages may be lost, repeated, delayed and reordered; only what a stream delivers should arrive in
order. A crash loses the state and what was not durable, and nothing else.
"""
