"""What one hospital answers in one run under differential privacy: each answer is charged once, before it is sent."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from fedhealth.client.privacy.ledger import PrivacyLedger, Spent
from fedhealth.client.privacy.mechanisms import noisy_count
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.privacy.plan import PrivatePlan, count_epsilon, make_plan
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.models.local_training import DpSgdBatches
from fedhealth.transport.protocol.evaluation import EVALUATE
from fedhealth.transport.protocol.training import TRAIN

T = TypeVar("T")


class DpSession:
    """The plan of a run, and the answers that it has had.

    Opening a session charges the ledger for a noisy count of the training patients, unless the same split has been counted.

    Attributes
    ----------
    plan : how many patients a step visits, how often, with how much noise.
    """

    def __init__(
        self, train_patients: int, settings: FederationSettings, ledger: PrivacyLedger, noise_source: NoiseSource
    ) -> None:
        self.noise_source = noise_source
        self._settings = settings
        self._train_patients = train_patients
        self._ledger = ledger
        self._split = f"seed {settings.seed}, test share {settings.test_share!r}"
        counted = ledger.read_count(self._split)
        if counted is None:
            cost = count_epsilon(settings)
            counted = noisy_count(train_patients, cost, noise_source), cost
            ledger.charge_count(self._split, *counted)
        self.plan: PrivatePlan = make_plan(settings, *counted)
        ledger.require_enough(self._split, self.plan, settings.rounds)
        self._left = {TRAIN: settings.rounds, EVALUATE: 1}
        self._answered: dict[str, tuple[Hashable, object]] = {}

    @property
    def max_epsilon(self) -> float | None:
        """The hospital's own limit."""
        return self._ledger.limit

    def spent(self) -> Spent:
        """What all runs have disclosed of each patient so far."""
        return self._ledger.spent()

    def charge_steps(self) -> None:
        """Charge the ledger for a round's noisy steps, which are about to be taken."""
        self._ledger.charge_steps(self._split, self.plan)

    def charge_test(self) -> None:
        """Charge the ledger for the noisy counts of an evaluation, which are about to be sent."""
        self._ledger.charge_test(self._split, self.plan.test_epsilon)

    def draw_batches(self, num_weights: int) -> DpSgdBatches:
        """The patients that a round's steps visit, and the steps' noise."""
        plan, draw = self.plan, self.noise_source
        return DpSgdBatches(
            batches=[draw.choose(self._train_patients, plan.rate) for _ in range(plan.steps)],
            noise=draw.gaussian((plan.steps, num_weights)),
            clip=self._settings.dp_clip,
            multiplier=plan.noise,
            expected=plan.rate * plan.patients,
        )

    def once(self, kind: str, question: Hashable, answer: Callable[[], T]) -> T:
        """The answer to this question; if it was the last of its kind, the same answer as before, at no cost.

        Raises
        ------
        RunError
            The run has had all the answers of this kind that its guarantee covers.
        """
        before = self._answered.get(kind)
        if before is None or before[0] != question:
            if not self._left[kind]:
                raise RunError(
                    f"this run has had all its answers to {kind}; another would exceed the guarantee to the patients"
                )
            before = self._answered[kind] = (question, answer())
            self._left[kind] -= 1
        return cast(T, before[1])
