"""A hospital's export in any format -> `Sheet`, as a CSV with the same cells would give it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_texts import cell_text
from fedhealth.data.csv_table import Sheet, check_is_header, find_known, split_sheet
from fedhealth.data.decimals import Decimal, read_decimals
from fedhealth.data.file_kinds import Format, describe_wrong_ending, find_format, name_other_kind
from fedhealth.data.layouts import fewest_known, find_columns
from fedhealth.data.mapping import FileMapping, apply_mapping, find_mapped
from fedhealth.data.mapping_file import load_mapping
from fedhealth.data.readers.excel import read_excel
from fedhealth.data.readers.parquet import read_parquet
from fedhealth.data.readers.raw_sheet import RawSheet
from fedhealth.data.readers.statistics import read_statistics
from fedhealth.data.schema import Column, Schema, plain_words


@dataclass(frozen=True)
class ReadOptions:
    """How a hospital's file is to be read, where the file does not say it."""

    sheet: str | None = None
    """The sheet of an Excel workbook; None: the only one that has cells."""
    decimal: Decimal = "auto"
    """Whether numbers have decimal commas or decimal points; `auto`: the file decides."""
    mapping: FileMapping | None = None
    """What the hospital's columns, units, codes and marks of a missing value are."""


AS_IT_IS = ReadOptions()


def load_options(schema: Schema, sheet: str | None, decimal: Decimal, mapping: Path | None) -> ReadOptions:
    """The options of these flags; errors as in `load_mapping`."""
    return ReadOptions(sheet, decimal, load_mapping(mapping, schema) if mapping else None)


def read_any(content: bytes, path: Path, schema: Schema, options: ReadOptions = AS_IT_IS) -> Sheet:
    """The sheet of a CSV, Excel, Parquet, SPSS, Stata or SAS file, under the schema's names where a mapping says so.

    Numbers have decimal points, a missing value is empty, and dates are ISO text. `Sheet.notes` says what was converted.

    Raises
    ------
    DataError
        The file is not what its name says, damaged, ambiguous or contradicts the mapping: one line for each fault.
    UsageError
        An option is missing or does not fit the file; the package for its format is not installed.
    """
    form = find_format(content)
    if fault := (name_other_kind(content) if form == "csv" else "") or describe_wrong_ending(form, path):
        raise DataError([f"{path}: {fault}"])
    if options.sheet is not None and form != "excel":
        raise UsageError(f"{path}: --sheet is for Excel workbooks; leave it out")
    raw = read_cells(content, path, schema, form, options.sheet)
    columns = find_known(schema, raw.header) | find_mapped(options.mapping, schema, raw.header)
    check_labels(raw, columns, options.mapping, path)
    rows, thousands = read_decimals(raw.rows, columns, options.decimal, path)
    texts = [(row, [cell_text(cell) for cell in cells]) for row, cells in rows]
    patients = [(row, cells) for row, cells in texts if any(cells)]
    names = [raw.header[place] for place in columns]
    notes = (*raw.notes, *describe_changes(raw.changed, names), *describe_labelled(raw, columns), *thousands)
    sheet = Sheet(raw.header, patients, notes, labels=raw.labels)
    return sheet if options.mapping is None else apply_mapping(options.mapping, sheet, schema, path)


def read_cells(content: bytes, path: Path, schema: Schema, form: Format, sheet: str | None) -> RawSheet:
    """The cells as the file stores them."""
    if form == "csv":
        text = split_sheet(content, path, schema)
        return RawSheet(text.header, text.patients)
    if form == "parquet":
        return read_parquet(content, path)
    if form != "excel":
        return read_statistics(content, path, form)
    raw = read_excel(content, path, sheet)
    check_is_header(schema, raw.header, path)
    check_title(schema, raw, path)
    return raw


def check_title(schema: Schema, raw: RawSheet, path: Path) -> None:
    """Refuse rows above the names of the columns, such as a title."""
    least = fewest_known(schema)
    for row, cells in raw.rows[:20] if len(find_columns(schema, raw.header)) < least else []:
        if len(find_columns(schema, [str(cell) for cell in cells])) >= least:
            raise DataError([f"{path}: the names of the columns stand in row {row}; delete the rows above it"])


def describe_changes(changed: Mapping[str, Mapping[str, int]], names: list[str]) -> Iterator[str]:
    """One line for each kind of change, with the number of cells in the named columns."""
    for kind, counts in changed.items():
        ours = {name: counts[name] for name in names if counts.get(name)}
        if ours:
            total = sum(ours.values())
            shown = ", ".join(printable(name, 40) for name in ours)
            yield f"{kind} (in {total} cell{'s' * (total > 1)} of {shown})"


def check_labels(raw: RawSheet, columns: Mapping[int, Column], mapping: FileMapping | None, path: Path) -> None:
    """Refuse codes whose label in the file is the schema's word for another code, unless the mapping explains them."""
    faults = []
    for place, column in columns.items():
        name = raw.header[place]
        meant = {code: column.code_of_word.get(plain_words(label)) for code, label in raw.labels.get(name, {}).items()}
        wrong = {code: our_code for code, our_code in meant.items() if our_code is not None and our_code != code}
        if wrong and not (mapping and mapping.has_codes(name)):
            code, our_code = next(iter(wrong.items()))
            label = printable(raw.labels[name][code], 40)
            fault = f'the file\'s label of {code:g} is "{label}", which is {our_code} in the schema'
            remedy = "state the codes of this column in a mapping file (--mapping, docs/own-files.md)"
            faults.append(f"{path}: {printable(name, 40)}: {fault}; {remedy}")
    if faults:
        raise DataError(faults)


def describe_labelled(raw: RawSheet, columns: Mapping[int, Column]) -> Iterator[str]:
    """One note for each label that stands for a number among the values of a numeric column, such as 999 = "unknown"."""
    for place, column in columns.items():
        name = raw.header[place]
        labels = raw.labels.get(name, {}) if column.is_number and not column.codes else {}
        for code, label in labels.items():
            count = sum(cells[place] == code for _, cells in raw.rows)
            if count and code not in column.missing_marks:
                yield (
                    f'{column.name}: {code:g} has the label "{printable(label, 40)}" in the file and is read as a number (in '
                    f"{count} of {len(raw.rows)} rows); if it stands for a missing value, list it in a mapping file"
                )
