"""Studies that pool rows and therefore stand outside the package: what federation is worth, and the synthetic statistics."""
