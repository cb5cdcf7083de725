"""The federation: its ServerApp, rounds, strategies, checkpoints and run folder."""
