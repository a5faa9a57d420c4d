"""The quorum's real shell on a simulated loop, network and disk, from a seed.

QuorumNode: driver, applier, store, peers, service, messages      the code that ships
    │ grpc.aio's channel and servicer     │ Files        │ Clock       │ rng
transport: cuts, losses, breaks      SimFiles       loop's time      the seed's

world     nodes that are started, cut off, paused, killed
disks     a node's data directory, and the disks that it had before; voting: which may be lost
administrator  gives each new disk its node's vote, by the real changes of the voters
recorder  what every incarnation was told, and what clients were: the invariants
clients   proposals and reads
snapshots written, trimmed to, and held against what was committed when one is loaded
troubles  what goes wrong, and when
mutants   planted bugs of the shell
"""
