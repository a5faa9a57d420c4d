"""This broker's life with the controllers.

    session       registers, then heartbeats on a stream to the active controller; asks to be
      │           unfenced, and to stop
    follower      follows the metadata log at any controller ──▶ MetadataLoader ──▶ publishers
      │
    isr           asks for other ISRs, one request in flight
    producer_ids  blocks of producer ids, fetched ahead

While no controller can be reached, all of it waits and nothing stops: clients are served from the
last image (kraft.md 3.6).
"""
