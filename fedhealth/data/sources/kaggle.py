"""The four Kaggle copies of the UCI data, recognised by content and mapped back to UCI's codes and label.

- 303 and 1025 rows: Cleveland only, recoded, the target turned round, patients repeated;
- 920 rows: all four hospitals as words, one patient under the wrong hospital;
- 918 rows: all four hospitals without their names, missing values filled in from the label.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.schema import HOSPITAL, LABEL, UNKNOWN_HOSPITAL
from fedhealth.data.sources.canonical_table import (
    MISSING,
    NUMBER,
    RAW_COLUMNS,
    RawRow,
    Source,
    build_table,
    fault_line,
    sort_by_hospital,
    split_lines,
)
from fedhealth.data.sources.kaggle_layouts import (
    IMPUTED,
    IMPUTED_BLOCKS,
    IMPUTED_SHA256,
    LAYOUTS,
    MISLABELLED_ID,
    RECODED,
    WORDS,
    Layout,
)
from fedhealth.data.sources.raw_files import bare_name, read_files, sha256_of

Lines = list[tuple[int, list[str]]]
"""(line number, fields) of a CSV, the header first."""


def normalise(text: str) -> str:
    """`TRUE` -> `true`, `3.0` -> `3`."""
    return text.lower().removesuffix(".0")


def decode_field(name: str, text: str, layout: Layout) -> str:
    """One field of a copy -> the same in UCI's codes.

    Raises
    ------
    ValueError
        A code that the copy does not have.
    """
    if not text and layout.empty_is_missing:
        return MISSING
    if name not in layout.codes:
        return text
    if (code := normalise(text)) not in layout.codes[name]:
        known = ", ".join(layout.codes[name])
        raise ValueError(f"{layout.columns[name]} is {printable(text, 40)!r}, expected one of {known}")
    return layout.codes[name][code]


def decode_hospital(fields: dict[str, str], layout: Layout) -> str:
    """The hospital of one row: the copy's own column put right, or the only one it can be.

    Raises
    ------
    ValueError
        A hospital that is none of the four.
    """
    if layout is RECODED:
        return "cleveland"
    if not layout.hospital_column:
        return UNKNOWN_HOSPITAL
    said = fields[layout.hospital_column]
    if said.lower() not in layout.hospitals:
        known = ", ".join(layout.hospitals)
        raise ValueError(f"{layout.hospital_column} is {printable(said, 40)!r}, expected one of {known}")
    return "hungary" if is_mislabelled(fields) else layout.hospitals[said.lower()]


def is_mislabelled(fields: dict[str, str]) -> bool:
    """Whether it is the one row of the 920 that stands under the wrong hospital."""
    return normalise(fields["id"]) == MISLABELLED_ID and fields["dataset"].lower() == "cleveland"


def decode_row(row_num: int, fields: dict[str, str], layout: Layout) -> RawRow:
    """One row of a copy (its column -> text) -> a raw row in UCI's codes; columns that the copy lacks are missing.

    Raises
    ------
    ValueError
        The first fault of the row.
    """
    columns = layout.columns
    names = [column.name for column in RAW_COLUMNS]
    texts = [decode_field(name, fields[columns[name]], layout) if name in columns else MISSING for name in names]
    return RawRow(row_num, decode_hospital(fields, layout), tuple(texts))


def decode_rows(lines: Lines, layout: Layout, file: str) -> list[RawRow]:
    """All rows below the header.

    Raises
    ------
    DataError
        One line for every faulty row, naming file, row and column.
    """
    header = lines[0][1]
    rows, faults = [], []
    for row_num, fields in lines[1:]:
        try:
            if len(fields) != len(header):
                raise ValueError(f"{len(fields)} fields, expected {len(header)}")
            rows.append(decode_row(row_num, dict(zip(header, fields, strict=True)), layout))
        except ValueError as error:
            faults.append(fault_line(file, row_num, str(error)))
    if faults:
        raise DataError(faults)
    return rows


def parse_recoded(lines: Lines, file: str, sums: dict[str, str]) -> Source:
    """The 303- or the 1025-row copy: recoded, turned round, repeats removed."""
    table = build_table(decode_rows(lines, RECODED, file), file)
    check_label_direction(table, file)
    distinct = table.drop_duplicates(ignore_index=True)
    repeats = len(table) - len(distinct)
    many = repeats > len(distinct) / 2
    name = "kaggle-1025" if many else "kaggle-303"
    description = (
        f"Kaggle's {name[7:]}-row copy of the Cleveland file: {len(distinct)} distinct patients of one hospital, "
        "recoded to UCI's codes, its inverted target put right (num is only 0 or 1)"
    )
    warning = (
        f"{file}: {repeats} of {len(table)} rows were exact repeats and are removed, {len(distinct)} patients are left"
    )
    if many:
        warning += (
            "; a random split of the original puts the same patient in train and test: results near 100 % mean nothing"
        )
    return Source(name, description, distinct, sums, (warning,) if repeats else ())


def check_label_direction(table: pd.DataFrame, file: str) -> None:
    """Raise a `UsageError` if the target is not turned round as in the published copy: some uploads have repaired it.

    Angina under exercise is several times as frequent in the ill (Cleveland: 55 % against 14 %).
    """
    ill, healthy = (table.loc[table[LABEL.name] == num, "exang"].mean() for num in (1, 0))
    if ill < healthy:
        raise UsageError(
            f"{file}: exercise angina is rarer where target is 0 ({ill:.0%}) than where it is 1 ({healthy:.0%}), but 0 "
            "means disease in this layout: the target was edited; give the published copy"
        )


def parse_words(lines: Lines, file: str, sums: dict[str, str]) -> Source:
    """The 920-row copy, each patient under its own hospital, in the order of the UCI files."""
    table = sort_by_hospital(build_table(decode_rows(lines, WORDS, file), file))
    header = lines[0][1]
    moved = any(is_mislabelled(dict(zip(header, fields, strict=True))) for _, fields in lines[1:])
    warning = (
        f"{file}: the row with id {MISLABELLED_ID} says Cleveland but is the Hungarian file's first; put back there"
    )
    description = (
        f"Kaggle's 920-row copy of the UCI files: {len(table)} patients of the four hospitals, words turned to codes"
    )
    return Source("kaggle-920", description, table, sums, (warning,) if moved else ())


def parse_imputed(lines: Lines, file: str, sums: dict[str, str], published: bool) -> Source:
    """The 918-row copy; its hospitals are known only in the published bytes."""
    table = build_table(decode_rows(lines, IMPUTED, file), file)
    leak = (
        f"{file}: missing values of this copy were filled in from the label, so results on it are too good: don't "
        "evaluate on it; ca and thal are not in it"
    )
    origin = f"{file}: it does not say whose patients these are; the hospital is {UNKNOWN_HOSPITAL!r}, no natural split"
    if published:
        table[HOSPITAL] = pd.Series(np.repeat([*IMPUTED_BLOCKS], [*IMPUTED_BLOCKS.values()]), dtype="str")
        table = sort_by_hospital(table)
        origin = f"{file}: it names no hospitals; they are told from its blocks, known because it is the published file"
    description = f"Kaggle's 918-row copy of the UCI files: {len(table)} patients, imputed (num is only 0 or 1)"
    return Source("kaggle-918", description, table, sums, (leak, origin))


def is_published_imputed(content: bytes) -> bool:
    """Whether it is the published 918-row copy, whatever its line ends and byte order mark."""
    plain = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return sha256_of(plain) == IMPUTED_SHA256


def parse_copy(content: bytes, file: str) -> Source | None:
    """A Kaggle copy -> its `Source`; None if the header is no copy's.

    Raises
    ------
    UsageError
        No CSV, or (as `DataError`) a layout's header with values that are not that layout's.
    """
    lines = split_lines(content, file)
    layout = next((layout for layout in LAYOUTS if lines and sorted(lines[0][1]) == layout.header()), None)
    sums = {bare_name(file): sha256_of(content)}
    if layout is RECODED:
        return parse_recoded(lines, file, sums)
    if layout is WORDS:
        return parse_words(lines, file, sums)
    return parse_imputed(lines, file, sums, is_published_imputed(content)) if layout else None


def describe_columns(content: bytes, file: str) -> str:
    """What stands in the first line, for an error; never a patient's values."""
    lines = split_lines(content, file)
    header = lines[0][1] if lines else []
    if not header or any(NUMBER.fullmatch(name) or name == MISSING for name in header):
        return f"no header line ({len(header)} fields)"
    return f"columns {printable(', '.join(header), 200)}"


def load_path(path: Path) -> Source:
    """The one Kaggle copy that is a file, or is in a folder or zip.

    Raises
    ------
    UsageError
        None there, or more than one; says what was found.
    """
    files = read_files(path, lambda name: name.endswith(".csv") or name == path.name.lower())
    sources = {file: source for file, content in files.items() if (source := parse_copy(content, file))}
    if len(sources) == 1:
        return next(iter(sources.values()))
    if sources:
        raise UsageError(
            f"{path}: more than one Kaggle copy in it ({', '.join(map(bare_name, sources))}); give one of them"
        )
    found = "no CSV" if not files else f"{len(files)} CSV files of other layouts"
    if len(files) == 1:
        found = describe_columns(*next((content, file) for file, content in files.items()))
    raise UsageError(
        f"{path}: found {found}; expected the four UCI files (processed.cleveland.data, processed.hungarian.data, "
        "processed.switzerland.data, processed.va.data) or a Kaggle copy of 303, 918, 920 or 1025 rows"
    )
