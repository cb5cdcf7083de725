"""The names that the sources of the heart disease data share: its schema and its four hospitals."""

from fedhealth.data.layouts import fewest_known
from fedhealth.data.schema_file import heart_disease

HEART = heart_disease()
FEATURES, FEATURE_NAMES = HEART.features, HEART.feature_names
COLUMNS = HEART.columns
COLUMN_NAMES = HEART.column_names
"""The columns of every CSV of these data, in this order."""
LABEL, TARGET = HEART.columns["num"], "target"
"""The diagnosis as grades 0 to 4, and the name of the column that is 1 where it is above 0, else 0."""
LABELS = (TARGET, LABEL.name)
HOSPITAL = HEART.hospital
FEWEST_KNOWN = fewest_known(HEART)
HOSPITALS: dict[str, str] = {
    "cleveland": "Cleveland Clinic Foundation, USA",
    "hungary": "Hungarian Institute of Cardiology, Budapest",
    "switzerland": "University Hospitals Zurich and Basel",
    "va": "V.A. Medical Center, Long Beach, USA",
}
"""Name -> full name, in the order of the natural split (client 1 to 4)."""
