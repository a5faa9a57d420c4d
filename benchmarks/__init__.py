"""What Klamm claims in numbers, with the peer beside it in the same run.

    failover.py   leader killed → next committed write, Klamm and etcd; broker killed → writable
    transfer.py   leadership handed over: the command, and the writes that stand still
    commit.py     one client's latency, and writes a second, Klamm and etcd
    snapshot.py   a million partitions: commits while they are written, an empty disk filled
    startup.py    nothing → first acknowledged write, and memory per node
    etcd.py       the peer: three etcd nodes with their defaults

Figures are ratios and medians from one machine in one run; they are never tests.
"""
