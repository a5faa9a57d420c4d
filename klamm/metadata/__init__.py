"""Cluster metadata: what the log's records mean.

    records ──replay──▶ delta ──apply──▶ image ──▶ publishers
       ▲                                  │
     codec (protobuf)                  snapshot ──▶ loader (as a delta from the present image)

Leader, standby and broker run the same replay. An image is immutable: to hold one costs nothing.
Each carries a checksum of itself, which the delta moves along with every change.
"""
