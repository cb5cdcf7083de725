"""gRPC options for both ends: sizes, keep-alive, limits. Checked against the C core of grpcio 1.85.

Keep-alive: either end pings a stream without traffic for `KEEPALIVE_SECONDS`. Routers and firewalls drop a connection
without traffic after a minute or more, and a hospital may train for hours; the ping also detects a dead peer. A gRPC
server that is not configured for this closes the connection ("too many pings").
"""

Options = list[tuple[str, int | str]]

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""The longest message, in all its frames together."""
MAX_FRAME_BYTES = 32 * 1024 * 1024
"""The longest frame. gRPC's own limit is twice this, because gRPC gives no reason for a refusal."""
READ_AHEAD_BYTES = 128 * 1024
"""What the server's gRPC receives of a stream that is not read. Its own estimate of the bandwidth allows up to 16 MB."""
CLIENT_READ_AHEAD_BYTES = 1024 * 1024
"""The same for a hospital, which has one stream: the server then waits less often until it may send more."""
KEEPALIVE_SECONDS = 30.0
ANSWER_SECONDS = 20.0
"""A connection is closed if a ping gets no reply within this time."""
IDLE_SECONDS = 300.0
"""A connection without any call is closed after this long."""
HANDSHAKE_SECONDS = 10.0
"""Maximum duration of a handshake."""


def server_options() -> Options:
    """Options of the server, with or without the TLS proxy in front of it."""
    return [
        *_common_options(),
        ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
        ("grpc.so_reuseport", 0),  # a second server on the same port is an error
        # This is GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS; the name of the string lacks "recv".
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(KEEPALIVE_SECONDS / 3)),
        ("grpc.max_connection_idle_ms", _milliseconds(IDLE_SECONDS)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(HANDSHAKE_SECONDS)),
    ]


def client_options(proxy: str | None = None) -> Options:
    """Options of a hospital's channel to its server, through the HTTP proxy with this URL (None: directly)."""
    return [
        *_common_options(),
        ("grpc.http2.lookahead_bytes", CLIENT_READ_AHEAD_BYTES),
        # A new attempt is a new connection, not the old one's back-off.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http_proxy", proxy) if proxy else ("grpc.enable_http_proxy", 0),
    ]


def _common_options() -> Options:
    return [
        ("grpc.max_receive_message_length", 2 * MAX_FRAME_BYTES),
        ("grpc.max_send_message_length", 2 * MAX_FRAME_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", _milliseconds(ANSWER_SECONDS)),
        ("grpc.http2.max_pings_without_data", 0),  # no limit
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
