"""The two apps together, in one process: the run as a whole, its equalities and its determinism."""

from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

import create_dataset
from fedhealth.client.limits import HospitalLimits
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.hospital import load_hospital
from fedhealth.data.patients import split_patients
from fedhealth.data.preprocessing import Moments
from fedhealth.data.sources.heart import HEART, TARGET
from fedhealth.metrics.calibration import compute_calibration
from fedhealth.metrics.histogram import add_histograms
from fedhealth.metrics.subgroups import find_divisions
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import node_id_of
from tests.support.hospital_apps import make_app
from tests.support.hospital_files import write_hospitals
from tests.support.runs import QUICK, run_federation

GROUPS = [group for groups in find_divisions(HEART).values() for group in groups]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))


def final_weights(events: list[Event]) -> list[np.ndarray]:
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return [array.numpy() for array in finished.weights.values()]


def test_a_run_reports_its_events_in_order(hospitals: dict[str, Path]) -> None:
    events = run_federation(hospitals)
    assert [type(event) for event in events] == [RunStarted, *[RoundRecord] * 3, RunFinished]
    began = events[0]
    assert isinstance(began, RunStarted)
    assert [member.name for member in began.members] == sorted(hospitals)
    assert sum(member.patients for member in began.members) == 240
    assert began.dataset == "synthetic"


def test_the_pooled_metrics_equal_sklearns_on_pooled_scores(hospitals: dict[str, Path]) -> None:
    events = run_federation(hospitals, rounds=5)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert finished.standardisation is not None
    settings = finished.settings
    from fedhealth.models.training import Trainer

    num_inputs = len(preprocessing.encoded_names(HEART, settings.missing_indicators))
    trainer = Trainer(settings.model, num_inputs, settings.learning_rate, settings.batch_size, settings.seed)
    tests = [
        split_patients(load_hospital(path).patients, settings.test_share, settings.seed)[1]
        for path in hospitals.values()
    ]
    labels = np.concatenate([test.labels for test in tests])
    encoded = preprocessing.encode(
        HEART, np.concatenate([test.features for test in tests]), settings.missing_indicators
    )
    risks = trainer.predict(final_weights(events), preprocessing.standardise(encoded, finished.standardisation))
    union = finished.rounds[-1].pooled
    assert union.num_examples == len(labels)
    assert union.auroc_bound is not None and union.auroc is not None
    assert abs(union.auroc - roc_auc_score(labels, risks)) <= min(union.auroc_bound + 1e-12, 0.005)
    assert union.accuracy == pytest.approx(accuracy_score(labels, risks >= 0.5), abs=1e-12)
    assert union.brier == pytest.approx(brier_score_loss(labels, risks.astype(np.float64)), abs=1e-7)
    assert union.loss == pytest.approx(log_loss(labels, risks.astype(np.float64)), abs=1e-6)


def test_the_federations_standardisation_equals_that_of_pooled_rows(hospitals: dict[str, Path]) -> None:
    finished = run_federation(hospitals)[-1]
    assert isinstance(finished, RunFinished)
    assert finished.standardisation is not None
    trains = [split_patients(load_hospital(path).patients, 0.25, 0)[0].features for path in hospitals.values()]
    pooled = preprocessing.local_standardisation(HEART, np.concatenate(trains))
    np.testing.assert_allclose(finished.standardisation.means, pooled.means, rtol=1e-12)
    np.testing.assert_allclose(finished.standardisation.stds, pooled.stds, rtol=1e-12)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_in_any_order_of_joining(hospitals: dict[str, Path]) -> None:
    first = final_weights(run_federation(hospitals))
    again = final_weights(run_federation(dict(reversed(hospitals.items()))))
    other = final_weights(run_federation(hospitals, seed=1))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(not np.array_equal(one, different) for one, different in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "choice", [{"scaling": "local"}, {"scaling": "reference"}, {"missing_indicators": False}, {"model": "mlp"}]
)
def test_every_choice_runs_and_changes_the_weights(hospitals: dict[str, Path], choice: dict[str, object]) -> None:
    default, chosen = final_weights(run_federation(hospitals)), final_weights(run_federation(hospitals, **choice))
    assert all(np.all(np.isfinite(weight)) for weight in chosen)
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(default, chosen, strict=False))


@pytest.mark.slow
def test_a_model_trained_with_class_weights_predicts_calibrated_risks(tmp_path: Path) -> None:
    """With few ill patients, uncorrected risks would be far too high; corrected, they equal those without weights."""
    hospitals = write_hospitals(tmp_path, num_patients=1500)
    for path in hospitals.values():
        table = pd.read_csv(path)
        table[(table[TARGET] == 0) | (table.index % 4 == 0)].to_csv(path, index=False)
    run = {"rounds": 60, "strategy": "fedavg", "learning_rate": 0.2}
    plain, weighed = (run_federation(hospitals, class_weights=on, **run)[-1] for on in (False, True))
    assert isinstance(plain, RunFinished)
    assert isinstance(weighed, RunFinished)
    assert weighed.choices is not None
    assert weighed.choices.class_weights is not None
    healthy, ill = weighed.choices.class_weights
    assert np.log(ill / healthy) > 1
    shift = [
        calibration.in_the_large
        for finished in (plain, weighed)
        if (calibration := compute_calibration(add_histograms(finished.histograms.values())))
    ]
    assert shift[0] == pytest.approx(shift[1], abs=0.25 * np.log(ill / healthy))
    assert not np.allclose(
        plain.weights["logistic/log_odds/kernel"].numpy(), weighed.weights["logistic/log_odds/kernel"].numpy()
    )


def test_training_that_diverges_ends_in_one_clear_line(
    hospitals: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedhealth.models.training import Trainer

    monkeypatch.setattr(Trainer, "train", lambda self, weights, *_: ([weight * np.nan for weight in weights], 0.0))
    with pytest.raises(RunError, match=r"training diverged.*lower --learning-rate"):
        run_federation(hospitals)


WEIGHTS = {
    "logistic/log_odds/kernel": ("float32", (32, 1)),
    "logistic/log_odds/bias": ("float32", (1,)),
}
MOMENTS = {"moments": {"counts": (int, 6), "sums": (float, 6)}}
COUNTS = {"train-patients": int, "test-patients": int, "test-ill": int}
SUMS = {"num-examples": int, "log-loss": float, "squared-error": float}
BINS = {"tested": ("uint8", (2, 366))}
MAY_LEAVE: dict[str, dict[str, object]] = {
    "query.describe": {"hospital": {"name": str, "source": str, "schema": str, "split-hash": str}, "counts": COUNTS},
    "query.first_moments": MOMENTS,
    "query.second_moments": MOMENTS,
    "query.initial_weights": {"arrays": WEIGHTS},
    "train": {"arrays": WEIGHTS, "metrics": {"num-examples": int, "train-loss": float}},
    "evaluate": {"tested": SUMS, "bins": BINS},
    "query.subgroups": {"subgroups": dict.fromkeys(GROUPS, (int, 4))},
    "query.importance": {"importance": {"auroc-drops": (float, 13), "num-examples": int}},
    "query.finish": {},
    "error": {"error": {"code": int, "reason": str}},
}
"""Everything that a hospital may send; anything else is a failure (docs/what-leaves.md)."""
VERDICT = dict.fromkeys(("value", "alone", "difference", "low", "high"), float)
SHARED = ("global-auroc", "global-brier", "personal-brier")
"""Contents of the reply to `finish` of a hospital that shares its comparisons."""
KEPT: dict[str, dict[str, object]] = {"query.importance": {}}
"""Contents of the reply of a hospital with too few patients to send more."""


def form_of(reply: Message) -> tuple[str, dict[str, object]]:
    """The kind of a reply, and its records with every value replaced by its type (and length, and shape)."""
    if reply.has_error():
        return "error", {"error": {"code": type(reply.error.code), "reason": type(reply.error.reason)}}
    content = reply.content
    form: dict[str, object] = {
        key: {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}
        for key, arrays in content.array_records.items()
    }
    for key, record in (*content.metric_records.items(), *content.config_records.items()):
        assert key not in form
        form[key] = {name: form_of_value(value) for name, value in record.items()}
    return reply.metadata.message_type, form


def forms_of(reply: Message) -> list[tuple[str, dict[str, object]]]:
    """As `form_of`; the evaluation in the reply to a train message counts as an evaluate reply."""
    kind, form = form_of(reply)
    evaluated = {key: form.pop(key) for key in ("tested", "validation", "bins") if kind == "train" and key in form}
    return [(kind, form), *([("evaluate", evaluated)] if evaluated else [])]


def form_of_value(value: object) -> object:
    if not isinstance(value, list):
        return type(value)
    (kind,) = {type(each) for each in value}
    return kind, len(value)


VALIDATION_COUNTS = {**COUNTS, "validation-patients": int, "validation-ill": int}
MAY_LEAVE_FOR_CHOICES = {
    **MAY_LEAVE,
    "query.describe": {
        "hospital": {"name": str, "source": str, "schema": str, "split-hash": str},
        "counts": VALIDATION_COUNTS,
    },
    "query.label_counts": {"labels": {"healthy": int, "ill": int}},
    "evaluate": {"tested": SUMS, "validation": SUMS, "bins": {**BINS, "validation": BINS["tested"]}},
}
"""The same in a run with validation patients."""


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """All replies of the hospitals from here on."""
    kept: list[Message] = []
    original = InProcessGrid._deliver

    def deliver(self: InProcessGrid, message: Message) -> str:
        message_id = original(self, message)
        kept.append(self._replies[message_id])
        return message_id

    monkeypatch.setattr(InProcessGrid, "_deliver", deliver)
    return kept


def test_a_hospital_sends_only_what_is_on_the_list(hospitals: dict[str, Path], replies: list[Message]) -> None:
    run_federation(hospitals)
    met = set()
    for kind, form in chain.from_iterable(map(forms_of, replies)):
        if kind == "query.subgroups":  # what is small is left out
            form["subgroups"] = {**dict.fromkeys(GROUPS, (int, 4)), **form["subgroups"]}  # type: ignore[dict-item]
        assert form in (MAY_LEAVE[kind], KEPT.get(kind))
        met.add(kind)
    assert met == set(MAY_LEAVE) - {"error"}


def test_with_model_selection_a_hospital_sends_only_what_is_on_the_list(
    hospitals: dict[str, Path], replies: list[Message]
) -> None:
    run_federation(hospitals, patience=2, validation=0.35, class_weights=True)
    met = set()
    for kind, form in chain.from_iterable(map(forms_of, replies)):
        expected = MAY_LEAVE_FOR_CHOICES[kind]
        if kind == "query.subgroups":  # what is small is left out
            assert form["subgroups"].items() <= expected["subgroups"].items()
        else:
            assert form in (expected, KEPT.get(kind))
        met.add(kind)
    assert met == set(MAY_LEAVE_FOR_CHOICES) - {"error"}


def test_only_a_hospital_that_shares_its_comparisons_sends_them(
    hospitals: dict[str, Path], replies: list[Message]
) -> None:
    config = {**FederationSettings(hospitals=len(hospitals)).to_run_config(), **QUICK}
    sharing = sorted(hospitals)[0]
    apps = {
        name: make_app(path, name, HospitalLimits(share_comparisons=name == sharing))
        for name, path in hospitals.items()
    }
    events: list[Event] = []
    grid = InProcessGrid(apps, config)
    make_server_app(events.append)(grid, grid.context)
    finals = [reply for reply in replies if reply.metadata.message_type == "query.finish"]
    silent = [message_to_proto(reply).content.ByteSize() for reply in finals if not reply.content]
    assert silent == [0] * (len(hospitals) - 1), "not a byte of it leaves the others"
    (shared,) = (reply for reply in finals if reply.content)
    assert shared.metadata.src_node_id == node_id_of(sharing)
    form = form_of(shared)[1]
    assert form and set(form) <= set(SHARED)
    assert all(numbers == VERDICT for numbers in form.values())
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert set(finished.comparisons) == {sharing}
    assert set(finished.comparisons[sharing]) == {"global", "personal"}


def test_a_replys_metadata_contain_only_ids_and_times(hospitals: dict[str, Path], replies: list[Message]) -> None:
    run_federation(hospitals, rounds=1)
    for reply in replies:
        proto = message_to_proto(reply)
        assert {field.name for field, _ in proto.ListFields()} <= {"metadata", "content"}
        assert {field.name for field, _ in proto.metadata.ListFields()} <= {
            *("run_id", "src_node_id", "dst_node_id", "reply_to_message_id", "group_id", "message_type"),
            *("dst_task_id", "message_id", "ttl", "created_at"),
        }
        assert proto.metadata.group_id == ""


def test_an_error_is_sent_as_a_code_and_one_line(
    hospitals: dict[str, Path], replies: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedhealth.models.training import Trainer

    monkeypatch.setattr(Trainer, "train", lambda self, weights, *_: ([weight * np.nan for weight in weights], 0.0))
    with pytest.raises(RunError):
        run_federation(hospitals)
    errors = [form for kind, form in map(form_of, replies) if kind == "error"]
    assert errors
    assert all(form == MAY_LEAVE["error"] for form in errors)


def test_moments_of_one_value_per_column_are_what_was_sent() -> None:
    """The combination is a sum: two hospitals of one patient each give the mean of the two."""
    means = preprocessing.combine_means([Moments((1,) * 6, (10.0,) * 6), Moments((1,) * 6, (20.0,) * 6)])
    assert means == (15.0,) * 6


@pytest.mark.uci
def test_the_default_run_on_the_real_hospitals_is_as_good_as_documented(uci_folder: Path, tmp_path: Path) -> None:
    assert create_dataset.main(["--source", str(uci_folder), "--out", str(tmp_path)]) == 0
    paths = {f"client_{number}": tmp_path / f"client_{number}.csv" for number in range(1, 5)}
    unions = []
    for seed in range(5):
        finished = run_federation(paths, rounds=FederationSettings().rounds, seed=seed)[-1]
        assert isinstance(finished, RunFinished)
        unions.append(finished.rounds[-1].pooled)
    auroc, accuracy, brier = (np.mean([getattr(u, key) for u in unions]) for key in ("auroc", "accuracy", "brier"))
    assert auroc >= 0.895
    assert accuracy >= 0.82
    assert brier <= 0.127
