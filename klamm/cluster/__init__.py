"""A cluster of local processes: start, kill, pause, resume, wait until; from tests or by hand.

    LocalCluster ── NodeProcess (controller-1 … broker-1 …)      children of this process
        │                └── DIR/broker-1/{server.properties,data}   DIR/logs/broker-1.log
        └── ClusterFile: DIR/cluster.json, kept true
    Supervisor ─── a LocalCluster and a door (a socket in DIR) for `klamm kill broker-1`

`layout` says what a cluster looks like on disk and on the network, `ports` finds it free ports.
"""
