"""Patients: sources, partitions, one hospital's CSV in memory, the schema and the preprocessing."""
