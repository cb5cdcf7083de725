"""The flags of `python -m fedhealth COMMAND`."""
