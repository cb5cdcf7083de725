"""The lines of a run in the terminals of the coordinator and of the hospitals."""
