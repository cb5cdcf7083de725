"""Fit the statistics from which synthetic patients are sampled to the real patients, and evaluate them."""
