"""How each Kaggle copy writes the 14 columns: tables only; `kaggle.py` applies them.

Established by matching every row of each copy against the UCI files; the tests marked `uci` repeat that.
"""

from dataclasses import dataclass, field

from fedhealth.data.sources.canonical_table import MISSING, RAW_COLUMNS

Codes = dict[str, str]
"""A copy's code, in lower case and without a trailing `.0` -> UCI's code."""


@dataclass(frozen=True)
class Layout:
    """How a copy writes the 14 columns."""

    columns: Codes
    """UCI's column -> the copy's column; a column that is not in it is not in the copy."""
    codes: dict[str, Codes]
    """UCI's column -> codes; the other columns keep UCI's values."""
    hospital_column: str = ""
    extra_columns: tuple[str, ...] = ()
    empty_is_missing: bool = False
    hospitals: Codes = field(default_factory=dict)

    def header(self) -> list[str]:
        """All columns of the copy, sorted."""
        extra = [self.hospital_column] if self.hospital_column else []
        return sorted([*self.columns.values(), *extra, *self.extra_columns])


SAME_NAMES = {column.name: column.name for column in RAW_COLUMNS}

RECODED = Layout(
    columns={**SAME_NAMES, "num": "target"},
    codes={
        "cp": {"0": "4", "1": "2", "2": "3", "3": "1"},
        "restecg": {"0": "2", "1": "0", "2": "1"},
        "slope": {"0": "3", "1": "2", "2": "1"},
        "ca": {"0": "0", "1": "1", "2": "2", "3": "3", "4": MISSING},
        "thal": {"0": MISSING, "1": "6", "2": "3", "3": "7"},
        "num": {"0": "1", "1": "0"},
    },
)
"""The copies of 303 and of 1025 rows."""

WORDS = Layout(
    columns={**SAME_NAMES, "thalach": "thalch"},
    codes={
        "sex": {"female": "0", "male": "1"},
        "cp": {"typical angina": "1", "atypical angina": "2", "non-anginal": "3", "asymptomatic": "4"},
        "fbs": {"false": "0", "true": "1"},
        "restecg": {"normal": "0", "st-t abnormality": "1", "lv hypertrophy": "2"},
        "exang": {"false": "0", "true": "1"},
        "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
        "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
    },
    hospital_column="dataset",
    extra_columns=("id",),
    empty_is_missing=True,
    hospitals={"cleveland": "cleveland", "hungary": "hungary", "switzerland": "switzerland", "va long beach": "va"},
)
"""The copy of 920 rows."""

IMPUTED = Layout(
    columns={
        "age": "Age",
        "sex": "Sex",
        "cp": "ChestPainType",
        "trestbps": "RestingBP",
        "chol": "Cholesterol",
        "fbs": "FastingBS",
        "restecg": "RestingECG",
        "thalach": "MaxHR",
        "exang": "ExerciseAngina",
        "oldpeak": "Oldpeak",
        "slope": "ST_Slope",
        "num": "HeartDisease",
    },
    codes={
        "sex": {"f": "0", "m": "1"},
        "cp": {"ta": "1", "ata": "2", "nap": "3", "asy": "4"},
        "restecg": {"normal": "0", "st": "1", "lvh": "2"},
        "exang": {"n": "0", "y": "1"},
        "slope": {"up": "1", "flat": "2", "down": "3"},
        "num": {"0": "0", "1": "1"},
    },
)
"""The copy of 918 rows, which lacks `ca` and `thal`."""

LAYOUTS = (RECODED, WORDS, IMPUTED)

MISLABELLED_ID = "304"
"""In the 920-row copy: called Cleveland, but it is the first row of the Hungarian file; Cleveland has 303 patients."""

IMPUTED_SHA256 = "948420b084d8a3a0ca42b8419fce9aee175879e43f8aedf712377899a67aa49b"
"""Of the published 918-row copy. Only in these very bytes is it known which rows are whose."""
IMPUTED_BLOCKS = {"hungary": 293, "switzerland": 123, "va": 199, "cleveland": 303}
"""Its blocks, in file order: every row matches a UCI row of that hospital in all that the hospital observed."""
