"""One partition on three brokers, in a world of lost messages, crashes and a model controller.

    client ──▶ Broker (the real Partition over the real Log) ◀──fetch── Broker
                      │ AlterPartition                ▲ metadata, late
                      ▼                               │
               ModelController: one at a time, elects from the ISR only

Everything between them is delayed, reordered and lost by the seed; disks lose unsynced tails.
`world.World` holds the safety properties and checks them after each event.
"""
