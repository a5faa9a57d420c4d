"""Partitions, replication and the Kafka protocol.

    listener/  SHELL  TCP, frames, order, limits
       │
    api/       one file a Kafka API: message in, message out
       │
    replica/   one partition's copy        control/  this broker's life with the controllers
       │
    kafka/     PURE   the wire format

Started by `python -m broker`.
"""
