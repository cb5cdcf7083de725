"""The 14 columns of the UCI Heart Disease data: meaning, unit, codes, valid ranges; and the four hospitals.

All other modules read this table.

Source: Janosi, Steinbrunn, Pfisterer & Detrano (1988), Heart Disease, UCI Machine Learning Repository,
https://doi.org/10.24432/C52P4X, file heart-disease.names, section 7 ("Attribute Information").
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Column:
    """One column of a hospital's CSV.

    `minimum` and `maximum` are the valid range (what a living adult can have; values in wrong units are outside), not the
    range seen in the data. `reference_mean` and `reference_std` are fixed clinical constants for `--scaling reference`:
    rounded textbook values of adults examined for chest pain, chosen without looking at any hospital's rows.
    """

    name: str
    meaning: str
    kind: Literal["number", "category"]
    unit: str = ""
    codes: dict[int, str] = field(default_factory=dict)
    minimum: float = float("-inf")
    maximum: float = float("inf")
    missing_marks: tuple[float, ...] = (-9.0,)
    reference_mean: float = 0.0
    reference_std: float = 1.0
    can_be_missing: bool = True


YES_NO = {0: "no", 1: "yes"}

FEATURES: tuple[Column, ...] = (
    Column(
        "age",
        "age",
        "number",
        "years",
        minimum=18,
        maximum=120,
        reference_mean=55,
        reference_std=10,
        can_be_missing=False,
    ),
    Column("sex", "sex", "category", codes={0: "female", 1: "male"}, can_be_missing=False),
    Column(
        "cp",
        "chest pain type",
        "category",
        codes={1: "typical angina", 2: "atypical angina", 3: "non-anginal pain", 4: "asymptomatic"},
        can_be_missing=False,
    ),
    Column(
        "trestbps",
        "resting blood pressure on admission",
        "number",
        "mm Hg",
        minimum=50,
        maximum=300,
        missing_marks=(-9.0, 0.0),
        reference_mean=130,
        reference_std=18,
    ),
    Column(
        "chol",
        "serum cholesterol",
        "number",
        "mg/dl",
        minimum=50,
        maximum=700,
        missing_marks=(-9.0, 0.0),
        reference_mean=220,
        reference_std=45,
    ),
    Column("fbs", "fasting blood sugar above 120 mg/dl", "category", codes=YES_NO),
    Column(
        "restecg",
        "resting electrocardiogram",
        "category",
        codes={0: "normal", 1: "ST-T wave abnormality", 2: "left ventricular hypertrophy"},
    ),
    Column(
        "thalach",
        "maximum heart rate achieved",
        "number",
        "beats/min",
        minimum=40,
        maximum=250,
        reference_mean=140,
        reference_std=25,
    ),
    Column("exang", "exercise induced angina", "category", codes=YES_NO),
    Column(
        "oldpeak",
        "ST depression induced by exercise relative to rest",
        "number",
        "mm",
        minimum=-8,
        maximum=10,
        reference_mean=1.0,
        reference_std=1.0,
    ),
    Column(
        "slope",
        "slope of the peak exercise ST segment",
        "category",
        codes={1: "upsloping", 2: "flat", 3: "downsloping"},
    ),
    Column(
        "ca",
        "major vessels coloured by fluoroscopy",
        "number",
        "vessels",
        codes={0: "none", 1: "one", 2: "two", 3: "three"},
        minimum=0,
        maximum=3,
        reference_mean=0.7,
        reference_std=1.0,
    ),
    Column("thal", "thallium scan", "category", codes={3: "normal", 6: "fixed defect", 7: "reversible defect"}),
)

LABEL = Column(
    "num",
    "diagnosis: 0 no vessel narrowed by more than 50 %, 1 to 4 disease",
    "category",
    codes={0: "healthy", 1: "disease, grade 1", 2: "disease, grade 2", 3: "disease, grade 3", 4: "disease, grade 4"},
    can_be_missing=False,
)

FEATURE_NAMES: tuple[str, ...] = tuple(column.name for column in FEATURES)
NUMBERS: tuple[Column, ...] = tuple(column for column in FEATURES if column.kind == "number")
CATEGORIES: tuple[Column, ...] = tuple(column for column in FEATURES if column.kind == "category")

TARGET = "target"
"""1 if `num` > 0 (disease), else 0."""
HOSPITAL = "hospital"
"""The hospital that examined the patient."""
COLUMN_NAMES: tuple[str, ...] = (*FEATURE_NAMES, LABEL.name, TARGET, HOSPITAL)
"""The columns of every CSV that the project writes, in this order."""

HOSPITALS: dict[str, str] = {
    "cleveland": "Cleveland Clinic Foundation, USA",
    "hungary": "Hungarian Institute of Cardiology, Budapest",
    "switzerland": "University Hospitals Zurich and Basel",
    "va": "V.A. Medical Center, Long Beach, USA",
}
"""Name -> full name, in the order of the natural split (client 1 to 4)."""

UNKNOWN_HOSPITAL = "unknown"
"""The hospital of patients whose file does not say where they were examined."""
SYNTHETIC_PREFIX = "synthetic-"
"""Rows of invented patients carry it in their hospital's name, so that every copy of the file shows what they are."""


def schema_fingerprint() -> str:
    """Hash of everything about the columns on which two programs must agree (12 hex digits)."""
    return hashlib.sha256(repr((FEATURES, LABEL)).encode()).hexdigest()[:12]
