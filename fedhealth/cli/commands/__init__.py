"""The commands of `python -m fedhealth`, one module each: they parse flags, call other wings and print lines."""
