"""The same two apps without a network, and hospitals without a site: for tests, studies and simulations.

`grid.py` has its hospitals in this process, `workers.py` in a few; `hospitals.py` says who stands behind a number, for these
two as for Flower's own simulation engine.
"""

from fedhealth.simulation.grid import HospitalApp, InProcessGrid

__all__ = ["HospitalApp", "InProcessGrid"]
