"""How one node reaches another over gRPC.

gRPC's own defaults are made for the internet: a peer that was away is tried again after up to two
minutes. Here a peer that comes back is found within RECONNECT_MS_MAX, and one that dies silently
(a cut cable, a paused machine) is noticed by keepalive; a killed one is noticed by the kernel at
once. The transport's floor for the reconnect delay is 100 ms, whatever is asked for.

Source: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html
"""

import os
from collections.abc import Sequence

import grpc.aio

# The transport would write lines of its own on a person's screen; what matters comes as errors.
# Read when the first channel or server is made.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Above the 8 MiB that one fetch of the metadata log may carry, with its framing."""

RECONNECT_MS_MIN = 100
"""Both the first delay and the time one attempt may take before the next begins."""

RECONNECT_MS_MAX = 100

KEEPALIVE_TIME_MS = 5_000
KEEPALIVE_TIMEOUT_MS = 3_000

METADATA_BYTES_MAX = 16 * 1024
"""Headers and trailers of one call, each way."""

Options = Sequence[tuple[str, int]]

_BOTH_ENDS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS: Options = (
    *_BOTH_ENDS,
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MS_MIN),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    # Channels to one address share no connection: a session's end says something about its node.
    ("grpc.use_local_subchannel_pool", 1),
    # Retrying is the caller's, who knows what is definite.
    ("grpc.enable_retries", 0),
    # No proxy stands between the nodes of a cluster, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: Options = (
    *_BOTH_ENDS,
    # A second process on the port must fail at its start, and not share our connections.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 1_024),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`. Connects at its first call; close it when done."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
