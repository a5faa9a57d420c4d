"""How much one peer may have of anything. A peer that takes more loses its connection, by name."""

STREAMS_MAX = 1_024
"""Open at once on one connection; more are refused one by one (REFUSED_STREAM: not processed)."""

FRAME_BYTES_MAX = 1 << 18
"""Of one frame that we take; large messages come in few of them. It is kept until it is whole."""

HEADER_BLOCK_BYTES_MAX = 32 * 1024
"""HEADERS and its CONTINUATIONs together, as they come."""

HEADER_LIST_BYTES_MAX = 16 * 1024
"""Decoded, with 32 bytes a field (RFC 9113 6.5.2). A small block may unfold to a large list."""

CONTINUATIONS_MAX = 16
"""Of one block: empty ones cost nothing to send."""

STREAM_WINDOW_BYTES = 1 << 20
"""Of a stream's data that may be on its way while nobody reads it."""

CONNECTION_WINDOW_BYTES = 1 << 24

WINDOW_BYTES_MAX = 2**31 - 1

CONTROL_FRAMES_MAX = 1_000
"""PING, SETTINGS, RST_STREAM, PRIORITY, empty DATA and the like, that a peer may send more than it
sends of anything useful: each costs us more than it."""

RESETS_MAX = 10 * STREAMS_MAX
"""Streams that a peer may begin and give up between two looks: each is a call begun for nothing
("rapid reset"). All that run may well run out of time at once."""

SETTINGS_MAX = 64
"""In one frame."""

SETTINGS_FRAMES_MAX = 256
"""Between two looks. Each may touch every stream; peers that measure the way change their windows
with a few a second."""

UNFINISHED_LOOKS_MAX = 2
"""A greeting, a frame or a header block may be open over so many looks (klamm/rpc/link.py)."""

UNREAD_LOOKS_MAX = 12
"""So many looks without a byte of it gone, and a whole answer is dropped: its call is over, and so
is its deadline."""

BLOCKS_REMEMBERED_MAX = 64
"""Header blocks of a connection whose meaning is kept."""

BLOCK_REMEMBERED_BYTES_MAX = 2_048
"""Of one of them, as it came and unfolded."""
