"""The command line: flags, commands, and the entry point of `flwr run`."""
