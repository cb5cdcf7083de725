#!/usr/bin/env bash
# openpyxl 3.1.5: a workbook that does not ask for recalculation is read as one that does.
#
# Run: bash findings/recalculate_on_load.sh     (Python 3.11 or newer, a package index; seconds)
#
# Input: a workbook whose element calcPr has no attribute fullCalcOnLoad, as Excel and LibreOffice save it; here written by
# openpyxl with calculation.fullCalcOnLoad = None, and loaded with load_workbook.
#
# Expected: workbook.calculation.fullCalcOnLoad is None or False. The attribute is optional and its default is false (ECMA-376
# part 1, section 18.2.2), and openpyxl wrote the file from None.
# Observed: it is True. The default of openpyxl's own class CalcProperties is True, and it is taken for a missing attribute as well.
# With the attribute "0" it is False.
#
# Relevance: a program that writes formulas without computing them sets fullCalcOnLoad and leaves the results empty or 0, which
# load_workbook(data_only=True) returns as values. So the flag tells whether results can be trusted; by openpyxl's answer,
# no workbook that Excel has saved could be. fedhealth/data/readers/excel.py looks for the attribute in the file's text instead.
#
# Exit status: 0 if observed as described, 1 if not, 2 if openpyxl could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet openpyxl==3.1.5
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install openpyxl 3.1.5"; exit 2; }

cat >"$folder/recalculate.py" <<'PYTHON'
import io
import re
import sys
import zipfile

import openpyxl


def write_and_load(flag):
    """What the file says about recalculation, and what openpyxl says after loading it."""
    book = openpyxl.Workbook()
    book.active.append([63, "=A1+1"])
    book.calculation.fullCalcOnLoad = flag
    stream = io.BytesIO()
    book.save(stream)
    (element,) = re.findall(r"<calcPr[^>]*>", zipfile.ZipFile(stream).read("xl/workbook.xml").decode())
    return element, openpyxl.load_workbook(stream).calculation.fullCalcOnLoad


print(f"openpyxl {openpyxl.__version__}")
missing, without = write_and_load(None)
present, with_zero = write_and_load(False)
print(f"expected: None or False for {missing}; False for {present}")
print(f"observed: {without} for {missing}; {with_zero} for {present}")
sys.exit(0 if ("fullCalcOnLoad" not in missing, without, with_zero) == (True, True, False) else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/recalculate.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
