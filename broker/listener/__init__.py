"""The Kafka listeners: TCP connections in, frames to handlers, responses out in request order.

    sockets ── listeners ── one Connection a client
                  │              │  bytes ─▶ frames ─▶ Dispatcher ─▶ handler (broker/api)
               limits,           │                          │ now, or later
               idle sweep        └◀── socket ◀── outbox ◀── FIFO of answers

What comes in: any bytes from anyone. A frame that is no request of an API and version served here
costs its sender the connection and the log one line; nothing else of this node hears of it.

Limits, each by name: the size of a frame, connections (in all, and of one address), requests in
flight on a connection, requests handled in one turn of the loop, bytes that wait to be sent, the
time without a whole request. At a limit the connection is not read on: TCP tells the client to
wait.
"""
