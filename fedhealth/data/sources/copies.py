"""The published copies: their names, hospitals and repeats, and what limits the results on each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedhealth.data.cell_words import is_word
from fedhealth.data.patients import UNKNOWN_HOSPITAL
from fedhealth.data.sources.code_schemes import KAGGLE_303, find_foreign
from fedhealth.data.sources.heart import COLUMNS, FEATURES, HOSPITAL, HOSPITALS
from fedhealth.data.sources.label_codes import GRAVE
from fedhealth.data.sources.published import Recognised
from fedhealth.data.sources.raw_files import sha256_of
from fedhealth.data.sources.readings import Copy, Reading

REPEATED_SHARE = 0.05
"""UCI's own files repeat 2 of 920 rows; a copy with more repeated rows than this is padded with them."""

IMPUTED_SHA256 = "948420b084d8a3a0ca42b8419fce9aee175879e43f8aedf712377899a67aa49b"
"""Of the published 918-row copy. Only in these very bytes is it known which rows are whose."""
IMPUTED_BLOCKS = {"hungary": 293, "switzerland": 123, "va": 199, "cleveland": 303}
"""Its blocks, in file order: every row matches a UCI row of that hospital in all that the hospital observed."""


def drop_undefined(copy: Copy, reading: Reading) -> list[str]:
    """Empty the cells of a published copy whose codes its layout does not define, in place; one warning a column.

    The 1190-row copy has a slope of 0, for example, which is not documented.
    """
    cells, found = copy.table.cells, find_foreign(reading.codes, copy.table.cells)
    can_be_missing = {column.name for column in FEATURES if column.can_be_missing}
    counts: dict[str, int] = {}
    for patient, name in found:
        if name in can_be_missing:
            cells[name][patient] = ""
            counts[name] = counts.get(name, 0) + 1
    total = len(copy.labels)
    return [
        f"{copy.file}: {copy.names[name]}: a code that the layout does not define is read as missing (in {count} of {total} "
        "rows)"
        for name, count in counts.items()
    ]


def find_hospitals(copy: Copy, recognised: Recognised, content: bytes) -> tuple[list[str], list[str]]:
    """The hospital of each patient, and a warning about those that the file puts under another one."""
    if HOSPITAL not in copy.names:
        if recognised.hospital:
            return [recognised.hospital] * len(copy.labels), []
        if is_published_imputed(content):
            return np.repeat([*IMPUTED_BLOCKS], [*IMPUTED_BLOCKS.values()]).tolist(), []
        return [UNKNOWN_HOSPITAL] * len(copy.labels), []
    named = [hospital_name(text) for text in copy.table.cells[HOSPITAL]]
    right = [
        name if not names or name in names else min(names)
        for name, names in zip(named, recognised.hospitals, strict=True)
    ]
    moved = sum(one != other for one, other in zip(named, right, strict=True))
    warning = (
        f"{copy.file}: {moved} of {len(named)} rows stand under another hospital than in the UCI files; put back there"
    )
    return right, [warning] if moved else []


def hospital_name(text: str) -> str:
    """`VA Long Beach` -> `va`: one of the four as the schema names it; another name stays as it is."""
    plain = text.lower().removesuffix(" long beach")
    return plain if plain in HOSPITALS else text


def is_published_imputed(content: bytes) -> bool:
    """Whether it is the published 918-row copy, whatever its line ends and byte order mark."""
    plain = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return sha256_of(plain) == IMPUTED_SHA256


def name_copy(copy: Copy, recognised: Recognised, repeats: int) -> tuple[str, str]:
    """The name of the copy for `dataset.json`, and what it is."""
    if recognised.hospital == "cleveland":
        if recognised.reading.codes is not KAGGLE_303:
            return "uci-copy", "a copy of UCI's Cleveland file"
        rows = 1025 if repeats > len(copy.labels) / 3 else 303
        return f"kaggle-{rows}", f"Kaggle's {rows}-row copy of the Cleveland file"
    if is_imputed(copy):
        rows = 1190 if repeats > REPEATED_SHARE * len(copy.labels) else 918
        return f"kaggle-{rows}", f"Kaggle's {rows}-row copy of the UCI files"
    if HOSPITAL in copy.names and is_word(COLUMNS["cp"], copy.table.cells["cp"][0]):
        return "kaggle-920", "Kaggle's 920-row copy of the UCI files"
    return "uci-copy", "a copy of the UCI files"


def is_imputed(copy: Copy) -> bool:
    """Whether the copy is one of those that fill in missing values from the label: they have neither `ca` nor `thal`."""
    return not {"ca", "thal"} & set(copy.names)


def drop_repeats(table: pd.DataFrame, copy: Copy) -> tuple[pd.DataFrame, int, list[str]]:
    """The table without exact repeats, how many there were, and a warning; the two twins of UCI's files stay."""
    distinct = table.drop_duplicates(ignore_index=True)
    repeats = len(table) - len(distinct)
    one_hospital = table[HOSPITAL].nunique() == 1 and table[HOSPITAL].iloc[0] == "cleveland"
    if not repeats or not (one_hospital or repeats > REPEATED_SHARE * len(table)):
        return table, repeats, []
    left = f"{len(distinct)} patients are left"
    warning = f"{copy.file}: {repeats} of {len(table)} rows were exact repeats and are removed, {left}"
    if repeats > REPEATED_SHARE * len(table):
        warning += "; a random split of the file as it is puts the same patients in train and test"
    return distinct, repeats, [warning]


def find_copy_warnings(copy: Copy, recognised: Recognised, hospitals: Sequence[str]) -> list[str]:
    """What limits the results on a published copy, one line each."""
    warnings = []
    edited = sum(not names for names in recognised.hospitals)
    if is_imputed(copy) and not recognised.hospital:
        warnings.append(
            f"{copy.file}: missing values of this copy were filled in from the label, so results on it are too good: "
            "don't evaluate on it"
        )
    elif edited:
        warnings.append(
            f"{copy.file}: {edited} of {len(copy.labels)} rows are not as UCI published them: edited or filled in"
        )
    if recognised.reading.labels is GRAVE:
        warnings.append(
            f"{copy.file}: its label is 1 only for num 2 to 4, so the patients with num 1 count as healthy; use the UCI files"
        )
    if UNKNOWN_HOSPITAL in hospitals:
        warnings.append(
            f"{copy.file}: it does not say whose patients these are; the hospital is {UNKNOWN_HOSPITAL!r}, no natural split"
        )
    return warnings
