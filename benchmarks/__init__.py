"""What Klamm claims in numbers, with the peer beside it in the same run.

    failover.py   leader killed → next committed write, Klamm and etcd; broker killed → writable
    commit.py     one client's latency, and writes a second, Klamm and etcd
    startup.py    nothing → first acknowledged write, and memory per node
    etcd.py       the peer: three etcd nodes with their defaults

Figures are ratios and medians from one machine in one run; they are never tests.
"""
