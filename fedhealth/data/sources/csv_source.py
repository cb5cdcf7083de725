"""One file in any layout -> a `Source`: a published copy if its rows are published ones, else the user's own patients."""

from pathlib import Path, PurePath

import pandas as pd

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.csv_table import Sheet, Table, check_rows, read_sheet, take_table
from fedhealth.data.hospital import find_table_warnings
from fedhealth.data.layouts import any_column, describe_foreign_header, find_columns
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions, read_any
from fedhealth.data.schema import plain_name
from fedhealth.data.sources.canonical_table import Source, sort_by_hospital
from fedhealth.data.sources.copies import drop_repeats, drop_undefined, find_copy_warnings, find_hospitals, name_copy
from fedhealth.data.sources.heart import (
    COLUMN_NAMES,
    FEATURE_NAMES,
    FEATURES,
    FEWEST_KNOWN,
    HEART,
    HOSPITAL,
    LABEL,
    LABELS,
    TARGET,
)
from fedhealth.data.sources.known_rows import load_known_rows
from fedhealth.data.sources.published import Recognised, recognise
from fedhealth.data.sources.raw_files import bare_name, read_files, sha256_of
from fedhealth.data.sources.readings import AUTO, Answers, Copy, Reading, check_known, decode, find_reading
from fedhealth.data.validation import validate_table

MUST_BE_THERE = [column.name for column in FEATURES if not column.can_be_missing]


def load_path(path: Path, answers: Answers = AUTO, options: ReadOptions = AS_IT_IS) -> Source:
    """The one CSV with heart disease data that is a file, or is in a folder or zip.

    Raises
    ------
    UsageError
        None there, or more than one; or (as `DataError`) what is wrong with the only one.
    """
    files = read_files(path, lambda name: name.endswith(".csv") or name == path.name.lower())
    if not files:
        raise UsageError(f"{path}: found no CSV and not the four UCI files; give the CSV itself")
    chosen = files if len(files) == 1 else {file: files[file] for file in files if is_ours(files[file])}
    if len(chosen) > 1:
        raise UsageError(
            f"{path}: several CSVs in it are heart disease data ({', '.join(map(bare_name, chosen))}); give one"
        )
    if not chosen:
        raise UsageError(
            f"{path}: none of the {len(files)} CSVs in it has the columns of heart disease data; give the CSV itself"
        )
    ((file, content),) = chosen.items()
    return parse_source(content, file, answers, options)


def is_ours(content: bytes) -> bool:
    """Whether a file's header is that of heart disease data with a diagnosis."""
    try:
        found = find_columns(HEART, read_sheet(content, Path(), HEART).header)
    except DataError:
        return False
    return len(set(FEATURE_NAMES) & set(found)) >= FEWEST_KNOWN and bool(set(LABELS) & set(found))


def parse_source(content: bytes, file: str, answers: Answers = AUTO, options: ReadOptions = AS_IT_IS) -> Source:
    """One file in any format of `read_any` -> its patients in UCI's codes, under the name of its published copy or as `own`.

    Raises
    ------
    UsageError
        Its codes or labels have more than one reading; or (as `DataError`) one line for each fault.
    """
    copy = read_copy(content, file, options)
    check_known(copy)
    recognised = recognise(copy, load_known_rows())
    if recognised:
        check_answers(copy, recognised.reading, answers)
        return build_published(copy, recognised, content)
    return build_own(copy, find_reading(copy, answers), answers, content)


def read_copy(content: bytes, file: str, options: ReadOptions = AS_IT_IS) -> Copy:
    """The columns of a file in any layout under our names."""
    sheet = read_any(content, Path(file), HEART, options)
    found = find_columns(HEART, sheet.header)
    check_names(sheet, found, file)
    check_rows(sheet, Path(file), minimum=1)
    ignored = [name for name in sheet.header if not any_column(HEART, name) and plain_name(name) != "id"]
    table = take_table(sheet, {name: found[name] for name in COLUMN_NAMES if name in found}, ignored)
    label = LABEL.name if LABEL.name in found else TARGET
    cells = {name: texts for name, texts in table.cells.items() if name not in LABELS}
    names = {name: sheet.header[place] for name, place in found.items()} | {TARGET: sheet.header[found[label]]}
    return Copy(
        file=file,
        table=Table(table.rows, cells, ignored, table.short_rows),
        names=names,
        label=plain_name(names[TARGET]),
        labels=table.cells[label],
        target=table.cells.get(TARGET) if label != TARGET else None,
    )


def check_names(sheet: Sheet, found: dict[str, int], file: str) -> None:
    """Refuse the header of another data set, and a column of ours that is there twice or must not be missing."""
    features = set(FEATURE_NAMES) & set(found)
    if len(features) < FEWEST_KNOWN:
        raise DataError([f"{file}: {describe_foreign_header(HEART, sheet.header)}"])
    missing = [name for name in MUST_BE_THERE if name not in found]
    if not set(LABELS) & set(found):
        missing.append(f"the diagnosis ({TARGET} or {LABEL.name})")
    faults = [f"{file}: has no column for {', '.join(missing)}; add each with its values"] if missing else []
    for name in COLUMN_NAMES:
        names = [text for text in sheet.header if any_column(HEART, text) == name]
        if len(names) > 1:
            faults.append(f"{file}: {' and '.join(names)} are both {name}; keep one")
    if faults:
        raise DataError(faults)


def check_answers(copy: Copy, reading: Reading, answers: Answers) -> None:
    """Raise a `UsageError` if a flag contradicts what the published rows show."""
    label_1 = "ill" if reading.labels.one_is_ill else "healthy"
    for flag, given, right in (("codes", answers.codes, reading.codes.flag), ("label-1", answers.label_1, label_1)):
        if given not in ("auto", right):
            raise UsageError(
                f"{copy.file}: its rows are those of a published copy, in which --{flag} is {right}, not {given}; "
                f"leave --{flag} out"
            )


def build_published(copy: Copy, recognised: Recognised, content: bytes) -> Source:
    """The `Source` of a published copy."""
    undefined = drop_undefined(copy, recognised.reading)
    hospitals, moved = find_hospitals(copy, recognised, content)
    table, warnings = build_table(copy, recognised.reading, hospitals)
    table, repeats, repeated = drop_repeats(table, copy)
    name, title = name_copy(copy, recognised, repeats)
    return Source(
        name=name,
        description=f"{title}, known by its rows: {len(table)} patients; it has {recognised.reading}",
        table=sort_by_hospital(table),
        sha256={bare_name(copy.file): sha256_of(content)},
        warnings=(*undefined, *warnings, *repeated, *moved, *find_copy_warnings(copy, recognised, hospitals)),
    )


def build_own(copy: Copy, reading: Reading, answers: Answers, content: bytes) -> Source:
    """The `Source` of patients who are in no published copy; their hospital is the file's column, else the file's name."""
    stem = printable(PurePath(bare_name(copy.file)).stem, 100)
    named = copy.table.cells.get(HOSPITAL, [""] * len(copy.labels))
    table, warnings = build_table(copy, reading, [printable(text, 100) or stem for text in named])
    if turned := describe_turned_label(table, copy):
        if copy.label == "output" and answers.label_1 == "auto":
            raise UsageError(f"{copy.file}: {turned}; give --label-1 ill or --label-1 healthy")
        warnings.append(f"{copy.file}: {turned}; check what the label means (--label-1)")
    return Source(
        name="own",
        description=f"{len(table)} patients of {bare_name(copy.file)}, which is no published copy; it has {reading}",
        table=table,
        sha256={bare_name(copy.file): sha256_of(content)},
        warnings=tuple(warnings),
    )


def describe_turned_label(table: pd.DataFrame, copy: Copy) -> str:
    """That the label may be turned round; empty if exercise angina or ST depression is as frequent in the ill as usual.

    Both are higher in the ill of all four UCI hospitals (exercise angina: 46 to 72 % against 10 to 38 %).
    """
    means = table.groupby(TARGET)[["exang", "oldpeak"]].mean()
    if len(means) < 2 or not bool((means.loc[1] < means.loc[0]).all()):
        return ""
    name = copy.names[TARGET]
    return f"exercise angina and ST depression are lower in those who count as ill, so {name} may be turned round"


def build_table(copy: Copy, reading: Reading, hospitals: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The canonical table (columns `COLUMN_NAMES`), and what deserves a warning.

    Raises
    ------
    DataError
        A value that the schema refuses: one line for each, with the file's own name of the column.
    """
    decoded = decode(copy, reading)
    try:
        values, warnings = validate_table(HEART, decoded, Path(copy.file))
    except DataError as error:
        raise DataError([rename_column(fault, copy) for fault in error.faults]) from None
    table = values.reindex(columns=[*FEATURE_NAMES, LABEL.name, TARGET]).reset_index(drop=True)
    table = table.astype({LABEL.name: "int64", TARGET: "int64"})
    table[HOSPITAL] = pd.Series(hospitals, dtype="str")
    absent = [name for name in FEATURE_NAMES if name not in copy.names]
    missing = [f"{', '.join(absent)}: not in the file, so missing for all patients"] if absent else []
    lines = [*find_table_warnings(copy.table), *missing, *warnings]
    return table[list(COLUMN_NAMES)], [f"{copy.file}: {warning}" for warning in lines]


def rename_column(fault: str, copy: Copy) -> str:
    """A fault of a cell, with the column's name in the file instead of ours."""
    start, row, rest = fault.partition(": row ")
    number, colon, line = rest.partition(": ")
    name, blank, what = line.partition(" ")
    shown = copy.names.get(TARGET if name == LABEL.name else name, name)
    return f"{start}{row}{number}{colon}{shown}{blank}{what}" if row else fault
