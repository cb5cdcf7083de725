"""Message transport: gRPC streams, TLS, and grids without a network."""
