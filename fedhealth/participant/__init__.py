"""A hospital's part in one federation: its patients as this federation splits and encodes them, and what trains on them.

`part.py` says who takes part, `wishes.py` what the hospital wants whatever the server asks, `models.py` trains and predicts.
All of it is kept by what it depends on, so a message costs what it asks for and nothing is read or traced twice.
"""

from fedhealth.participant.models import (
    count_inputs,
    find_private_trainer,
    find_standardisation,
    find_steering,
    find_trainer,
    predict_risks,
    predict_rows,
    prepare,
    require_risks,
    shapes_of,
    to_arrays,
    train_further,
)
from fedhealth.participant.part import (
    IN_MEMORY,
    KEPT_HOSPITALS,
    Participant,
    find_participant,
    forget_in_memory,
    hold_in_memory,
    read_hospital,
    read_settings,
)
from fedhealth.participant.wishes import (
    LEAST_COUNT,
    find_budget,
    find_min_count,
    find_randomness,
    find_share_verdict,
)

__all__ = [
    "IN_MEMORY",
    "KEPT_HOSPITALS",
    "LEAST_COUNT",
    "Participant",
    "count_inputs",
    "find_budget",
    "find_min_count",
    "find_participant",
    "find_private_trainer",
    "find_randomness",
    "find_share_verdict",
    "find_standardisation",
    "find_steering",
    "find_trainer",
    "forget_in_memory",
    "hold_in_memory",
    "predict_risks",
    "predict_rows",
    "prepare",
    "read_hospital",
    "read_settings",
    "require_risks",
    "shapes_of",
    "to_arrays",
    "train_further",
]
