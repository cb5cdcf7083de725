"""Frozen settings: the flags of scripts and commands and the run-config keys, each checked where it is made."""
