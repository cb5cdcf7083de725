"""How messages travel: gRPC streams, TLS, and grids without a network."""
