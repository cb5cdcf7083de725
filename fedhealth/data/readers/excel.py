"""An Excel workbook -> `RawSheet` of one of its sheets, with Excel's row numbers."""

import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.readers.raw_sheet import RawSheet, damaged

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

PERCENT = "Excel shows these numbers as percentages; what it stores is read, such as 0.38 for 38 %"
FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
UNSAVED = re.compile(rb"<(?:\w+:)?calcPr\b[^>]*\bfullCalcOnLoad=[\"'](?:1|true)")
"""Read from the text, because openpyxl takes the attribute for true where a file does not have it."""


def read_excel(content: bytes, path: Path, name: str | None = None) -> RawSheet:
    """The sheet of this name; without a name the only one that has cells and is not hidden.

    Raises
    ------
    DataError
        The workbook is damaged or empty; cells are merged; formulas have no saved results.
    UsageError
        Several sheets have cells, or none is named so; the package that reads it is not installed.
    """
    with damaged(path, "an Excel workbook"):
        book = load(content)
    sheet, notes = choose_sheet(book, path, name)
    rows = [(row[0].row, row) for row in sheet.iter_rows() if any(cell.value is not None for cell in row)]
    check_merged(sheet, rows[0][0], path)
    check_formulas(content, sheet, path)
    places = [place for place in range(len(rows[0][1])) if any(row[place].value is not None for _, row in rows)]
    header = [str(rows[0][1][place].value or "").strip() for place in places]
    patients = [(number, [row[place].value for place in places]) for number, row in rows[1:]]
    cells = [(name, row[place]) for _, row in rows[1:] for name, place in zip(header, places, strict=True)]
    percent = Counter(name for name, cell in cells if "%" in cell.number_format and isinstance(cell.value, int | float))
    if hidden := sum(sheet.row_dimensions[number].hidden for number, _ in patients):
        notes.append(f"{hidden} hidden row{'s are' if hidden > 1 else ' is'} read like the others")
    return RawSheet(header, patients, {PERCENT: percent}, notes=tuple(notes))


def load(content: bytes, *, formulas: bool = False) -> "Workbook":
    """The workbook, with formulas or with their saved results; openpyxl's warnings are about what is no cell."""
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return openpyxl.load_workbook(io.BytesIO(content), data_only=not formulas)


def choose_sheet(book: "Workbook", path: Path, name: str | None) -> tuple["Worksheet", list[str]]:
    """The sheet to read, and a note about a hidden one that is not."""
    filled = [sheet for sheet in book.worksheets if any(has_cells(sheet))]
    if name is not None:
        return find_sheet(filled, path, name), []
    if not book.worksheets:
        raise DataError(
            [f'{path}: has no sheet that can be read; save it as "Excel Workbook", not as "Strict Open XML"']
        )
    if not filled:
        raise DataError([f"{path}: is empty; give a sheet with a header and a row for each patient"])
    shown = [sheet for sheet in filled if sheet.sheet_state == "visible"]
    hidden = [sheet for sheet in filled if sheet.sheet_state != "visible"]
    if not shown:
        raise UsageError(f"{path}: has only hidden sheets ({list_sheets(hidden)}); name one with --sheet")
    if len(shown) > 1:
        raise UsageError(f"{path}: has {len(shown)} sheets ({list_sheets(shown)}); name one with --sheet")
    return shown[0], [f"hidden sheets are not read: {list_sheets(hidden)}"] if hidden else []


def find_sheet(filled: list["Worksheet"], path: Path, name: str) -> "Worksheet":
    """The sheet of this name, whatever its capital letters."""
    found = [sheet for sheet in filled if sheet.title.casefold() == name.strip().casefold()]
    if not found:
        has = f"it has {list_sheets(filled)}" if filled else "it is empty"
        raise UsageError(f'{path}: no sheet "{printable(name, 40)}" with cells; {has}')
    return found[0]


def list_sheets(sheets: list["Worksheet"]) -> str:
    """The names of up to ten sheets."""
    names = ", ".join(f'"{printable(sheet.title, 40)}"' for sheet in sheets[:10])
    return f"{names}, ..." if len(sheets) > 10 else names


def has_cells(sheet: "Worksheet") -> Iterator[bool]:
    """Whether each cell has a value."""
    return (value is not None for row in sheet.iter_rows(values_only=True) for value in row)


def check_merged(sheet: "Worksheet", header_row: int, path: Path) -> None:
    """Refuse merged cells in the table: only the first of them has a value."""
    merged = sorted(sheet.merged_cells.ranges, key=lambda each: (each.min_row, each.min_col))
    if not merged:
        return
    first, more = merged[0], f" (and {len(merged) - 1} more)" if len(merged) > 1 else ""
    why = (
        "the first row must have one name in each column"
        if first.min_row <= header_row
        else "only the first of them has a value"
    )
    raise DataError([f"{path}: the cells {first.coord}{more} are merged; {why}; split them and fill in each"])


def check_formulas(content: bytes, sheet: "Worksheet", path: Path) -> None:
    """Refuse formulas whose results Excel has not saved: they would be missing, or 0.

    A program that writes a formula without computing it asks Excel to do so when it opens the file (`fullCalcOnLoad`), and
    some write the result 0. A result that is an empty text has the type `str` and no value.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name.endswith(".xml")}
    if not any(FORMULA.search(text) for text in members.values()):
        return
    unsaved = any(UNSAVED.search(text) for name, text in members.items() if name.startswith("xl/workbook"))
    cells = load(content, formulas=True)[sheet.title].iter_rows()
    formulas = [cell for row in cells for cell in row if cell.data_type == "f"]
    found = [cell for cell in formulas if unsaved or is_unsaved(sheet[cell.coordinate])]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        fault = f"the formula in {found[0].coordinate}{more} has no saved result"
        raise DataError([f"{path}: {fault}; open the file in Excel, save it and give it again"])


def is_unsaved(cell: Any) -> bool:
    """Whether a cell that holds a formula has no saved result."""
    return cell.value is None and cell.data_type != "str"
