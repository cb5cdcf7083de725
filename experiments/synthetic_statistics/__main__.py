"""`python -m experiments.synthetic_statistics FOLDER`: fit the statistics of the synthetic patients again."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedhealth.common.errors import FedHealthError, UsageError


def load_real(folder: str) -> pd.DataFrame:
    """Read the published UCI files.

    Raises
    ------
    UsageError
        There is no such folder, or it does not hold the published files.
    """
    from fedhealth.data.sources.load import load_source

    path = Path(folder).resolve()  # so that a folder called "uci" is not taken for the source of that name
    source = load_source(str(path), url="", patients=0, seed=0, raw_folder=path)
    if source.name != "uci" or source.warnings:
        found = "; ".join([source.description, *source.warnings])
        raise UsageError(f"{folder}: {found}; give the folder with the four published UCI files")
    return source.table


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite `fitted.toml` from the folder of the four UCI files and print its quality; returns the exit code."""
    from experiments.synthetic_statistics.fidelity import describe_fidelity
    from experiments.synthetic_statistics.fit import fit_statistics
    from experiments.synthetic_statistics.toml_writer import write_statistics

    arguments = sys.argv[1:] if argv is None else argv
    try:
        if len(arguments) != 1:
            raise UsageError(
                "usage: python -m experiments.synthetic_statistics FOLDER (the folder with the four UCI files)"
            )
        patients = load_real(arguments[0])
        write_statistics(fit_statistics(patients))
    except FedHealthError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for line in describe_fidelity(patients):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
