"""An audit of the (epsilon, delta) guarantee by a membership inference attack on one patient.

The strongest attack that the definition allows: the attacker knows every other patient, and the target was made an outlier.
They see what a real hospital sends in a run of one round with full batches, and guess whether the target took part. Their
error rates give a lower bound of mu, and so of epsilon, with 95 % confidence (Nasr et al. 2023, "Tight auditing of
differentially private machine learning", section 4.2). It must be below the guarantee; with too little noise it must be above
it, or the test would show nothing.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from scipy.optimize import brentq
from scipy.stats import beta, norm

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.patient_split import PatientSplit
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.hospital import Hospital
from fedhealth.data.patients import Patients
from fedhealth.data.sources.heart import HEART
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import node_id_of
from tests.support.hospital_apps import TRAINERS

EPSILON, DELTA = 4.0, 1e-3
TRIALS = 300
SETTINGS = FederationSettings(hospitals=1, rounds=1, dp_epsilon=EPSILON, dp_delta=DELTA, weight_decay=0.0)
NUM_OTHERS = 30


def make_patients() -> Patients:
    """Equal healthy patients, and last the target, an ill outlier."""
    features = np.full((NUM_OTHERS + 1, 13), np.nan)
    features[:, 0], features[-1, 0] = 50.0, 90.0
    features[-1, 1:] = [1, 4, 200, 600, 1, 2, 60, 1, 6, 3, 3, 7]
    labels = np.zeros(NUM_OTHERS + 1, dtype=np.float32)
    labels[-1] = 1.0
    return Patients(features, labels)


def sent_values(patients: Patients, number: int) -> tuple[int, np.ndarray]:
    """The noisy count and the trained weights (num_weights,) of a hospital with these patients to train on."""
    hospital = HospitalData(
        Hospital("a", "a", patients, HEART, "study", ()),
        TRAINERS,
        noise_source=NoiseSource([number]),
        fixed_split=PatientSplit(patients, patients),
    )
    grid = InProcessGrid({"a": make_client_app(hospital)}, SETTINGS.to_run_config())

    def ask(kind: str, content: RecordDict) -> Message:
        return grid.send_and_receive([Message(content, dst_node_id=node_id_of("a"), message_type=kind)])[0]

    count = ask("query.describe", RecordDict()).content.metric_records["counts"]["train-patients"]
    weights = ask("query.initial_weights", RecordDict()).content.array_records["arrays"]
    scale = preprocessing.reference_standardisation(HEART)
    config = ConfigRecord({"server-round": 1, "means": list(scale.means), "stds": list(scale.stds)})
    reply = ask("train", RecordDict({"arrays": weights, "config": config}))
    trained = np.concatenate([a.numpy().ravel() for a in reply.content.array_records["arrays"].values()])
    return int(count), trained  # type: ignore[call-overload]


def guess_scores() -> tuple[np.ndarray, np.ndarray]:
    """Scores for the target's presence: (TRIALS,) with the target and (TRIALS,) without."""
    patients = make_patients()
    scale = preprocessing.reference_standardisation(HEART)
    inputs = preprocessing.standardise(preprocessing.encode(HEART, patients.features, True), scale)
    gradients = (0.5 - patients.labels)[:, np.newaxis] * np.column_stack([inputs, np.ones(len(inputs))])
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    clipped = gradients * np.minimum(1.0, SETTINGS.dp_clip / lengths)
    direction, others = clipped[-1] / np.linalg.norm(clipped[-1]), clipped[:-1].sum(axis=0)
    fewer = Patients(patients.features[:-1], patients.labels[:-1])

    def score(group: Patients, number: int) -> float:
        count, trained = sent_values(group, number)
        expected = min(SETTINGS.batch_size, count)
        return float((-trained * expected / SETTINGS.local_learning_rate - others) @ direction)

    present = np.array([score(patients, number) for number in range(TRIALS)])
    absent = np.array([score(fewer, number) for number in range(TRIALS, 2 * TRIALS)])
    return present, absent


def epsilon_at_least(present: np.ndarray, absent: np.ndarray) -> float:
    """Lower bound of epsilon with 95 % confidence, from guesses by a threshold that was fixed in advance."""
    right, wrong = int((present > SETTINGS.dp_clip / 2).sum()), int((absent > SETTINGS.dp_clip / 2).sum())
    # Clopper-Pearson, 97.5 % each; a Gaussian mechanism's trade-off: norm.ppf(right) - norm.ppf(wrong) <= mu.
    low = beta.ppf(0.025, right, TRIALS - right + 1) if right else 0.0
    high = beta.ppf(0.975, wrong + 1, TRIALS - wrong) if wrong < TRIALS else 1.0
    return epsilon_of_mu(float(norm.ppf(low) - norm.ppf(high)))


def epsilon_of_mu(mu: float) -> float:
    """Balle & Wang 2018, "Improving the Gaussian mechanism", theorem 8."""
    if mu <= 0:
        return 0.0

    def excess(epsilon: float) -> float:
        tail = norm.logcdf(-mu / 2 - epsilon / mu) + epsilon
        return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(tail)) - DELTA

    return float(brentq(excess, 0, 200)) if excess(0) > 0 else 0.0


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    return guess_scores()


@pytest.mark.slow
def test_the_attack_stays_below_the_guaranteed_epsilon(honest: tuple[np.ndarray, np.ndarray]) -> None:
    assert epsilon_at_least(*honest) < EPSILON


@pytest.mark.slow
def test_the_attack_is_nearly_as_strong_as_the_guarantee_allows(honest: tuple[np.ndarray, np.ndarray]) -> None:
    """The bound is close to the guarantee; with a weak attack, staying below it would show nothing."""
    present, absent = honest
    assert present.mean() - absent.mean() == pytest.approx(SETTINGS.dp_clip, rel=0.3)
    assert epsilon_at_least(present, absent) > 0.5 * EPSILON


def with_noise_times(factor: float) -> Callable[[NoiseSource, tuple[int, ...]], np.ndarray]:
    honest_noise = NoiseSource.gaussian
    return lambda self, shape: honest_noise(self, shape) * np.float32(factor)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.0, 0.5], ids=["no noise", "half of it"])
def test_the_audit_detects_missing_noise(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(NoiseSource, "gaussian", with_noise_times(factor))
    assert epsilon_at_least(*guess_scores()) > 1.2 * EPSILON
