"""A standing service: many runs at the server, many runs at a hospital."""
