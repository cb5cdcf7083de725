"""All hospitals of a simulation as arrays: the client side of the NumPy engine."""
