"""What a hospital refuses to send for Newton's method, and what lifts the refusal."""

from pathlib import Path

import pytest

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.newton import require_disclosable
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from tests.support.hospital_apps import TRAINERS
from tests.support.hospital_files import write_hospitals


def test_counts_that_are_too_small_are_refused_unless_the_server_sees_only_the_sum_over_hospitals(
    tmp_path: Path,
) -> None:
    path = next(iter(write_hospitals(tmp_path).values()))
    hospital = HospitalData.from_csv(path, TRAINERS)
    part = hospital.participation(FederationSettings(strategy="newton").to_run_config())
    with pytest.raises(RunError, match="counts below --min-count 5"):
        require_disclosable(part)
    masked = FederationSettings(strategy="newton", secure_aggregation=True)
    require_disclosable(hospital.participation(masked.to_run_config()))
