"""The statistics behind the synthetic patients, fitted to the real ones."""
