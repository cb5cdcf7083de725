#!/usr/bin/env bash
# pyreadstat 1.3.7 and pandas 3.1.1: of a SAS transport file with two data sets, the second is read as rows of the first.
#
# Run: bash findings/transport_data_sets.sh     (Python 3.11 or newer, a package index; about a minute)
#
# Input: a transport file (version 5, .xpt) with the data sets DEMO (AGE, SEX; 3 rows) and LAB (CHOL; 2 rows). A transport file
# holds a library: one header, and then for each data set its member header, the description of its columns and its rows
# (SAS Technical Support TS-140, "Record layout of a SAS version 5 or 6 data set in SAS transport format"). PROC COPY with the
# XPORT engine writes one whenever a library with several data sets is exported. Both members are as pyreadstat writes them.
#
# Expected: the 3 rows of DEMO; or an error, because the file holds more than one data set.
# Observed: 46 rows of AGE and SEX from pyreadstat.read_xport and from pandas.read_sas, without an error or a warning. The rows
# after the third are the headers and the rows of LAB as numbers, among them a cholesterol of 233 as an age.
#
# Relevance: a hospital's export may be such a file. Its invented rows would be refused cell by cell at best, as ages of 1e-40.
# fedhealth/data/readers/statistics.py counts the member headers first and refuses a file with more than one in one line.
#
# Exit status: 0 if observed as described, 1 if not, 2 if the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet pyreadstat==1.3.7 pandas==3.1.1 numpy==2.4.6
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install pyreadstat and pandas"; exit 2; }

cat >"$folder/two_data_sets.py" <<'PYTHON'
import sys
import warnings
from pathlib import Path

import pandas as pd
import pyreadstat

warnings.simplefilter("ignore")
MEMBER = b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!"
folder = Path(sys.argv[1])


def write(name, columns):
    """The bytes of a transport file with one data set."""
    path = folder / f"{name}.xpt"
    pyreadstat.write_xport(pd.DataFrame(columns), path, table_name=name, file_format_version=5)
    return path.read_bytes()


demo = write("DEMO", {"AGE": [63.0, 40.0, 50.0], "SEX": [1.0, 0.0, 1.0]})
lab = write("LAB", {"CHOL": [233.0, 200.0]})
both = folder / "both.xpt"
both.write_bytes(demo + lab[lab.index(MEMBER) :])
print(f"pyreadstat {pyreadstat.__version__}, pandas {pd.__version__}, data sets in the file: {both.read_bytes().count(MEMBER)}")
print("expected: 3 rows, or an error")
frames = {"pyreadstat": pyreadstat.read_xport(both)[0], "pandas": pd.read_sas(both, format="xport")}
for name, frame in frames.items():
    print(f"observed: {name} reads {len(frame)} rows; columns {list(frame.columns)}; 233 among the ages: {233.0 in set(frame.AGE)}")
described = all(len(frame) == 46 and list(frame.AGE[:3]) == [63, 40, 50] and 233.0 in set(frame.AGE) for frame in frames.values())
sys.exit(0 if described else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/two_data_sets.py" "$folder" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
