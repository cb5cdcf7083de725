"""Studies that pool rows and are therefore not part of the package: comparison of methods, and synthetic statistics."""
