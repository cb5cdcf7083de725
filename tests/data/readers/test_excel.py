"""Workbooks as people keep them: several sheets, hidden rows, merged cells, formulas, percentages."""

import io
import itertools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.data.csv_table import Sheet
from fedhealth.data.hospital import parse_hospital
from fedhealth.data.readers.read_any import ReadOptions, read_any
from fedhealth.data.schema_file import heart_disease
from tests.support.format_files import save, to_excel, twenty_patients

openpyxl = pytest.importorskip("openpyxl", reason="pip install -r requirements-formats.txt")

HEART = heart_disease()
FILE = Path("p.xlsx")
ROWS = (("age", "sex", "chol"), (63, 1, 233.5), (40, 0, 200))


def book_of(**sheets: tuple[tuple[Any, ...], ...]) -> Any:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    return book


def read(book: Any, sheet: str | None = None) -> Sheet:
    return read_any(save(book), FILE, HEART, ReadOptions(sheet=sheet))


def refusal(content: Any, sheet: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_any(content if isinstance(content, bytes) else save(content), FILE, HEART, ReadOptions(sheet=sheet))
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix("p.xlsx: ")


def change(content: bytes, member: str, by: Callable[[bytes], bytes]) -> bytes:
    """The workbook with one member of its archive changed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, by(old.read(name)) if name == member else old.read(name))
    return stream.getvalue()


def test_rows_have_excel_s_numbers_and_empty_rows_and_columns_are_left_out() -> None:
    book = book_of(A=((), *ROWS[:2], (), (41, None, "63 ")))
    book["A"].insert_cols(2)
    sheet = read(book)
    assert sheet.header == ["age", "sex", "chol"]
    assert sheet.patients == [(3, ["63", "1", "233.5"]), (5, ["41", "", "63"])]


def test_an_empty_sheet_does_not_count_and_a_hidden_one_is_named() -> None:
    book = book_of(A=ROWS, empty=(), notes=(("internal",),))
    book["notes"].sheet_state = "hidden"
    assert read(book).notes == ('hidden sheets are not read: "notes"',)
    assert read(book, "A").notes == ()


def test_several_sheets_are_a_question_with_their_names() -> None:
    book = book_of(Patients=ROWS, Legend=(("sex", "1 = male"),))
    assert refusal(book) == 'has 2 sheets ("Patients", "Legend"); name one with --sheet'
    assert read(book, "patients").header == ["age", "sex", "chol"]
    assert refusal(book, "Sheet1") == 'no sheet "Sheet1" with cells; it has "Patients", "Legend"'


def test_a_workbook_with_only_a_hidden_sheet_or_without_cells_is_one_line() -> None:
    book = book_of(A=ROWS, empty=())
    book["A"].sheet_state = "veryHidden"
    assert refusal(book) == 'has only hidden sheets ("A"); name one with --sheet'
    assert read(book, "A").patients[0] == (2, ["63", "1", "233.5"])
    assert refusal(book_of(empty=())) == "is empty; give a sheet with a header and a row for each patient"


def test_merged_cells_are_one_line() -> None:
    book = book_of(A=ROWS)
    book["A"].merge_cells("A2:A3")
    assert refusal(book) == (
        "the cells A2:A3 are merged; only the first of them has a value; split them and fill in each"
    )
    book["A"].merge_cells("B1:C1")
    assert refusal(book).startswith("the cells B1:C1 (and 1 more) are merged; the first row must have one name in each")


def test_a_formula_without_a_saved_result_is_one_line_and_with_one_its_result_is_read() -> None:
    content = save(book_of(A=(ROWS[0], (63, 1, "=A2*4"), (40, 0, "=A3*5"))))
    unsaved = "the formula in C2 (and 1 more) has no saved result; open the file in Excel, save it and give it again"
    assert refusal(content) == unsaved
    with_results = change(
        content, "xl/worksheets/sheet1.xml", lambda text: re.sub(rb"</f><v ?/>", b"</f><v>200</v>", text)
    )
    assert refusal(with_results) == unsaved, "a program wrote 200 without computing it, as the workbook says"
    computed = change(with_results, "xl/workbook.xml", lambda text: text.replace(b' fullCalcOnLoad="1"', b""))
    assert read_any(computed, FILE, HEART).patients == [(2, ["63", "1", "200"]), (3, ["40", "0", "200"])]
    one_without = change(
        computed, "xl/worksheets/sheet1.xml", lambda text: text.replace(b"A3*5</f><v>200</v>", b"A3*5</f>")
    )
    assert refusal(one_without).startswith("the formula in C3 has no saved result")


def test_a_formula_whose_result_is_an_empty_text_is_a_missing_value() -> None:
    content = save(book_of(A=(ROWS[0], (63, 1, '=IF(A2>90,1,"")'))))
    content = change(content, "xl/workbook.xml", lambda text: text.replace(b' fullCalcOnLoad="1"', b""))
    content = change(
        content,
        "xl/worksheets/sheet1.xml",
        lambda text: text.replace(b'<c r="C2">', b'<c r="C2" t="str">').replace(b"</f><v />", b"</f><v></v>"),
    )
    assert read_any(content, FILE, HEART).patients == [(2, ["63", "1", ""])]


def test_percentages_and_hidden_rows_are_reported() -> None:
    book = openpyxl.load_workbook(io.BytesIO(to_excel(twenty_patients())))
    sheet = book.active
    for row in (2, 3, 4):
        sheet.cell(row, 10).number_format = "0.0%"
        sheet.row_dimensions[row].hidden = True
    warnings = parse_hospital(save(book), FILE).warnings
    assert warnings[0] == "3 hidden rows are read like the others"
    assert warnings[1] == (
        "Excel shows these numbers as percentages; what it stores is read, such as 0.38 for 38 % (in 3 cells of oldpeak)"
    )


def test_errors_of_excel_are_refused_and_its_na_is_missing() -> None:
    table: dict[str, list[Any]] = twenty_patients()
    table["chol"][:2] = ["#N/A", "#DIV/0!"]
    with pytest.raises(UsageError) as caught:
        parse_hospital(to_excel(table), FILE)
    assert str(caught.value).startswith('p.xlsx: row 3: chol is "#DIV/0!", not a number of mg/dl')
    assert "\n" not in str(caught.value)


def test_text_with_decimal_commas_beside_numbers_is_read() -> None:
    """Only text is judged: Excel's own numbers have no comma."""
    book = book_of(A=(("age", "oldpeak", "chol"), (63, "2,3", 233.5), (40, 1.5, "200,5")))
    assert read(book).patients == [(2, ["63", "2.3", "233.5"]), (3, ["40", "1.5", "200.5"])]


def test_a_first_row_of_values_is_one_line() -> None:
    header = to_excel({name: values[1:] for name, values in twenty_patients().items()})
    book = openpyxl.load_workbook(io.BytesIO(header))
    book.active.delete_rows(1)
    assert refusal(book).startswith("has no header line; add this first line")


def test_a_title_above_the_names_of_the_columns_is_one_line() -> None:
    book = openpyxl.load_workbook(io.BytesIO(to_excel(twenty_patients())))
    book.active.insert_rows(1, 2)
    book.active["A1"] = "Table 1. Patients"
    assert refusal(book) == "the names of the columns stand in row 3; delete the rows above it"


def test_a_strict_open_xml_workbook_is_one_line() -> None:
    """Openpyxl finds no sheet in it, and raises nothing."""
    strict = {
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/": b"http://purl.oclc.org/ooxml/spreadsheetml/",
        b"http://schemas.openxmlformats.org/officeDocument/2006/": b"http://purl.oclc.org/ooxml/officeDocument/",
    }
    content = save(book_of(A=ROWS))
    for member, (old, new) in itertools.product(("xl/workbook.xml", "xl/worksheets/sheet1.xml"), strict.items()):
        content = change(content, member, lambda text, old=old, new=new: text.replace(old, new))
    assert refusal(content) == 'has no sheet that can be read; save it as "Excel Workbook", not as "Strict Open XML"'


def test_an_encrypted_workbook_and_the_old_format_are_one_line() -> None:
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
    assert refusal(old + "EncryptedPackage".encode("utf-16-le")).startswith(
        "is an Excel workbook with a password; open"
    )
    with pytest.raises(UsageError, match=r"p.xls: is an Excel workbook of the old format \(.xls\); open it, save"):
        read_any(old, Path("p.xls"), HEART)
