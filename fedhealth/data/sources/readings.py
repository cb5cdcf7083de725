"""Which meaning the codes and labels of a file have, if its rows are not published ones: the file decides, or a flag.

A reading is a scheme of codes and a meaning of the label. Where several readings explain all cells, and no published
layout has these names with one of them only, none is chosen: the error asks for `--codes` or `--label-1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.cell_words import is_missing, is_word, parse_cell
from fedhealth.data.csv_table import Table
from fedhealth.data.outcome_check import label_values
from fedhealth.data.separators import show_cell
from fedhealth.data.sources.code_schemes import (
    KAGGLE_303,
    UCI,
    UNKNOWN,
    ZERO_BASED,
    CodeScheme,
    decode_codes,
    find_foreign,
    nearest_scheme,
    possible_schemes,
)
from fedhealth.data.sources.heart import COLUMNS, LABEL, TARGET
from fedhealth.data.sources.label_codes import GRADES, ONE_IS_HEALTHY, ONE_IS_ILL, LabelCodes, possible_labels

MEANING_OF_CP_0 = {"zero-based": "cp 0 is typical angina", "kaggle-303": "cp 0 is asymptomatic"}


@dataclass(frozen=True)
class Answers:
    """What the flags say about a file; `auto` leaves it to the file."""

    codes: str = "auto"
    """auto, uci, zero-based or kaggle-303."""
    label_1: str = "auto"
    """auto, ill or healthy."""


AUTO = Answers()


@dataclass(frozen=True)
class Reading:
    """What the codes and the labels of a file mean."""

    codes: CodeScheme
    labels: LabelCodes

    def __str__(self) -> str:
        """For the description of a source."""
        return f"{self.codes.title}, label {self.labels.title}"


@dataclass(frozen=True)
class Copy:
    """A table in any layout: our columns under our names, its label column apart."""

    file: str
    table: Table
    """Features and, if there is one, the hospital; no label."""
    names: dict[str, str]
    """Our column -> its name in the file."""
    label: str
    """The label column's name in the file, plain: `target`, `num`, `condition`, `output` or `heartdisease`."""
    labels: list[str]
    target: list[str] | None = None
    """The column `target` of a file that also has `num`; then `labels` are those of `num`."""


def find_reading(copy: Copy, answers: Answers) -> Reading:
    """The only reading that explains the file and agrees with the answers.

    Raises
    ------
    UsageError
        There is none (as `DataError`, one line for each cell that has no meaning), or more than one: asks for a flag.
    """
    check_labels(copy)
    schemes = choose_schemes(copy, answers)
    labels = choose_labels(copy, answers)
    readings = usual_readings([Reading(codes, label) for codes in schemes for label in labels], copy)
    if len(readings) > 1:
        raise UsageError(ask(readings, copy))
    if answers.label_1 == "auto" and lacks_healthy(copy, readings[0]):
        raise UsageError(ask_about_healthy(copy))
    return readings[0]


def choose_schemes(copy: Copy, answers: Answers) -> list[CodeScheme]:
    """The schemes that explain all coded cells and agree with the answer; a `DataError` if there is none."""
    fitting = possible_schemes(copy.table.cells)
    if chosen := [scheme for scheme in fitting if answers.codes in ("auto", scheme.flag)]:
        return chosen
    if fitting:
        other = " or ".join(dict.fromkeys(scheme.flag for scheme in fitting))
        raise UsageError(f"{copy.file}: its codes are not those of --codes {answers.codes}; give --codes {other}")
    scheme = nearest_scheme(copy.table.cells)
    raise DataError([describe_foreign(copy, scheme, *cell) for cell in find_foreign(scheme, copy.table.cells)])


def describe_foreign(copy: Copy, scheme: CodeScheme, patient: int, name: str) -> str:
    """The line about one cell whose code the scheme does not have."""
    text = show_cell(copy.table.cells[name][patient])
    allowed = ", ".join(map(str, scheme.codes[name]))
    fault = f"{copy.names[name]} is {text}, not one of {allowed} ({scheme.title})"
    otherwise = "drop the row" if name == "cp" else "leave the cell empty"
    return f"{copy.file}: row {copy.table.rows[patient]}: {fault}; correct the value or {otherwise}"


def explain_labels(copy: Copy) -> list[LabelCodes]:
    """The meanings that explain the label column; words have one only, and so has `num` beside `target`."""
    values = label_values(COLUMNS[TARGET], copy.labels)
    if copy.target is not None:
        return [GRADES] if values <= set(GRADES.codes) else []
    if has_words(copy.labels):
        return [ONE_IS_ILL] if values <= {0, 1} else []
    return possible_labels(values)


def check_labels(copy: Copy) -> None:
    """Raise a `DataError` with one line for each label that has no meaning beside the others, if there are any."""
    if explain_labels(copy):
        return
    known = {0, 1} if has_words(copy.labels) else {*GRADES.codes}
    raise DataError(
        [
            f"{copy.file}: row {row}: {copy.names[TARGET]} is {show_cell(text)}, not a label of a known layout (0 and 1, "
            "0 to 4, 1 and 2, Presence and Absence); correct the value"
            for row, text in zip(copy.table.rows, copy.labels, strict=True)
            if not is_unknown(text) and parse_cell(COLUMNS[TARGET], text) not in known
        ]
    )


def check_known(copy: Copy) -> None:
    """Raise a `DataError` with one line for each patient without a diagnosis, if there are any."""
    other = copy.target or copy.labels
    pairs = zip(copy.table.rows, copy.labels, other, strict=True)
    if rows := [row for row, text, second in pairs if is_unknown(text) and is_unknown(second)]:
        name = copy.names[TARGET]
        raise DataError(
            [f"{copy.file}: row {row}: {name} is missing; give the diagnosis or drop the row" for row in rows]
        )


def is_unknown(text: str) -> bool:
    """Whether a label is missing."""
    return is_missing(text) or parse_cell(COLUMNS[TARGET], text) == UNKNOWN


def choose_labels(copy: Copy, answers: Answers) -> list[LabelCodes]:
    """The meanings of the label that agree with the answer."""
    labels = explain_labels(copy)
    chosen = [label for label in labels if answers.label_1 in ("auto", "ill" if label.one_is_ill else "healthy")]
    if not chosen:
        held = f"{copy.names[TARGET]} holds labels with the meaning {labels[0].title}"
        raise UsageError(f"{copy.file}: {held}, which --label-1 {answers.label_1} contradicts; leave --label-1 out")
    return chosen


def has_words(labels: Sequence[str]) -> bool:
    """Whether a label column holds words, such as Presence."""
    return any(is_word(COLUMNS[TARGET], text) for text in set(labels))


def usual_readings(readings: list[Reading], copy: Copy) -> list[Reading]:
    """Those of the readings that published layouts with this label column have; all of them if none has.

    `output` and `condition` were published with one meaning each, and UCI's codes never with 1 for the healthy.
    """
    ill = [each for each in readings if each.labels is not ONE_IS_HEALTHY]
    if copy.label == "output":
        usual = [each for each in readings if each == Reading(KAGGLE_303, ONE_IS_HEALTHY) or each.codes is UCI]
    elif copy.label == "condition":
        usual = [each for each in ill if each.codes in (ZERO_BASED, UCI)]
    elif copy.label == "heartdisease":
        usual = ill
    else:
        usual = [each for each in readings if each in ill or each.codes is not UCI]
    return usual or readings


def lacks_healthy(copy: Copy, reading: Reading) -> bool:
    """Whether no number in the label column means healthy, and nothing else in the file says that all are ill."""
    if copy.target is not None or has_words(copy.labels):
        return False
    return all(reading.labels.decode(int(value)) for value in label_values(COLUMNS[TARGET], copy.labels))


def ask(readings: list[Reading], copy: Copy) -> str:
    """One line that asks for the flags which decide between the readings."""
    flags = list(dict.fromkeys(each.codes.flag for each in readings))
    if len(flags) == 1 and len({each.codes.title for each in readings}) > 1:
        return f"{copy.file}: {copy.names['thal']} may be counted from 0 or from 1; write UCI's codes 3, 6 and 7"
    doubts, choices = [], []
    if len(flags) > 1:
        doubts.append("its codes fit more than one layout")
        choices += [" or ".join(f"--codes {flag}{explain_flag(flag)}" for flag in flags)]
    if len({each.labels.title for each in readings}) > 1:
        meanings = " or ".join(dict.fromkeys(each.labels.title for each in readings))
        doubts.append(f"its labels ({copy.names[TARGET]}) may mean {meanings}")
        choices += ["--label-1 ill or --label-1 healthy"]
    return f"{copy.file}: {', and '.join(doubts)}; give {', and '.join(choices)} (docs/own-files.md)"


def explain_flag(flag: str) -> str:
    """What chest pain type 0 means with this value of `--codes`."""
    return f" ({MEANING_OF_CP_0[flag]})" if flag in MEANING_OF_CP_0 else ""


def ask_about_healthy(copy: Copy) -> str:
    """One line that asks for the meaning of a label column in which nobody is healthy."""
    name = copy.names[TARGET]
    return f"{copy.file}: {name} is 0 in no row, so no patient is healthy; give --label-1 ill if that is right"


def decode(copy: Copy, reading: Reading) -> Table:
    """The table in UCI's codes and our labels; `num` and `target` confirm each other."""
    cells = decode_codes(reading.codes, copy.table.cells)
    label_of = {text: decode_label(reading.labels, text) for text in set(copy.labels)}
    labels = [label_of[text] for text in copy.labels]
    cells[LABEL.name] = labels
    cells[TARGET] = copy.target or [text and str(min(int(text), 1)) for text in labels]
    return Table(copy.table.rows, cells, copy.table.ignored, copy.table.short_rows)


def decode_label(labels: LabelCodes, text: str) -> str:
    """One label as our grade, or 0 and 1; a missing one is empty."""
    value = parse_cell(COLUMNS[TARGET], text)
    return str(labels.decode(int(value))) if value in labels.codes else ""
