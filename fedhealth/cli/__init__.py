"""The terminal: flags, commands, and the entry point of `flwr run`."""
