"""A hospital's own models after the run: the personal model, the local-only model, and their comparison."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments.methods import train_model
from experiments.splits import Rows
from fedhealth.client import personalization
from fedhealth.client.local_model import LocalModel
from fedhealth.client.patient_split import PatientSplit, split_for
from fedhealth.client.personalization import Model, Outcome, alone_settings, compare_models, make_personal, train_alone
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.patients import Patients
from fedhealth.data.sources.heart import HEART
from fedhealth.reporting.console.hospital import outcome_lines
from tests.support.hospital_apps import TRAINERS
from tests.support.hospital_files import write_hospitals

QUICK = FederationSettings(rounds=10)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return load_hospital(write_hospitals(tmp_path_factory.mktemp("hospitals"))["synthetic-cleveland"])


@pytest.fixture(scope="module")
def split(hospital: Hospital) -> PatientSplit:
    return split_for(QUICK, hospital.patients)


def make_local(**settings: object) -> LocalModel:
    return LocalModel(HEART, dataclasses.replace(QUICK, **settings), TRAINERS)  # type: ignore[arg-type]


def make_final(split: PatientSplit, bias: float = 0.0, **settings: object) -> Model:
    """A slightly trained model whose log odds are off by `bias`."""
    local = make_local(**settings)
    standardisation = preprocessing.local_standardisation(HEART, split.train.features)
    weights = local.train_further(local.trainer.initial_weights(), split.train, standardisation, 5)
    return Model([*weights[:-1], weights[-1] + np.float32(bias)], standardisation, local)


# --- personal ---------------------------------------------------------------------------------------------------------


def test_a_bias_of_its_own_moves_the_mean_risk_to_the_hospitals_share_of_ill_patients(split: PatientSplit) -> None:
    final = make_final(split, bias=-2.0)
    own = make_personal(final, split.train)["personal"]
    off, better = (abs(model.risks(split.train).mean() - split.train.labels.mean()) for model in (final, own))
    assert off > 0.1
    assert better < 0.02
    for ours, theirs in zip(own.weights[:-1], final.weights[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.argsort(own.risks(split.test)), np.argsort(final.risks(split.test)))


def test_finetuning_is_a_few_epochs_more_on_the_training_patients(split: PatientSplit) -> None:
    final = make_final(split, personalise="finetune")
    before = [weight.copy() for weight in final.weights]
    own = make_personal(final, split.train)["personal"]
    theirs = final.local.train_further(
        final.weights, split.train, final.standardisation, personalization.FINETUNE_EPOCHS
    )
    for ours, expected, was, is_now in zip(own.weights, theirs, before, final.weights, strict=True):
        np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(was, is_now)
        assert not np.array_equal(ours, was)


def test_no_personal_model_is_made_without_personalisation(split: PatientSplit) -> None:
    assert make_personal(make_final(split, personalise="none"), split.train) == {}


# --- local-only -------------------------------------------------------------------------------------------------------


def test_local_only_training_equals_a_federation_of_one_with_as_many_epochs(split: PatientSplit) -> None:
    """In one batch the order of the patients does not matter, so both must end in the same weights."""
    local = make_local(batch_size=10_000, rounds=6, local_epochs=2, strategy="fedavg")
    alone = train_alone(local, split.train)
    rows = Rows(split.train, np.arange(len(split.train)))
    theirs = train_model(HEART, {"only": rows}, alone.settings, TRAINERS)
    assert alone.standardisation == theirs.standardisation
    for ours, expected in zip(alone.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "rate", "expected"), [("fedadagrad", 0.05, 0.15), ("fedavg", 0.05, 0.05), ("fedadam", 50.0, 100.0)]
)
def test_local_only_training_has_a_larger_learning_rate_if_the_strategy_is_adaptive(
    strategy: str, rate: float, expected: float
) -> None:
    settings = alone_settings(dataclasses.replace(QUICK, strategy=strategy, learning_rate=rate))  # type: ignore[arg-type]
    assert settings.learning_rate == pytest.approx(expected)
    assert (settings.strategy, settings.hospitals, settings.rounds) == ("fedavg", 1, 10)


# --- all three --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "metrics"), [("intercept", ["auroc", "brier"]), ("finetune", ["auroc", "auroc"]), ("none", ["auroc"])]
)
def test_all_models_are_measured_on_the_hospitals_own_test_patients(
    split: PatientSplit, how: str, metrics: list[str]
) -> None:
    outcome = compare_models(make_final(split, personalise=how), split, fewest=5)
    assert [verdict.metric for verdict in outcome.comparisons.values()] == metrics
    for name, model in outcome.models.items():
        np.testing.assert_array_equal(outcome.risks[name], model.risks(split.test))
    lines = outcome_lines(outcome)
    assert lines[1].startswith(f"on your {len(split.test)} test patients")
    starts = {
        "intercept": ["personal model (own intercept)"],
        "finetune": ["personal model (fine-tuned here)"],
        "none": [],
    }
    names = ["global model", *starts[how], "local model (your patients only)"]
    assert all(line.startswith(name) for line, name in zip(lines[2:], names, strict=False))
    assert lines[2 + len(names)].startswith("global model: AUROC 0.")


@pytest.mark.parametrize("how", ["intercept", "finetune"])
def test_no_model_depends_on_the_test_patients(split: PatientSplit, how: str) -> None:
    other = split._replace(test=Patients(split.test.features * 2, 1 - split.test.labels))
    one, same = (compare_models(make_final(each, personalise=how), each, fewest=5).models for each in (split, other))
    assert list(one) == ["global", "personal", "alone"]
    for name, model in one.items():
        for ours, theirs in zip(model.weights, same[name].weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_too_few_healthy_patients_are_compared_by_the_brier_score_and_with_a_warning(split: PatientSplit) -> None:
    ill = split.test.labels > 0.5
    few = Patients(split.test.features[ill], split.test.labels[ill])
    outcome = compare_models(make_final(split), split._replace(test=few), fewest=5)
    assert {verdict.metric for verdict in outcome.comparisons.values()} == {"brier"}
    lines = outcome_lines(outcome)
    assert lines[-1] == "AUROC is unreliable here: none of the test patients are healthy"
    assert lines[2].split()[3] == "n/a"


@pytest.mark.parametrize(("label", "word"), [(1, "ill"), (0, "healthy")])
def test_a_local_model_that_was_trained_on_one_class_has_no_auroc_and_is_compared_by_the_brier_score(
    split: PatientSplit, label: int, word: str
) -> None:
    rows = split.train.labels == label
    one_class = split._replace(train=Patients(split.train.features[rows], split.train.labels[rows]))
    outcome = compare_models(make_final(split, personalise="finetune"), one_class, fewest=5)
    assert [comparison.metric for comparison in outcome.comparisons.values()] == ["brier", "brier"]
    lines = outcome_lines(outcome)
    (head,) = (line.split() for line in lines if line.startswith("on your "))
    cells = {line.split()[0]: line.split()[-4:] for line in lines[2:5]}
    place = head[-4:].index("AUROC")
    assert cells["local"][place] == "n/a"
    assert "n/a" not in (cells["global"][place], cells["personal"][place])
    assert f"the local model has no AUROC: its training patients are all {word}" in lines


def test_without_a_local_only_model_there_is_no_comparison(
    split: PatientSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = make_final(split)
    broken = dataclasses.replace(final, weights=[weight * np.nan for weight in final.weights])
    monkeypatch.setattr(personalization, "train_alone", lambda *_: broken)
    outcome: Outcome = compare_models(final, split, fewest=5)
    assert (list(outcome.models), outcome.comparisons) == (["global", "personal"], {})
    assert any(line.startswith("no comparison: the local model diverged") for line in outcome_lines(outcome))


@pytest.mark.uci
def test_the_default_model_is_not_worse_than_local_only_at_a_real_hospital(uci_folder: Path, tmp_path: Path) -> None:
    """Long Beach gains most from the others: over five splits its local-only AUROC is lower by 0.02 on average."""
    from fedhealth.common.array_codec import read_array
    from fedhealth.data.sources.load import load_source
    from fedhealth.server.events import RunFinished
    from tests.support.runs import run_federation

    table = load_source(str(uci_folder), url="", patients=40, seed=0, raw_folder=tmp_path).table
    paths = {str(name): tmp_path / f"{name}.csv" for name in table["hospital"].unique()}
    for name, path in paths.items():
        table[table["hospital"] == name].to_csv(path, index=False)
    va, differences = load_hospital(paths["va"]), []
    for seed in range(5):
        settings = FederationSettings(seed=seed)
        finished = run_federation(paths, rounds=settings.rounds, seed=seed)[-1]
        assert isinstance(finished, RunFinished) and finished.standardisation is not None
        weights = [read_array(each) for each in finished.weights.values()]
        final = Model(weights, finished.standardisation, LocalModel(HEART, settings, TRAINERS))
        outcome = compare_models(final, split_for(settings, va.patients), fewest=5)
        differences.append(outcome.comparisons["global"].difference)
    assert np.mean(differences) >= 0.0
