"""What a node tells of itself: log lines, metrics, and whether it is alive and ready.

    logs      one line an event:  [2026-11-21 02:37:39,123] INFO became leader epoch=7 (raft)
    metrics   every metric's name in one table, Kafka's meaning in Prometheus spelling
    http      GET /metrics  /livez  /readyz      with reasons, and with limits

Nothing here knows what a controller or a broker is: each hands in functions that say its reasons.
"""
