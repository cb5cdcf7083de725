"""One hospital's data in its client: patients, limits, privacy ledger, noise source and trainers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedhealth.client.dp_session import DpSession
from fedhealth.client.limits import USUAL_LIMITS, HospitalLimits
from fedhealth.client.local_model import LocalModel
from fedhealth.client.masking_party import MaskingParty
from fedhealth.client.masking_state import MaskingState, masking_path
from fedhealth.client.participation import Participation
from fedhealth.client.patient_split import PatientSplit, hold_out, split_for
from fedhealth.client.privacy.ledger import PrivacyLedger, ledger_path
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.split_hash import derive_key, hash_patients, read_key
from fedhealth.client.trainers import Trainers
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions
from fedhealth.data.schema import Schema

KEPT_PARTICIPATIONS = 4
"""Number of run configs for which a hospital keeps its prepared patients."""


class HospitalData:
    """One hospital and its participations in federations. Not thread-safe.

    Parameters
    ----------
    hospital : its validated patients, name and source.
    trainers : may be shared with other hospitals of the process.
    ledger : the file of its privacy ledger; None keeps the ledger in memory.
    key_folder : the folder of the key under which its test patients are hashed; None for a simulation.
    fixed_split : training and test patients, for a study that splits the patients itself.
    masking : its keys under secure aggregation; None for a simulation.
    """

    def __init__(
        self,
        hospital: Hospital,
        trainers: Trainers,
        limits: HospitalLimits = USUAL_LIMITS,
        *,
        ledger: Path | None = None,
        key_folder: Path | None = None,
        noise_source: NoiseSource | None = None,
        fixed_split: PatientSplit | None = None,
        masking: MaskingParty | None = None,
    ) -> None:
        self.hospital = hospital
        self.trainers = trainers
        self.limits = limits
        self.ledger = PrivacyLedger(ledger, limits.max_epsilon)
        self.noise_source = noise_source or NoiseSource()
        self.masking = masking or MaskingParty()
        self._key_folder = key_folder
        self._fixed_split = fixed_split
        self._participations = BoundedCache[tuple[Any, ...], Participation](KEPT_PARTICIPATIONS)

    @classmethod
    def from_csv(
        cls,
        path: Path,
        trainers: Trainers,
        name: str | None = None,
        limits: HospitalLimits = USUAL_LIMITS,
        *,
        schema: Schema | None = None,
        options: ReadOptions = AS_IT_IS,
        masking: MaskingParty | None = None,
    ) -> "HospitalData":
        """The hospital of a CSV, with its ledger and keys beside the file; raises what `load_hospital` raises."""
        hospital = load_hospital(path, name, schema, options)
        masking = masking or MaskingParty(MaskingState(masking_path(path)), is_local=False)
        return cls(hospital, trainers, limits, ledger=ledger_path(path), key_folder=path.parent, masking=masking)

    def participation(self, run_config: Mapping[str, Any]) -> Participation:
        """The hospital's participation in the federation with this run config.

        Raises
        ------
        RunError
            The settings are invalid, or leave too few patients to train or to test on.
        """
        # The types are part of the key: Python's 1, 1.0 and True are equal, but not as settings.
        entries = (*run_config, *run_config.values(), *map(type, run_config.values()))
        try:
            hash(entries)
        except TypeError:  # no setting is a list; parsing raises an error that names the setting
            return self._take_part(run_config)
        return self._participations.get(entries, lambda: self._take_part(run_config))

    def _take_part(self, run_config: Mapping[str, Any]) -> Participation:
        try:
            settings = FederationSettings.from_run_config(run_config)
        except UsageError as error:
            raise RunError(f"the server's settings are invalid: {error}") from None
        if self._fixed_split:
            split = hold_out(settings, self._fixed_split.train, self._fixed_split.test)
        else:
            split = split_for(settings, self.hospital.patients)
        model = LocalModel(self.hospital.schema, settings, self.trainers)
        return Participation(model, split, min_count=max(self.limits.min_count, settings.min_count))

    def hash_test_patients(self, part: Participation) -> str | None:
        """The keyed hash of the participation's test patients; None if there is no key and none can be kept."""
        key = read_key(self._key_folder) if self._key_folder else derive_key(self.hospital.patients)
        return hash_patients(part.split.test, key) if key else None

    def open_dp_session(self, part: Participation) -> DpSession:
        """The participation's session under differential privacy; the first call charges the ledger for a noisy count.

        Raises
        ------
        RunError
            The (epsilon, delta) guarantee cannot be given, or the ledger does not allow the whole run.
        """
        if part.dp_session is None:
            part.dp_session = DpSession(len(part.split.train), part.settings, self.ledger, self.noise_source)
        return part.dp_session
