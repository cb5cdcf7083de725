"""Settings of the process while a server listens: they are undone, and the memory of large arrays returns to the system."""

import gc
import subprocess
import sys

import pytest

from fedhealth.common.runtime_env import rare_collections

HOLD_AND_FREE = """
from fedhealth.common.runtime_env import return_large_memory
return_large_memory()

def resident():
    words = open("/proc/self/status").read().split()
    return int(words[words.index("VmRSS:") + 1]) * 1024

del bytearray(20_000_000)[:]  # so that glibc would keep smaller arrays from now on
before = resident()
held = [bytearray(2_000_000) for _ in range(20)]
small = [bytes(1000) for _ in range(1000)]
del held
print(resident() - before)
"""


def test_collections_are_as_before_afterwards_also_after_an_error() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(KeyError), rare_collections():
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > frozen
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_arrays_leave_the_process_although_a_larger_one_was_freed_before() -> None:
    found = subprocess.run([sys.executable, "-c", HOLD_AND_FREE], capture_output=True, check=True, text=True)
    assert int(found.stdout) < 5_000_000
