"""One broker's copies of partitions: it leads some, and follows others.

    metadata ──delta──▶ manager ──▶ Partition ── Log (klamm/log)
                          │             │
              fetcher ◀───┤         role: leader | follower          PURE cores
      one task a leader,  │             │        leader, follower, producer_state, admission
      Kafka's own Fetch   │         purgatory: produces and fetches that wait for an offset
                          │
                         isr ──AlterPartition port──▶ broker/control

What is true of a partition comes from the metadata image alone; what is in its log, from its
leader in the present leader epoch. A request that cannot be answered yet is parked, and woken by
the event it waits for or by its deadline; nothing polls.
"""
