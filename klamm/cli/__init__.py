"""`klamm`: what a person types.

    app ── cluster    up, down, kill, stop, pause, resume, start, status
        ├─ roll       every node restarted, one by one
        ├─ join       format, join                 ──▶ own_process
        ├─ quorum     describe, transfer, add, …   ╮
        ├─ brokers    list, unregister             │
        ├─ features   describe, upgrade, downgrade ├─▶ target (which cluster?) ─▶ gRPC
        ├─ topics     create, list, describe, …    │
        ├─ metadata   dump, backup, restore        ╯
        ├─ records    produce, consume             ──▶ Kafka
        ├─ config     reference, random-id
        └─ tour       the cluster, shown

Data goes to standard output, as a table or JSON; everything else to standard error, in sentences.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 nobody to talk to. Every command imports what it
needs when it runs, so that `--help` is quick.
"""

from klamm.cli.app import main

__all__ = ["main"]
