"""The files of a run: their names, their keys, and that they are complete."""

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedhealth import __version__
from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema_file import parse_schema
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.histogram import Metrics, compute_metrics, score_histogram
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.server.records import Member
from fedhealth.server.run_directory import make_run_folder
from fedhealth.server.run_files import write_model
from tests.support.run_events import KERNEL, MEANS, STDS, make_began, make_finished, make_round
from tests.support.run_keeping import keep_in

ASKED_FOR = {"auroc", "accuracy", "brier", "loss", "sensitivity", "specificity"}


def read_json(path: Path) -> Any:
    """Strictly: NaN and Infinity, which Python would accept, are no JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path.name} holds {word}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


IMPORTANCE = Importance({"cp": 0.05, "age": 0.0}, {"va": {"cp": 0.05, "age": 0.0}}, {"cleveland": "not connected"})


# --- summary.json -----------------------------------------------------------------------------------------------------


def test_the_summary_contains_permutation_importance_if_it_was_requested(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished(importance=IMPORTANCE))
    assert read_json(tmp_path / "summary.json")["importance"] == {
        "together": {"cp": 0.05, "age": 0.0},
        "hospitals": {"va": {"cp": 0.05, "age": 0.0}},
        "not_told": {"cleveland": "not connected"},
    }
    keep_in(tmp_path, make_finished())
    assert "importance" not in read_json(tmp_path / "summary.json")


def test_the_summary_contains_the_comparisons_that_hospitals_shared(tmp_path: Path) -> None:
    verdict = PairedComparison("auroc", 0.74, 0.67, 0.07, 0.01, 0.12)
    keep_in(tmp_path, make_finished(comparisons={"va": {"global": verdict}}))
    comparison = read_json(tmp_path / "summary.json")["verdicts"]["va"]["global"]
    assert (comparison["metric"], comparison["difference"], comparison["words"]) == (
        "auroc",
        0.07,
        "better than the local model",
    )
    keep_in(tmp_path, make_finished())
    assert "verdicts" not in read_json(tmp_path / "summary.json")


def test_the_summary_contains_the_metrics_of_the_run(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished())
    summary = read_json(tmp_path / "summary.json")
    assert set(summary) == {
        *("dataset", "rounds", "seconds", "metrics", "hospitals", "left_out", "round_seconds"),
        *("intervals", "decision_curve"),
    }
    assert (summary["dataset"], summary["rounds"], summary["seconds"]) == ("uci", 2, 1.75)
    assert summary["round_seconds"] == [0.25, 0.5]
    assert set(summary["metrics"]) >= ASKED_FOR
    # Ill 0.9, 0.8 and 0.4 are all above healthy 0.2; only 0.4 is misclassified.
    assert {key: summary["metrics"][key] for key in ("auroc", "accuracy", "specificity")} == {
        "auroc": 1.0,
        "accuracy": 0.75,
        "specificity": 1.0,
    }
    assert summary["metrics"]["sensitivity"] == pytest.approx(2 / 3)
    assert summary["metrics"]["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.2**2 + 0.6**2) / 4)
    assert summary["metrics"]["loss"] == pytest.approx(-math.log(0.9 * 0.8 * 0.8 * 0.4) / 4)


def test_the_summary_gives_each_hospital_the_same_metrics_and_all_its_patients(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished())
    summary = read_json(tmp_path / "summary.json")
    assert set(summary["hospitals"]) == {"cleveland", "va"}
    for metrics in summary["hospitals"].values():
        assert set(metrics) == set(summary["metrics"]) | {"patients"}
    assert summary["hospitals"]["cleveland"]["patients"] == 8
    assert summary["hospitals"]["va"]["patients"] == 10
    assert summary["hospitals"]["va"]["accuracy"] == 0.5


def test_the_summary_has_clinical_metrics_with_intervals(tmp_path: Path) -> None:
    histograms = {"cleveland": score_histogram([0.9, 0.3, 0.7, 0.1], [1, 1, 0, 0])}
    keep_in(tmp_path, make_finished(rounds=[make_round(1)], histograms=histograms))
    summary = read_json(tmp_path / "summary.json")
    assert summary["metrics"]["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)
    assert summary["metrics"]["sensitivity_at_90"] == 0.5
    assert summary["intervals"]["sensitivity"] == pytest.approx([0.0945, 0.9055], abs=1e-4)  # Wilson's of 1 of 2
    assert summary["hospitals"]["cleveland"]["pr_auc"] == summary["metrics"]["pr_auc"]
    assert summary["hospitals"]["va"]["pr_auc"] is None
    at_half = next(point for point in summary["decision_curve"] if point["threshold"] == 0.5)
    assert (at_half["model"], at_half["everybody"]) == (0.0, 0.0)


def test_an_undefined_metric_is_null(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished())
    va = read_json(tmp_path / "summary.json")["hospitals"]["va"]
    assert va["auroc"] is None
    assert va["specificity"] is None


def test_the_summary_is_of_the_last_round(tmp_path: Path) -> None:
    last = make_round(2, pooled=compute_metrics(score_histogram([0.9], [0])))
    keep_in(tmp_path, make_finished(rounds=[make_round(1), last]))
    assert read_json(tmp_path / "summary.json")["metrics"]["accuracy"] == 0.0


@pytest.mark.parametrize("no_number", [math.nan, math.inf, -math.inf])
def test_no_file_ever_holds_a_nan_or_an_infinity(tmp_path: Path, no_number: float) -> None:
    pooled = replace(make_round().pooled, loss=no_number)
    record = make_round(train_loss=no_number, pooled=pooled)
    keep_in(tmp_path, record)
    keep_in(tmp_path, make_finished(rounds=[record], seconds=no_number))
    history = read_json(tmp_path / "history.jsonl")
    assert (history["train_loss"], history["union"]["loss"]) == (None, None)
    summary = read_json(tmp_path / "summary.json")
    assert (summary["metrics"]["loss"], summary["seconds"]) == (None, None)


def test_the_model_file_names_the_hospitals_and_contains_none_of_their_counts(tmp_path: Path) -> None:
    finished = make_finished()
    write_model(tmp_path / "model.npz", finished)
    with np.load(tmp_path / "model.npz") as file:
        about = json.loads(str(file["about"]))
    assert about["hospitals"] == [member.name for member in finished.members]
    assert not {each.name for each in fields(Member)} & set(re.findall(r'"([a-z_]+)":', json.dumps(about)))


# --- settings.json and history.jsonl ----------------------------------------------------------------------------------


def test_the_settings_say_what_was_run_on_what_and_with_which_version(tmp_path: Path) -> None:
    began = make_began()
    keep_in(tmp_path, began)
    content = read_json(tmp_path / "settings.json")
    assert (content["version"], content["schema"], content["dataset"]) == (__version__, HEART.fingerprint, "uci")
    assert FederationSettings.from_run_config(content["settings"]) == began.settings
    assert [Member(**member) for member in content["hospitals"]] == began.members


def test_the_history_grows_by_one_line_per_round_and_is_there_before_the_run_ends(tmp_path: Path) -> None:
    left_out = {"va": "no reply within 5 s"}
    keep_in(tmp_path, make_round(1))
    keep_in(tmp_path, make_round(2, left_out=left_out, left_out_share=0.4))
    lines = (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert set(first) == {
        *("round", "seconds", "train_loss", "union", "hospitals", "left_out", "left_out_share", "clipped"),
    }
    assert (first["round"], first["left_out"], first["left_out_share"]) == (1, {}, 0.0)
    assert (second["round"], second["left_out"], second["left_out_share"]) == (2, left_out, 0.4)
    names = {each.name for each in fields(Metrics)}
    assert set(first["union"]) == set(first["hospitals"]["va"]) == names
    assert not (tmp_path / "summary.json").exists()


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    keep_in(tmp_path, make_began())
    before = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    keep_in(tmp_path, make_began(settings=FederationSettings(hospitals=2, rounds=9), done=7))
    after = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert after == {**before, "starts": [*before["starts"], {"done": 7, "link": "plain text"}]}


def test_a_resumed_run_that_is_saved_to_another_folder_has_its_settings_there(tmp_path: Path) -> None:
    keep_in(tmp_path, make_began(done=7))
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["dataset"] == "uci"


def test_a_checkpoint_that_cannot_be_removed_does_not_spoil_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "round-00000002.ckpt").write_bytes(b"")
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".ckpt":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    keep_in(tmp_path, make_finished())
    assert (tmp_path / "summary.json").exists()


# --- model.npz --------------------------------------------------------------------------------------------------------


def test_the_model_file_which_may_be_passed_on_has_no_hash_of_test_patients(tmp_path: Path) -> None:
    members = [replace(member, split_hash=f"{'0' * 8}-{'a' * 32}") for member in make_finished().members]
    keep_in(tmp_path, make_began(members=members), make_finished(members=members))
    assert "a" * 32 in (tmp_path / "settings.json").read_text(encoding="utf-8")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as model:
        assert "a" * 32 not in str(model["about"])


def test_the_model_file_is_read_without_pickle_and_holds_all_that_is_needed_to_use_it(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as model:
        assert set(model) == {
            "weights/hidden/kernel",
            "weights/hidden/bias",
            "means",
            "stds",
            "inputs",
            "about",
            "schema",
        }
        np.testing.assert_array_equal(model["weights/hidden/kernel"], KERNEL)
        assert model["weights/hidden/bias"].dtype == np.float32
        np.testing.assert_array_equal(model["means"], MEANS)
        np.testing.assert_array_equal(model["stds"], STDS)
        assert model["inputs"].tolist() == encoded_names(HEART, missing_indicators=True)
        about = json.loads(str(model["about"]))
        assert parse_schema(str(model["schema"]), "model.npz") == HEART
    assert (about["dataset"], about["schema"]) == ("uci", HEART.fingerprint)
    assert FederationSettings.from_run_config(about["settings"]) == make_finished().settings


def test_the_model_file_of_a_run_with_local_scaling_has_no_means(tmp_path: Path) -> None:
    keep_in(tmp_path, make_finished(standardisation=None))
    with np.load(tmp_path / "model.npz", allow_pickle=False) as model:
        assert not {"means", "stds"} & set(model)


def test_the_inputs_in_the_model_file_follow_the_settings(tmp_path: Path) -> None:
    settings = FederationSettings(missing_indicators=False)
    keep_in(tmp_path, make_finished(settings=settings))
    with np.load(tmp_path / "model.npz", allow_pickle=False) as model:
        assert model["inputs"].tolist() == encoded_names(HEART, missing_indicators=False)


def test_a_finished_run_leaves_five_files_and_no_temporary_one(tmp_path: Path) -> None:
    keep_in(tmp_path, make_began(), make_round(), make_finished())
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["history.jsonl", "model.npz", "schema.toml", "settings.json", "summary.json"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_file(path, b"old")

    def cut_the_power(_: int) -> None:
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", cut_the_power)
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("summary.json", b"old")]


def test_a_new_file_takes_the_place_of_the_old_one_and_is_not_written_into_it(tmp_path: Path) -> None:
    path, still_open = tmp_path / "summary.json", tmp_path / "as a reader has it"
    write_file(path, b"old")
    still_open.hardlink_to(path)
    write_file(path, b"new")
    assert (path.read_bytes(), still_open.read_bytes()) == (b"new", b"old")


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "studies" / "first")
    assert folder == tmp_path / "studies" / "first"
    assert list(folder.iterdir()) == []


def test_without_a_name_two_runs_in_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "2025-01-02_03-04-05")
    made = [make_run_folder(None) for _ in range(3)]
    assert [str(folder) for folder in made] == [
        "runs/2025-01-02_03-04-05",
        "runs/2025-01-02_03-04-05_2",
        "runs/2025-01-02_03-04-05_3",
    ]
    assert all(folder.is_dir() for folder in made)


def test_an_empty_folder_and_one_with_other_files_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert make_run_folder(tmp_path) == tmp_path
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["summary.json", "history.jsonl"])
def test_a_run_that_is_already_there_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError) as caught:
        make_run_folder(tmp_path)
    assert (
        str(caught.value)
        == f"--out {tmp_path}: already contains a run; give another folder, or resume the run with --resume {tmp_path}"
    )
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_folder_that_cannot_be_is_refused_before_anybody_waits(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError) as caught:
        make_run_folder(tmp_path / "file" / below)
    message = str(caught.value)
    assert message.startswith(f"--out {tmp_path / 'file' / below}: cannot write there (")
    assert message.endswith("; give another folder")
    assert "\n" not in message
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_that_must_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)  # root may write anywhere, so file permissions would not be enough
    with pytest.raises(UsageError, match=r"cannot write there \(Permission denied\); give another folder"):
        make_run_folder(tmp_path)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="File name too long"):
        make_run_folder(tmp_path / ("x" * 300))
