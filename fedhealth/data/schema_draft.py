"""A table -> the draft of a schema file (TOML). A person decides every line with `# ?` (docs/schemas.md)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import is_missing
from fedhealth.data.column_draft import FULL, ColumnDraft, draft_column
from fedhealth.data.csv_table import check_rows, read_file, take_column
from fedhealth.data.decimals import read_decimals
from fedhealth.data.label_words import Labels
from fedhealth.data.layouts import describe_long_form
from fedhealth.data.patients import MINIMUM_PATIENTS
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions, read_any
from fedhealth.data.schema import YES_NO, Column, Schema, plain_name
from fedhealth.data.schema_checks import MOST_COLUMNS, find_name_fault

HOSPITALS = ("hospital", "site", "centre", "center", "clinic", "institution")
"""Names of a column with the patient's hospital, plain."""
CHECKBOX = re.compile(r".+___\w+")
"""The name of a column of REDCap's for one answer of a question with checkboxes."""
REDCAP = "A checkbox of REDCap, it seems, which writes 0 also if the question was never asked"
NO_COLUMNS = Schema("", "", features=(), outcomes=(Column("outcome", "", "yes/no", codes=YES_NO),), hospital="hospital")


ANY_NUMBER = Column("value", "", "number", minimum=-1e9, maximum=1e9)
"""Stands for every column while decimal commas are read: a number such as 168.000 is a question."""


def read_columns(
    path: Path, options: ReadOptions = AS_IT_IS
) -> tuple[list[tuple[str, list[str]]], Mapping[str, Labels]]:
    """(name, stripped cells) of each column of a hospital's table, in the file's order; and the file's labels for codes.

    Raises
    ------
    UsageError
        The file cannot be read.
    DataError
        It is no table with a header, or has too few patients.
    """
    sheet = read_any(read_file(path), path, NO_COLUMNS, replace(options, decimal="auto"))
    if long_form := describe_long_form(sheet.header):
        raise DataError([f"{path}: {long_form}"])
    check_rows(sheet, path, MINIMUM_PATIENTS)
    rows, _ = read_decimals(sheet.patients, dict.fromkeys(range(len(sheet.header)), ANY_NUMBER), options.decimal, path)
    return [(name, take_column(rows, place)) for place, name in enumerate(sheet.header)], sheet.labels


def draft_schema(path: Path, outcome: str | None, least: int, options: ReadOptions = AS_IT_IS) -> str:
    """The draft of a table's schema; with an `outcome` of two values it can be loaded as it is.

    It holds no value of a patient but codes and words that at least `least` patients have.

    Raises
    ------
    UsageError
        The file cannot be read; the outcome is not one of its columns, or cannot be an outcome.
    DataError
        It is no table with a header, or has too few patients.
    """
    columns, labels = read_columns(path, options)
    place = find_outcome([name for name, _ in columns], outcome, path)
    site = next((name for name, _ in columns if plain_name(name) in HOSPITALS), None)
    drafts = list(draft_columns(columns, labels, site, least))
    chosen = drafts[place] if place is not None else None
    if chosen and chosen.kind not in ("category", "yes/no"):
        what = chosen.reason or "a number"
        raise UsageError(f"--outcome is {printable(outcome, 40)} ({what}); give a column with codes, such as 0 and 1")
    kept = [draft for draft in drafts if draft.kind and draft is not chosen][:MOST_COLUMNS]
    if not kept:
        raise DataError([f"{path}: none of its columns can be a feature; the draft would have none"])
    if place is not None:
        cells = dict(columns)
        kept = [note_if_outcome(draft, cells[draft.name], columns[place][1]) for draft in kept]
    left_out = [draft for draft in drafts if not draft.kind and draft.name != site]
    blocks = [
        _head(path, chosen, site, least),
        *(_table("column", draft) for draft in kept),
        _table("outcome", chosen) if chosen else _ask_for_outcome(kept),
        *([_left_out(left_out)] if left_out else []),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def find_outcome(names: Sequence[str], outcome: str | None, path: Path) -> int | None:
    """The outcome's place in the header, whatever its capital letters."""
    if outcome is None:
        return None
    places = [place for place, name in enumerate(names) if name.lower() == outcome.strip().lower()]
    if len(places) != 1:
        found = f"stands {len(places)} times in the header of" if places else "is no column of"
        raise UsageError(f'--outcome "{printable(outcome, 40)}" {found} {path}; give the name of one column')
    return places[0]


def draft_columns(
    columns: Sequence[tuple[str, list[str]]], labels: Mapping[str, Labels], site: str | None, least: int
) -> Iterator[ColumnDraft]:
    """The draft of each column; one with a name that no schema may have is left out."""
    plain = [plain_name(name) for name, _ in columns]
    for (name, texts), same in zip(columns, plain, strict=True):
        if fault := find_name_fault(name):
            yield ColumnDraft(name, reason=f"its name: {fault}")
        elif plain.count(same) > 1:
            yield ColumnDraft(name, reason="another column has its name, but for capital letters and blanks")
        else:
            draft = ColumnDraft(name) if name == site else draft_column(name, texts, least, labels.get(name))
            is_checkbox = draft.kind == "yes/no" and CHECKBOX.fullmatch(name)
            yield replace(draft, notes=(*draft.notes, REDCAP)) if is_checkbox else draft


def note_if_outcome(draft: ColumnDraft, texts: Sequence[str], outcomes: Sequence[str]) -> ColumnDraft:
    """The draft with a note if each of its codes goes with one value of the outcome only."""
    pairs = {pair for pair in zip(texts, outcomes, strict=True) if not any(map(is_missing, pair))}
    if draft.kind == "number" or len(pairs) > len({text for text, _ in pairs}):
        return draft
    note = (
        "Each of its values goes with one value of the outcome. If it is the outcome in other words, it is no feature"
    )
    return replace(draft, notes=(*draft.notes, note))


def _head(path: Path, outcome: ColumnDraft | None, site: str | None, least: int) -> Iterator[str]:
    yield f"# Drafted from {printable(path.name, 60)}. Decide each line that has a question mark (docs/schemas.md)."
    yield f"# Codes and texts of fewer than {least} patients are not shown, and ranges are rounded outwards."
    yield ""
    yield f"title = {_text(outcome.name if outcome else '')}  # ? what is predicted"
    yield 'source = "drafted from a table"  # ? who defined the columns'
    if site is not None:
        yield f"hospital = {_text(site)}"


def _table(kind: str, draft: ColumnDraft) -> Iterator[str]:
    """One table of the file, and what is to be decided about it."""
    yield f"[[{kind}]]"
    yield f"name = {_text(draft.name)}"
    yield f"meaning = {_text(draft.name)}  # ? in words"
    yield f'kind = "{draft.kind}"'
    if draft.kind == "number":
        yield 'unit = ""  # ?'
        yield f"range = [{', '.join(draft.ends)}]  # ? what a patient can have"
    if draft.codes:
        yield f"codes = {{ {', '.join(f'{code} = {_text(word)}' for code, word in draft.codes.items())} }}"
    if kind == "outcome":
        yield _positive(draft.codes or YES_NO)
    yield from (f"# ? {line}." for line in draft.notes if kind == "column" or line != FULL)


def _positive(codes: Mapping[int, str]) -> str:
    if set(codes) == {0, 1}:
        return "positive = [1]  # ? the codes of the patients who have what is predicted"
    return f"positive = []  # ? which of {', '.join(map(str, codes))} are the patients who have what is predicted"


def _ask_for_outcome(kept: Sequence[ColumnDraft]) -> Iterator[str]:
    """A question instead of an outcome."""
    two = [printable(draft.name, 40) for draft in kept if draft.kind == "yes/no" or len(draft.codes) == 2]
    yield "# ? Which column is to be predicted? Write [[outcome]] instead of [[column]] there, and add: positive = [1]"
    if two:
        yield f"# With two codes: {', '.join(two)}."


def _left_out(drafts: Sequence[ColumnDraft]) -> Iterator[str]:
    yield "# Left out:"
    yield from (f"# {printable(draft.name, 40) or '(no name)'}: {draft.reason}." for draft in drafts)


def _text(text: str) -> str:
    """A printable text as TOML."""
    return json.dumps(text, ensure_ascii=False)
