"""The names that other layouts of the heart disease data give to our columns, and what a header says about its file.

Names only: what the codes and the label mean is in `code_schemes.py` and `label_codes.py`.
"""

import re

from fedhealth.data.schema import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HOSPITAL, LABEL, TARGET

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "cp": ("chestpaintype", "chestpain"),
    "trestbps": ("trtbps", "restingbp", "restingbps", "bp"),
    "chol": ("cholesterol",),
    "fbs": ("fastingbs", "fastingbloodsugar", "fbsover120"),
    "restecg": ("restingecg", "ekgresults"),
    "thalach": ("thalch", "thalachh", "maxhr", "maxheartrate"),
    "exang": ("exng", "exerciseangina"),
    "oldpeak": ("stdepression",),
    "slope": ("slp", "stslope", "slopeofst"),
    "ca": ("caa", "numberofvesselsfluro"),
    "thal": ("thall", "thallium"),
    TARGET: ("condition", "output", "heartdisease"),
    HOSPITAL: ("dataset", "origin"),
}
"""Our column -> its names in other layouts, in small letters and without blanks, hyphens and underscores."""

LABELS = (TARGET, LABEL.name)
FEWEST_KNOWN = 7
"""A header with fewer of the 13 features belongs to another data set."""
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)

COLUMN_OF = {plain: name for name in COLUMN_NAMES for plain in (name, *OTHER_NAMES.get(name, ()))}
"""Name in any layout, plain -> our column."""


def plain_name(text: str) -> str:
    """`ST_Slope` -> `stslope`."""
    return re.sub(r"[\s_-]", "", text).lower()


def own_column(text: str) -> str:
    """Our column of this name, whatever its capital letters; empty if it is none of ours."""
    return text.lower() if text.lower() in COLUMN_NAMES else ""


def any_column(text: str) -> str:
    """Our column that has this name in our layout or another; empty if it has none."""
    return COLUMN_OF.get(plain_name(text), "")


def count_known(header: list[str]) -> int:
    """How many fields of a header are columns of ours under any name."""
    return sum(bool(any_column(name)) for name in header)


def looks_like_values(fields: list[str]) -> bool:
    """Whether a row holds values rather than columns' names: at least half of its filled cells are numbers or `?`."""
    filled = [text.strip() for text in fields if text.strip()]
    return bool(filled) and 2 * sum(text == "?" or bool(NUMBER.fullmatch(text)) for text in filled) >= len(filled)


def find_columns(header: list[str]) -> dict[str, int]:
    """Our column -> its position in a header of any layout; where several names fit, our own name wins."""
    found: dict[str, int] = {}
    for position, text in enumerate(header):
        name = any_column(text)
        if name and (name not in found or own_column(text)):
            found[name] = position
    return found


def describe_missing_header(fields: list[str], blanks: bool = False) -> str:
    """What to do about a file that starts with values; prints none of them."""
    names = ",".join([*FEATURE_NAMES, LABEL.name])
    is_known = len(fields) == len(FEATURES) + 1
    separated = " and is separated by blanks; write commas instead of the blanks, and then" if blanks else ";"
    if is_known:
        return f"has no header line{separated} add this first line if the columns are UCI's in UCI's order: {names}"
    return f"has no header line{separated} add a first line with the names of its {len(fields)} columns"


def describe_foreign_header(header: list[str]) -> str:
    """That a header is another data set's; names only columns of ours."""
    ours = [name for name in FEATURE_NAMES if name in find_columns(header)]
    only = f"only {', '.join(ours)}" if ours else "none"
    return f"of our 13 measurements it has {only}: another data set, or names that docs/own-files.md does not list"
