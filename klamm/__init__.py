"""What controllers and brokers stand on, and what a person touches.

    cli | testing | cluster        a person's side
            │
          client                   finds the active controller, retries what is definite
            │
    metadata | log | rpc           records and images, logs on disk, gRPC plumbing
            │
    v1 (generated) | config | telemetry | errors | clock
            │
           ids

Nothing here imports `controller` or `broker`.
"""
