"""Invented patients as CSV files in every layout that people have; no real patient is in them."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from fedhealth.data.sources.heart import FEATURE_NAMES

Row = dict[str, str]

ZERO_BASED = {"cp": "1234", "slope": "123", "thal": "367"}
"""Column -> UCI's codes in their order."""
KAGGLE_303 = {
    "cp": {"4": "0", "2": "1", "3": "2", "1": "3"},
    "restecg": {"2": "0", "0": "1", "1": "2"},
    "slope": {"3": "0", "2": "1", "1": "2"},
    "thal": {"": "0", "6": "1", "3": "2", "7": "3"},
    "ca": {"": "4"},
}
"""Column -> UCI's code -> that of Kaggle's 303-row copy."""
RENAMED = {
    **{name: name for name in FEATURE_NAMES},
    **{"trestbps": "trtbps", "thalach": "thalachh", "exang": "exng", "slope": "slp", "ca": "caa", "thal": "thall"},
}
STATLOG_NAMES = dict(
    zip(
        FEATURE_NAMES,
        (
            *("Age", "Sex", "Chest pain type", "BP", "Cholesterol", "FBS over 120", "EKG results", "Max HR"),
            *("Exercise angina", "ST depression", "Slope of ST", "Number of vessels fluro", "Thallium"),
        ),
        strict=True,
    )
)
UNION_NAMES = {
    **{"age": "age", "sex": "sex", "cp": "chest pain type", "trestbps": "resting bp s", "chol": "cholesterol"},
    **{"fbs": "fasting blood sugar", "restecg": "resting ecg", "thalach": "max heart rate"},
    **{"exang": "exercise angina", "oldpeak": "oldpeak", "slope": "ST slope"},
}
IMPUTED_NAMES = {
    **{"age": "Age", "sex": "Sex", "cp": "ChestPainType", "trestbps": "RestingBP", "chol": "Cholesterol"},
    **{"fbs": "FastingBS", "restecg": "RestingECG", "thalach": "MaxHR", "exang": "ExerciseAngina"},
    **{"oldpeak": "Oldpeak", "slope": "ST_Slope"},
}
WORDS = {
    "sex": {"0": "Female", "1": "Male"},
    "cp": {"1": "typical angina", "2": "atypical angina", "3": "non-anginal", "4": "asymptomatic"},
    "fbs": {"0": "FALSE", "1": "TRUE"},
    "restecg": {"0": "normal", "1": "st-t abnormality", "2": "lv hypertrophy"},
    "exang": {"0": "FALSE", "1": "TRUE"},
    "slope": {"1": "upsloping", "2": "flat", "3": "downsloping"},
    "thal": {"3": "normal", "6": "fixed defect", "7": "reversable defect"},
}
LETTERS = {
    "sex": {"0": "F", "1": "M"},
    "cp": {"1": "TA", "2": "ATA", "3": "NAP", "4": "ASY"},
    "restecg": {"0": "Normal", "1": "ST", "2": "LVH"},
    "exang": {"0": "N", "1": "Y"},
    "slope": {"1": "Up", "2": "Flat", "3": "Down"},
}


def invent_patient(number: int) -> Row:
    """One made-up patient in UCI's codes with the grade `num`; even numbers are healthy."""
    ill = number % 2
    numbers = {
        **{"age": 35 + 7 * number % 40, "trestbps": 110 + 11 * number % 50, "chol": 180 + 17 * number % 150},
        **{"thalach": 100 + 13 * number % 80, "oldpeak": f"{ill + number % 5 / 10 + 0.5:g}", "ca": number % 4},
    }
    codes = {
        **{"sex": number // 3 % 2, "cp": 1 + number // 2 % 4, "fbs": number // 5 % 2, "restecg": number % 3},
        **{"exang": ill, "slope": 1 + number % 3, "thal": "367"[number // 2 % 3]},
    }
    row = {**numbers, **codes}
    return {**{name: str(row[name]) for name in FEATURE_NAMES}, "num": str(ill * (1 + number // 2 % 4))}


def invent_patients(count: int = 24) -> list[Row]:
    return [invent_patient(number) for number in range(count)]


def to_bytes(rows: Sequence[Mapping[str, str]], separator: str = ",", end: str = "\n") -> bytes:
    """A CSV whose header has the keys of the first row."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def recode(rows: Sequence[Row], codes: Mapping[str, Mapping[str, str]]) -> list[Row]:
    """The rows with other codes in some columns; a code that is not named stays."""
    return [{name: codes.get(name, {}).get(text, text) for name, text in row.items()} for row in rows]


def zero_based(rows: Sequence[Row], thal_from: int = 0) -> list[Row]:
    """UCI's order of codes counted from 0 (the thallium scan from `thal_from`)."""
    first = {"thal": thal_from}
    codes = {
        name: {code: str(place + first.get(name, 0)) for place, code in enumerate(order)}
        for name, order in ZERO_BASED.items()
    }
    return recode(rows, codes)


def label(rows: Sequence[Row], name: str, healthy: str = "0", ill: str = "1") -> list[Row]:
    """The rows with two labels in a column of this name instead of the grades."""
    return [
        {**{key: text for key, text in row.items() if key != "num"}, name: ill if row["num"] > "0" else healthy}
        for row in rows
    ]


def rename(rows: Sequence[Row], names: Mapping[str, str]) -> list[Row]:
    """The rows with other names; of the features only those that are named."""
    kept = [name for name in rows[0] if name in names or name not in FEATURE_NAMES]
    return [{names.get(name, name): row[name] for name in kept} for row in rows]


def kaggle_303(rows: Sequence[Row], name: str = "target") -> list[Row]:
    """Recoded and turned round as in Kaggle's 303-row copy: the label 1 means healthy."""
    return label(recode(rows, KAGGLE_303), name, healthy="1", ill="0")


def kaggle_920(rows: Sequence[Row], hospitals: Sequence[str], column: str = "dataset") -> list[Row]:
    """Words for codes, as in Kaggle's 920-row copy."""
    words = rename(recode(rows, WORDS), {**{name: name for name in FEATURE_NAMES}, "thalach": "thalch"})
    return [
        {"id": str(number), **row, column: hospital}
        for number, (row, hospital) in enumerate(zip(words, hospitals, strict=True), start=1)
    ]


def kaggle_918(rows: Sequence[Row]) -> list[Row]:
    """Letters for codes, without `ca` and `thal`, as in Kaggle's 918-row copy."""
    return rename(label(recode(rows, LETTERS), "HeartDisease"), IMPUTED_NAMES)


def union_1190(rows: Sequence[Row]) -> list[Row]:
    """UCI's codes without `ca` and `thal`, as in the union of five files with 1190 rows."""
    return rename(label(rows, "target"), UNION_NAMES)


LAYOUTS_READ_BY_CREATE: dict[str, Callable[[list[Row]], list[Row]]] = {
    "UCI's codes with num": list,
    "UCI's codes with target": lambda rows: label(rows, "target"),
    "UCI's codes with target 0 to 4": lambda rows: rename(rows, {**same_names(), "num": "target"}),
    "words": lambda rows: recode(rows, WORDS),
    "Statlog's names and words": lambda rows: rename(
        label(rows, "Heart Disease", "Absence", "Presence"), STATLOG_NAMES
    ),
    "counted from 0, with condition": lambda rows: label(zero_based(rows), "condition"),
    "the renamed 303 copy": lambda rows: rename(kaggle_303(rows, "output"), RENAMED),
    "letters": kaggle_918,
    "the 1190-row union": union_1190,
    "thalch and a hospital": lambda rows: kaggle_920(rows, ["Lakeside"] * len(rows)),
    "capital letters": lambda rows: [{name.upper(): text for name, text in row.items()} for row in rows],
}
"""Title -> the rows in a layout that leaves one reading."""


def same_names() -> dict[str, str]:
    """Every feature under its own name."""
    return {name: name for name in FEATURE_NAMES}
