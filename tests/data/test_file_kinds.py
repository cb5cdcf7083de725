"""Files that are no CSV are named, with the way to one."""

import gzip
import io
import zipfile

import pytest

from fedhealth.data.file_kinds import name_other_kind, name_spreadsheet


def zip_of(name: str, content: str = "x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


SPREADSHEETS = {
    "an Excel workbook;": zip_of("xl/workbook.xml"),
    "an OpenDocument spreadsheet;": zip_of("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
    "an Excel workbook of the old format (.xls);": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more",
}
OTHER_KINDS = {
    "a zip archive;": zip_of("heart.csv"),
    "compressed (gzip);": gzip.compress(b"age,sex\n"),
    "an ARFF file": b"% Title: heart\n\n%\n@RELATION heart\n@attribute age real\n",
}


@pytest.mark.parametrize("name", [*SPREADSHEETS, *OTHER_KINDS])
def test_another_kind_of_file_is_named_with_what_to_do(name: str) -> None:
    line = name_other_kind({**SPREADSHEETS, **OTHER_KINDS}[name])
    assert line.startswith(f"is {name}")
    assert line.endswith(("give that file", "the CSV that is in it", "holds the columns' names"))
    assert name_spreadsheet({**SPREADSHEETS, **OTHER_KINDS}[name]) == (line if name in SPREADSHEETS else "")


@pytest.mark.parametrize("content", [b"", b"age,sex\n63,1\n", b"relation,age\n", b"\xff\xfe", b"PK"])
def test_text_and_unknown_bytes_are_not_named(content: bytes) -> None:
    assert name_other_kind(content) == ""


def test_a_long_text_of_comments_takes_no_time() -> None:
    """A pattern that backtracks would need hours."""
    assert name_other_kind(b"% \n" * 100_000 + b"@relatio") == ""
