"""How many random examples a property is tried on: a fifth of them in `make test`, all in `make test-slow`."""

import os

ALL_EXAMPLES = "FEDHEALTH_ALL_EXAMPLES"


def examples(number: int) -> int:
    """`number` where the environment variable FEDHEALTH_ALL_EXAMPLES is set, else a fifth of it, but 10 at least."""
    return number if os.environ.get(ALL_EXAMPLES) else min(number, max(10, number // 5))
