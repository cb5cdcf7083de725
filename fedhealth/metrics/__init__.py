"""Federated metrics: what one hospital sends about its test patients, and what follows from sums over hospitals."""
