"""One hospital's replies in one run under differential privacy: each is charged to the ledger once, before it is sent."""

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
    """The privacy plan of one run and the replies already sent.

    Opening a session charges the ledger for a noisy count of the training patients, unless this split was counted
    before.

    Attributes
    ----------
    plan : sampling rate, number of steps and noise.
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
        self._last_replies: dict[str, tuple[Hashable, object]] = {}

    @property
    def max_epsilon(self) -> float | None:
        """The hospital's own limit on epsilon."""
        return self._ledger.limit

    def spent(self) -> Spent:
        """The privacy loss of each patient in all runs so far."""
        return self._ledger.spent()

    def charge_steps(self) -> None:
        """Charge the ledger for one round of noisy steps, before they are taken."""
        self._ledger.charge_steps(self._split, self.plan)

    def charge_test(self) -> None:
        """Charge the ledger for the noisy counts of an evaluation, before they are sent."""
        self._ledger.charge_test(self._split, self.plan.test_epsilon)

    def draw_batches(self, num_weights: int) -> DpSgdBatches:
        """The batches of one round's steps and the steps' noise."""
        plan, draw = self.plan, self.noise_source
        return DpSgdBatches(
            batches=[draw.choose(self._train_patients, plan.rate) for _ in range(plan.steps)],
            noise=draw.gaussian((plan.steps, num_weights)),
            clip=self._settings.dp_clip,
            multiplier=plan.noise,
            expected=plan.rate * plan.patients,
        )

    def reply_once(self, kind: str, key: Hashable, compute: Callable[[], T]) -> T:
        """The reply computed by `compute`; the previous reply, at no cost, if `key` equals that of the last `kind` message.

        Raises
        ------
        RunError
            The run has had all the replies of this kind that its guarantee covers.
        """
        before = self._last_replies.get(kind)
        if before is None or before[0] != key:
            if not self._left[kind]:
                raise RunError(
                    f"all planned replies to {kind} have been sent; another would exceed the (epsilon, delta) guarantee"
                )
            before = self._last_replies[kind] = (key, compute())
            self._left[kind] -= 1
        return cast(T, before[1])
