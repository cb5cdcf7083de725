"""Benchmarks: each module is a script with --help that prints a table and writes benchmarks/results/<name>.json."""
