"""Recognises what a file is from its first bytes, so that it is read as that, or an error names it and the way to a CSV."""

import re
from pathlib import Path
from typing import Literal

Format = Literal["csv", "excel", "parquet", "spss", "stata", "sas transport", "sas"]

SAVE = 'open it, save the sheet as "CSV UTF-8" and give that file'
ARFF = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|%[^\n]*\n)*@relation", re.IGNORECASE)
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""A stream of the container in which Office keeps a file with a password ([MS-OFFCRYPTO], section 2.3.4.4)."""
ZIP = b"PK\x03\x04"
SAS = b"\0" * 12 + b"\xc2\xea\x81\x60"

OTHER_STARTS = {
    ZIP: "is a zip archive; unpack it and give the CSV that is in it",
    b"\x1f\x8b": "is compressed (gzip); unpack it and give the CSV that is in it",
    b"**COMPRESSED**": "is a SAS file of PROC CPORT; write it with PROC COPY and the XPORT engine and give that file",
}
NAMES: dict[Format, str] = {
    "csv": "text",
    "excel": "an Excel workbook",
    "parquet": "a Parquet file",
    "spss": "an SPSS file",
    "stata": "a Stata file",
    "sas transport": "a SAS transport file",
    "sas": "a SAS data set",
}
ENDINGS: dict[Format, tuple[str, ...]] = {
    "csv": (".csv", ".tsv", ".txt"),
    "excel": (".xlsx", ".xlsm", ".xltx"),
    "parquet": (".parquet", ".pq"),
    "spss": (".sav", ".zsav"),
    "stata": (".dta",),
    "sas transport": (".xpt", ".xport"),
    "sas": (".sas7bdat",),
}


def find_format(content: bytes) -> Format:
    """The format that the first bytes show; `csv` for all that is none of the others."""
    if content.startswith(ZIP) and b"xl/workbook" in content:
        return "excel"
    if content.startswith((b"$FL2@(#)", b"$FL3@(#)")):
        return "spss"
    if content.startswith(b"HEADER RECORD*******LIB"):
        return "sas transport"
    if content.startswith(SAS):
        return "sas"
    if content.startswith(b"PAR1"):
        return "parquet"
    return "stata" if is_stata(content) else "csv"


def is_stata(content: bytes) -> bool:
    """Whether the bytes start as those of Stata 4 or newer: up to Stata 12 with version, byte order and file type 1."""
    old = len(content) > 4 and 104 < content[0] <= 115 and content[1] in (1, 2) and content[2] == 1
    return content.startswith(b"<stata_dta>") or old


def describe_wrong_ending(form: Format, path: Path) -> str:
    """What to do about a file whose name has the ending of another format; empty if it has not."""
    ending = path.suffix.lower()
    named = next((name for name, endings in ENDINGS.items() if ending in endings), form)
    if named == form:
        return ""
    if form == "csv":
        return f"is named {ending}, but is no {NAMES[named].split(' ', 1)[1]}; give the file as it was exported"
    return f"is named {ending}, but is {NAMES[form]}; give it the ending {ENDINGS[form][0]}"


def name_spreadsheet(content: bytes) -> str:
    """What a spreadsheet is and what to do, such as `is an Excel workbook; ...`; empty for any other file.

    The members of a zip archive stand by name in its headers, uncompressed (APPNOTE.TXT, section 4.3.7).
    """
    if find_format(content) == "excel":
        return f"is an Excel workbook; {SAVE}"
    if content.startswith(ZIP) and b"opendocument.spreadsheet" in content[:200]:
        return f"is an OpenDocument spreadsheet; {SAVE}"
    if content.startswith(OLD_OFFICE) and ENCRYPTED in content:
        return "is an Excel workbook with a password; open it, save it without the password and give that file"
    return f"is an Excel workbook of the old format (.xls); {SAVE}" if content.startswith(OLD_OFFICE) else ""


def name_other_kind(content: bytes) -> str:
    """The same for every kind of file that is known here; empty for text and for unknown kinds."""
    if spreadsheet := name_spreadsheet(content):
        return spreadsheet
    if (form := find_format(content)) != "csv":
        return f"is {NAMES[form]}; export its data as a CSV and give that file"
    for start, line in OTHER_STARTS.items():
        if content.startswith(start):
            return line
    if ARFF.match(content[:100_000]):
        return "is an ARFF file (Weka, OpenML); save its data as a CSV whose first line holds the columns' names"
    return ""
