"""Differential privacy for every patient: mechanisms, accounting and the ledger (docs/privacy.md)."""
