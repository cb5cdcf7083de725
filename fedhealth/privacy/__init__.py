"""Differential privacy for every patient: what is promised, what keeps it, what it has cost so far.

`randomness.py` draws the noise, `accounting.py` says what it is worth, `plan.py` turns a promise into steps, `budget.py`
writes down what was told, `release.py` makes noisy counts. What is covered by which theorem: docs/privacy.md.
"""

from fedhealth.privacy.accounting import epsilon_of_steps, noise_for_epsilon
from fedhealth.privacy.budget import Budget, Spent, budget_path, reset_budget
from fedhealth.privacy.plan import PrivatePlan, count_epsilon, make_plan
from fedhealth.privacy.randomness import Randomness
from fedhealth.privacy.release import NUM_GROUPS, noisy_count, noisy_histogram

__all__ = [
    "NUM_GROUPS",
    "Budget",
    "PrivatePlan",
    "Randomness",
    "Spent",
    "budget_path",
    "count_epsilon",
    "epsilon_of_steps",
    "make_plan",
    "noise_for_epsilon",
    "noisy_count",
    "noisy_histogram",
    "reset_budget",
]
