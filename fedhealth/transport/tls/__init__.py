"""Certificates, TLS handshakes and the proxy in front of the gRPC server."""
