"""The commands of `python -m fedhealth`, a module each: flags in, lines out. Other wings do the work."""
