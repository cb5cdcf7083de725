"""The gRPC link: one bidirectional stream of Flower messages per hospital."""
