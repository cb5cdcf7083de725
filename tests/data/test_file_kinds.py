"""Files that are no CSV are named, with the way to one."""

import gzip
import io
import zipfile

import pytest

from fedhealth.data.file_kinds import OLD_OFFICE, find_format, name_other_kind, name_spreadsheet


def zip_of(name: str, content: str = "x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


SPREADSHEETS = {
    "an Excel workbook;": zip_of("xl/workbook.xml"),
    "an Excel workbook with a password;": OLD_OFFICE + "EncryptedPackage".encode("utf-16-le"),
    "an OpenDocument spreadsheet;": zip_of("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
    "an Excel workbook of the old format (.xls);": OLD_OFFICE + b" and more",
}
OTHER_KINDS = {
    "a zip archive;": zip_of("heart.csv"),
    "compressed (gzip);": gzip.compress(b"age,sex\n"),
    "a SAS file of PROC CPORT;": b"**COMPRESSED** **COMPRESSED** **COMPRESSED**",
    "a Parquet file;": b"PAR1",
    "an SPSS file;": b"$FL2@(#) SPSS DATA FILE",
    "a Stata file;": b"<stata_dta><header><release>118",
    "a SAS transport file;": b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!",
    "a SAS data set;": b"\0" * 12 + b"\xc2\xea\x81\x60",
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


@pytest.mark.parametrize("version", [105, 108, 110, 111, 113, 114, 115])
def test_files_of_old_versions_of_stata_are_known_by_version_byte_order_and_type(version: int) -> None:
    assert find_format(bytes([version, 2, 1, 0, 5])) == "stata"
    assert find_format(bytes([version, 1, 1, 0, 5])) == "stata"
    assert find_format(bytes([version]) + b"ge,sex") == "csv"
