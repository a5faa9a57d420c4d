"""The Kafka wire protocol: bytes to messages and back. Pure: no loop, socket, clock or file.

    frame ──▶ header ──▶ codec ──▶ messages.fetch.FetchRequest ──▶ a handler
                          │  ▲
              compiled once per (API, version, direction)
                          │  │
       reader, writer ◀───┘  └── schema: what the fields of messages/ are on the wire

`api` has the table of APIs and versions; `messages/` one file an API, classes named as in Kafka's
own message definitions. `metadata_response` assembles the largest answer from cached pieces.

What comes in: any bytes at all. What goes up: a message that is whole and valid, or
`MalformedFrameError`. Lengths and counts are held against the bytes that are there before anything
is allocated for them.
"""
