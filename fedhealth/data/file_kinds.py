"""Recognises files that hold no comma-separated text, so that an error can name them and the way to a CSV."""

import re

SAVE = 'open it, save the sheet as "CSV UTF-8" and give that file'
ARFF = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|%[^\n]*\n)*@relation", re.IGNORECASE)
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP = b"PK\x03\x04"


def name_spreadsheet(content: bytes) -> str:
    """What a spreadsheet is and what to do, such as `is an Excel workbook; ...`; empty for any other file.

    The members of a zip archive stand by name in its headers, uncompressed (APPNOTE.TXT, section 4.3.7).
    """
    if content.startswith(ZIP) and b"xl/workbook" in content:
        return f"is an Excel workbook; {SAVE}"
    if content.startswith(ZIP) and b"opendocument.spreadsheet" in content[:200]:
        return f"is an OpenDocument spreadsheet; {SAVE}"
    return f"is an Excel workbook of the old format (.xls); {SAVE}" if content.startswith(OLD_OFFICE) else ""


def name_other_kind(content: bytes) -> str:
    """The same for every kind of file that is known here; empty for text and for unknown kinds."""
    if spreadsheet := name_spreadsheet(content):
        return spreadsheet
    if content.startswith(ZIP):
        return "is a zip archive; unpack it and give the CSV that is in it"
    if content.startswith(b"\x1f\x8b"):
        return "is compressed (gzip); unpack it and give the CSV that is in it"
    if ARFF.match(content[:100_000]):
        return "is an ARFF file (Weka, OpenML); save its data as a CSV whose first line holds the columns' names"
    return ""
