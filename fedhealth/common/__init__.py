"""Helpers for every wing: errors, atomic files, safe text, text tables, log odds, arrays and the runtime environment."""
