"""Risks of new patients with their notes, and what is refused (test_export.py compares them with those of Keras)."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.__main__ import main
from fedhealth.cli import patient_flags
from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.new_patients import read_new_patient, read_new_patients
from fedhealth.data.preprocessing import Standardisation, encoded_names
from fedhealth.data.schema import Schema
from fedhealth.data.sources.heart import FEATURE_NAMES, FEATURES, HEART
from fedhealth.models.predict import find_notes, find_prevalence, find_unusual, predict
from fedhealth.models.saved_model import CHUNK, SavedModel, predict_risks, read_model
from tests.support.examples import examples
from tests.support.run_folders import make_features, write_run

NUM_NUMBERS = len(HEART.numbers)

HEADER = ",".join(FEATURE_NAMES)
FULL = "63,1,4,145,233,1,2,150,0,2.3,3,0,6"
GAPS = "63,1,4,,,,,,,,,,"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "first")


def write_csv(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def tiny_model(kernel: np.ndarray, bias: float) -> SavedModel:
    """Logistic regression on inputs that are standardised with mean 0 and deviation 1."""
    about = {"settings": {"scaling": "federated", "model": "logistic"}, "dataset": "uci", "version": "1"}
    standardisation = Standardisation((0.0,) * NUM_NUMBERS, (1.0,) * NUM_NUMBERS)
    return SavedModel(HEART, ((kernel.astype(np.float32), np.float32([bias])),), standardisation, False, about)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_logistic_model_checked_by_hand() -> None:
    kernel = np.zeros((len(encoded_names(HEART, False)), 1))
    kernel[encoded_names(HEART, False).index("age")] = 0.1
    kernel[encoded_names(HEART, False).index("sex=1")] = -1.0
    # Codes go in as -1 and +1: 0.1 * 10 + 1 and 0.1 * 10 - 1 beside no bias.
    risks = predict_risks(tiny_model(kernel, 0.0), np.array([[10.0, 0] + [1.0] * 11, [10.0, 1] + [1.0] * 11]))
    np.testing.assert_allclose(risks, [1 / (1 + np.exp(-2.0)), 0.5], rtol=1e-6)


def test_no_log_odds_overflow() -> None:
    kernel = np.zeros((len(encoded_names(HEART, False)), 1))
    with np.errstate(over="raise", invalid="raise"):
        for bias, risk in ((5000.0, 1.0), (-5000.0, 0.0)):
            assert predict_risks(tiny_model(kernel, bias), make_features(3)).tolist() == [risk] * 3


def test_many_patients_are_predicted_in_pieces_with_the_same_risks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = read_model(run), make_features(100)
    whole = predict_risks(model, features)
    monkeypatch.setattr("fedhealth.models.saved_model.CHUNK", 7)
    np.testing.assert_allclose(predict_risks(model, features), whole, rtol=0, atol=1e-6)
    assert CHUNK > 100
    assert predict_risks(model, features[:0]).shape == (0,)


def test_a_number_is_unusual_beyond_four_deviations_and_a_missing_one_never() -> None:
    training = Standardisation((50.0,) * NUM_NUMBERS, (10.0,) * NUM_NUMBERS)
    features = np.full((1, 13), 50.0)
    features[0, FEATURE_NAMES.index("age")] = 90.0
    features[0, FEATURE_NAMES.index("chol")] = 90.1
    features[0, FEATURE_NAMES.index("thalach")] = 9.0
    features[0, FEATURE_NAMES.index("ca")] = np.nan
    assert find_unusual(HEART, features, training).tolist() == [[False, False, True, True, False, False]]


def test_what_is_missing_and_unusual_is_named_per_patient(run: Path) -> None:
    line = FULL.replace("145", "290")
    patients = read_new_patients(f"{HEADER}\n{GAPS}\n\n{line}\n".encode(), Path("p.csv"), HEART)
    first, second = predict(read_model(run), patients)
    assert (first.row, second.row) == (2, 4)
    assert first.missing == FEATURE_NAMES[3:]
    assert first.unusual == second.missing == ()
    assert second.unusual == ("trestbps",)


# --- patients ---------------------------------------------------------------------------------------------------------


def test_one_patient_without_a_diagnosis_can_be_predicted() -> None:
    patients = read_new_patients(f"{HEADER}\n{FULL}\n".encode(), Path("p.csv"), HEART)
    assert patients.features.shape == (1, 13)
    assert patients.features[0, 0] == 63


def test_a_diagnosis_in_the_file_is_not_read_not_even_a_wrong_one() -> None:
    with_label = read_new_patients(f"{HEADER},target,num\n{FULL},7,x\n".encode(), Path("p.csv"), HEART)
    without = read_new_patients(f"{HEADER}\n{FULL}\n".encode(), Path("p.csv"), HEART)
    np.testing.assert_array_equal(with_label.features, without.features)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{HEADER}\n", "p.csv: has a header and no patients; give at least 1 row"),
        (f"{FULL}\n", "p.csv: has no header line; add a first line with the names of its 13 columns"),
        ("age,sex\n63,1\n", "p.csv: of our 13 measurements it has only age, sex: another data set"),
        (f"{HEADER.replace('cp,', '')}\n63,1\n", "p.csv: missing columns: cp; add each with its values"),
        (
            HEADER + "\n63,1,0,145,233,1,2,150,0,2.3,0,0,2" * 10,
            "p.csv: cp, slope, thal: not the schema's codes but those of another layout, counted from 0; convert the file",
        ),
        (
            f"{HEADER}\n{FULL.replace('233', '5.2')}\n",
            "p.csv: row 2: chol is 5.2 mg/dl, outside 50..700; is it in mmol/l (then",
        ),
    ],
)
def test_a_faulty_file_gives_the_usual_error_lines(text: str, complaint: str) -> None:
    with pytest.raises(DataError) as caught:
        read_new_patients(text.encode(), Path("p.csv"), HEART)
    assert str(caught.value).startswith(complaint)


def test_words_and_codes_are_the_same_patient() -> None:
    words = read_new_patient(
        {"age": "63", "sex": "Male", "cp": "asymptomatic", "thal": "reversible-defect", "exang": "yes"}, HEART
    )
    codes = read_new_patient({"age": "63", "sex": "1", "cp": "4", "thal": "7", "exang": "1"}, HEART)
    np.testing.assert_array_equal(words.features, codes.features)
    assert np.isnan(words.features).sum() == 8


def test_a_wrong_flag_is_named_as_a_flag_with_what_it_may_be() -> None:
    with pytest.raises(DataError) as caught:
        read_new_patient({"age": "630", "sex": "mail", "cp": "4", "thalach": "fast"}, HEART)
    age, sex, thalach = caught.value.faults
    assert age == "--age is 630 years, outside 18..120; correct the value"
    assert sex == '--sex is "mail", not one of 0 (female), 1 (male); correct the value'
    assert thalach.startswith('--thalach is "fast", not a number of beats/min')
    assert thalach.endswith("correct the value or leave the flag out")


@settings(max_examples=examples(30), deadline=None)
@given(st.dictionaries(st.sampled_from(FEATURE_NAMES), st.text(max_size=12)))
def test_any_words_give_a_patient_or_lines_that_name_flags(given_words: dict[str, str]) -> None:
    try:
        patients = read_new_patient(given_words, HEART)
    except DataError as error:
        assert all(fault.startswith(tuple(f"--{column.name} is " for column in FEATURES)) for fault in error.faults)
    else:
        assert patients.features.shape == (1, 13)


# --- the model file ---------------------------------------------------------------------------------------------------


def test_local_scaling_is_refused_with_the_reason_and_the_way_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, standardisation=None, scaling="local")
    with pytest.raises(UsageError, match=r"own means \(--scaling local\).*client.py --save-model"):
        read_model(folder)


def test_reference_scaling_works_and_says_that_its_ranges_are_not_the_federations(tmp_path: Path) -> None:
    model = read_model(write_run(tmp_path, scaling="reference", dataset="uci"))
    predictions = predict(model, read_new_patient({"age": "63", "sex": "1", "cp": "4", "chol": "690"}, HEART))
    missing, unusual = find_notes(model, predictions)
    assert missing.startswith("values are missing: trestbps, fbs")
    assert "fixed clinical constants (--scaling reference), not this federation's patients: chol" in unusual


def test_a_model_of_synthetic_patients_says_so(run: Path) -> None:
    model = read_model(run)
    assert "SYNTHETIC" in find_notes(model, [])[0]


def damage(folder: Path, **changes: object) -> Path:
    with np.load(folder / "model.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    np.savez(folder / "model.npz", **arrays)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"about": np.asarray("{")}, "is not a run's model"),
        (
            {"about": np.asarray('{"version": "9.9"}'), "schema": None},
            "does not contain its schema; use version 9.9",
        ),
        ({"inputs": np.asarray(["age"])}, "its inputs are not the encoded columns"),
        ({"stds": np.zeros(NUM_NUMBERS)}, "means or deviations are invalid"),
        ({"means": np.zeros(3)}, "means or deviations are invalid"),
        ({"weights/mlp/hidden/bias": np.float32([1])}, r"layer 1 is \(32, 16\), not \(32, 1\)"),
        ({"weights/mlp/hidden/bias": np.full(16, np.nan, np.float32)}, "not finite"),
        ({"weights/mlp/hidden/bias": None}, "layers that are not dense"),
        ({"inputs": np.asarray([object()])}, "is not a run's model"),
    ],
)
def test_a_damaged_model_is_one_line(changes: dict[str, object], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        read_model(damage(write_run(tmp_path), **changes))
    assert "\n" not in str(caught.value)


def with_threshold(folder: Path, threshold: object) -> Path:
    """The run folder as `server.py --threshold youden` writes it."""
    with np.load(folder / "model.npz") as file:
        about = json.loads(str(file["about"]))
    return damage(folder, about=np.asarray(json.dumps({**about, "threshold": threshold})))


@pytest.mark.parametrize("threshold", [1.5, "high", [0.5]])
def test_an_impossible_threshold_is_one_line(threshold: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run's model") as caught:
        read_model(with_threshold(write_run(tmp_path), threshold))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_archive_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(UsageError, match="is not a run's model"):
        read_model(tmp_path)


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_csv_gives_a_line_per_patient(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), str(write_csv(tmp_path / "p.csv", FULL, GAPS))]) == 0
    out, err = capsys.readouterr()
    heading, first, second = out.splitlines()
    assert heading == "row,risk,predicted_positive,missing,unusual"
    assert (first[:4], first[-2:]) == ("2,0.", ",,")
    assert second.endswith(",trestbps;chol;fbs;restecg;thalach;exang;oldpeak;slope;ca;thal,")
    assert "values are missing in 1 of 2 patients (column missing)" in err


def test_risks_from_the_threshold_up_are_predicted_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    features = make_features(40)
    cells = [["" if np.isnan(value) else f"{value:g}" for value in row] for row in features]
    file = str(write_csv(tmp_path / "p.csv", *map(",".join, cells)))
    risks = predict_risks(read_model(folder), features)
    chosen = float(np.sort(risks)[30])  # one patient's own risk, who is predicted positive
    for threshold, source in ((0.5, "the run has chosen no other"), (chosen, "chosen on validation patients")):
        model = folder if threshold == 0.5 else with_threshold(folder, threshold)
        assert main(["predict", str(model), file]) == 0
        out, err = capsys.readouterr()
        assert [line.split(",")[2] == "1" for line in out.splitlines()[1:]] == (risks >= threshold).tolist()
        note = err.splitlines()[-1]
        assert note.startswith(f"read the columns {HEADER.replace(',', ', ')}; predicted positive from a risk of")
        assert f" {threshold:g} on ({source}" in note
    assert 0 < (risks >= chosen).sum() == 10


@pytest.mark.parametrize("name", ["patient number", "", "hospital"])
def test_an_id_column_is_the_first_column_and_no_unknown_one(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_csv(tmp_path / "p.csv", f' 007,{FULL},"B, 2"', f"=1+1,{GAPS},C", header=f"{name},{HEADER},ward")
    assert main(["predict", str(run), str(file), "--id-column", name]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{name},row,risk,predicted_positive,missing,unusual"
    assert [line[:5] for line in out.splitlines()[1:]] == ["007,2", "=1+1,"]
    assert "unknown columns are ignored: ward\n" in err
    assert main(["predict", str(run), str(file), "--id-column", name, "--format", "json"]) == 0
    patients = json.loads(capsys.readouterr().out)["patients"]
    assert [patient[name] for patient in patients] == ["007", "=1+1"]
    assert next(iter(patients[0])) == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Ward", '--id-column "Ward" is no column of p.csv; give the name of one column, as in the header'),
        ("bed", '--id-column "bed" stands 2 times in the header of p.csv; give the name of one column'),
        ("row", "--id-column is row; give a column with another name than the output's (row, risk, predicted_positive"),
    ],
)
def test_an_id_column_that_cannot_be_used_is_one_line(
    name: str, complaint: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_csv(tmp_path / "p.csv", f"1,2,3,4,{FULL}", header=f"ward,row,bed,bed,{HEADER}")
    assert main(["predict", str(run), str(file), "--id-column", name]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.replace(str(file), "p.csv").startswith(f"error: {complaint}")


def test_the_flags_are_those_of_the_run_whatever_other_file_is_named_before_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_run() -> Schema:
        raise AssertionError("the run was not found")

    monkeypatch.setattr(patient_flags, "heart_disease", no_run)
    (tmp_path / "risks.csv").write_text("old", encoding="utf-8")
    assert patient_flags.find_schema(["--out", str(tmp_path / "risks.csv"), str(run)]) == HEART


def test_standard_input_and_flags_give_the_risk_of_the_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["predict", str(run), str(write_csv(tmp_path / "p.csv", GAPS))])
    from_file = capsys.readouterr().out.splitlines()[1].split(",")[1]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{HEADER}\n{GAPS}\n".encode())))
    main(["predict", str(run), "-"])
    from_input = capsys.readouterr().out.splitlines()[1].split(",")[1]
    main(["predict", str(run), "--age", "63", "--sex", "male", "--cp", "asymptomatic"])
    from_flags = capsys.readouterr().out.splitlines()[1].split(",")[1]
    assert from_file == from_input == from_flags


def test_risks_are_adapted_to_the_prevalence_of_a_new_hospital_with_a_note(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write_csv(tmp_path / "p.csv", *[FULL] * 60))
    main(["predict", str(run), file])
    before = float(capsys.readouterr().out.splitlines()[1].split(",")[1])
    assert main(["predict", str(run), file, "--adapt-prevalence"]) == 0
    out, err = capsys.readouterr()
    after = {float(line.split(",")[1]) for line in out.splitlines()[1:]}
    assert len(after) == 1
    note = re.search(r"a prevalence of (\d+)%, .* these 60 patients \(training prevalence (\d+)%\)", err)
    assert note is not None
    here, trained = int(note[1]), int(note[2])
    # Sixty equal patients: their prevalence, and so each one's risk, moves towards the class that the model predicts.
    assert (here > trained) == (before > trained / 100)
    assert (min(after) > before) == (here > trained)


def test_a_model_without_a_training_prevalence_cannot_be_adapted(run: Path, tmp_path: Path) -> None:
    model = read_model(run)
    old = SavedModel(
        HEART, model.layers, model.standardisation, model.missing_indicators, {**model.about, "prevalence": None}
    )
    with pytest.raises(UsageError, match="has no training prevalence"):
        find_prevalence(old, read_new_patient({"age": "63", "sex": "male", "cp": "asymptomatic"}, HEART))


def test_json_describes_the_model(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "risks.json"
    assert (
        main(["predict", str(run), str(write_csv(tmp_path / "p.csv", GAPS)), "--format", "json", "--out", str(out)])
        == 0
    )
    content = json.loads(out.read_text())
    assert content["model"]["dataset"] == "synthetic"
    assert content["model"]["columns"] == list(FEATURE_NAMES)
    assert (content["model"]["threshold"], content["model"]["threshold_source"]) == (0.5, "the run has chosen no other")
    (patient,) = content["patients"]
    assert patient["predicted_positive"] == (patient["risk"] >= 0.5)
    assert (patient["row"], patient["missing"][0], patient["unusual"]) == (2, "trestbps", [])
    assert 0 < patient["risk"] < 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no patients are given; give a file after the run, - for standard input, or one patient by flags"),
        (["a.csv", "b.csv"], "2 files are given (a.csv, b.csv); give one file, or - for standard input"),
        (
            ["a.csv", "--age", "63"],
            "a.csv is given beside the flags of one patient; give a file, or one patient by flags",
        ),
        (
            ["--age", "63", "--id-column", "number"],
            "--id-column is number beside one patient by flags; give a file that has this column",
        ),
        (["a.csv"], "a.csv: no such file; give the hospital's CSV, or make one with create_dataset.py"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {complaint}\n"


def test_a_path_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "nowhere"), "--age", "63"]) == 2
    assert main(["predict", str(tmp_path), "--age", "63"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("nowhere: no such run folder; give one of runs/")
    assert second.endswith("model.npz: no such file; the run has not finished, or this is no run folder")


def test_a_prediction_needs_no_tensorflow_and_no_flower(run: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom fedhealth.__main__ import main\n"
        f"code = main(['predict', {str(run)!r}, '--age', '63', '--sex', '1', '--cp', '4', '--out', 'risk.csv'])\n"
        "print(code, *sorted({'tensorflow', 'keras', 'flwr', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{program}"],
                          cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr
