"""One reading of a large CSV in this process, for `large_table.py`: prints its seconds and its peak of memory as JSON."""

import json
import sys
import time
from pathlib import Path

WAYS = ("ours", "pandas")


def main() -> None:
    """Import everything, read once, print."""
    way, file, schema = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    import pandas as pd
    import pyarrow.csv  # noqa: F401  # a client imports it for a large file only; the time is that after the imports

    from fedhealth.data.hospital import load_hospital
    from fedhealth.data.preprocessing import encode
    from fedhealth.data.schema_file import load_schema

    def ours() -> object:
        columns = load_schema(schema)
        hospital = load_hospital(file, schema=columns)
        encoded = encode(columns, hospital.patients.features, missing_indicators=True)
        return hospital, encoded

    def pandas() -> object:
        comma = file.stem == "decimal commas"
        return pd.read_csv(file, sep=";" if comma else ",", decimal="," if comma else ".")

    before = reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    kept = ours() if way == "ours" else pandas()
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**seconds, "peak": read_memory("VmHWM") - before}))
    del kept


def reset_peak() -> int:
    """Forget the peak of memory so far; the bytes in use now (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_memory("VmRSS")


def read_memory(key: str) -> int:
    """Bytes of one line of /proc/self/status."""
    return int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
