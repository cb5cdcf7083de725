"""One hospital's participation in one federation: the split of its patients, its model and its privacy session."""

from dataclasses import dataclass
from functools import cached_property

from fedhealth.client.dp_session import DpSession
from fedhealth.client.limits import LEAST_COUNT
from fedhealth.client.local_model import LocalModel
from fedhealth.client.patient_split import PatientSplit
from fedhealth.client.personalization import FinalModel
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.small_cells import find_small_cells
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.finalization import FinalRequest
from fedhealth.transport.protocol.sum_messages import SumMessages


@dataclass(eq=False)
class Participation:
    """One hospital's participation in one federation.

    Attributes
    ----------
    min_count : sums over fewer patients are not sent.
    dp_session : the session under differential privacy, once `HospitalData.open_dp_session` has opened it.
    final : the final model, once the server has sent it.
    """

    model: LocalModel
    split: PatientSplit
    min_count: int
    dp_session: DpSession | None = None
    final: FinalModel | None = None

    @property
    def settings(self) -> FederationSettings:
        """The federation's settings."""
        return self.model.settings

    @property
    def sums_are_masked(self) -> bool:
        """Whether the server reads sums only over all hospitals, so that small counts of this one are not disclosed."""
        return self.settings.secure_aggregation

    @cached_property
    def small_cells(self) -> list[tuple[str, ...]]:
        """The columns, and pairs of columns, whose counts over the training patients are too small to be sent."""
        indicators = self.settings.missing_indicators
        return find_small_cells(self.model.schema, self.split.train, self.min_count, missing_indicators=indicators)

    @cached_property
    def sum_messages(self) -> SumMessages:
        """The vectors of its messages under secure aggregation."""
        schema = self.model.schema
        return SumMessages(self.settings, schema, NUM_BINS, list_groups(schema))

    def standardisation(self, scale: Scale | None) -> Standardisation:
        """The standardisation of a request, or with `--scaling local` the hospital's own."""
        return self.model.standardisation(scale, self.split.train)

    def keep_final(self, request: FinalRequest) -> FinalModel:
        """Keep the final model that the server has sent; comparisons are computed when first needed."""
        self.final = FinalModel(self.model, self.split, request, fewest=max(LEAST_COUNT, self.min_count))
        return self.final
