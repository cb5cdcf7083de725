"""Whatever is wrong with a file, no message shows a patient's values (but for the one cell that a message names)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.data.hospital import load_hospital
from fedhealth.data.new_patients import read_new_patients
from fedhealth.data.sources.heart import HEART
from fedhealth.data.sources.load import load_path
from tests.support.layout_files import (
    RENAMED,
    WORDS,
    Row,
    invent_patients,
    kaggle_303,
    label,
    recode,
    rename,
    to_bytes,
    zero_based,
)
from tests.support.sources_fixtures import make_zip

MARKERS = ("61.37", "231.73", "Muller")
PATIENTS: list[Row] = [{**row, "age": "61.37", "chol": "231.73", "note": "Muller"} for row in invent_patients()]
CSV = to_bytes(PATIENTS)
ROWS = CSV.split(b"\n", 1)[1]


def quote_lines(content: bytes) -> bytes:
    return b"\n".join(b'"' + line + b'"' for line in content.splitlines())


FILES: dict[str, bytes] = {
    "no header": ROWS,
    "no header, semicolons": ROWS.replace(b",", b";"),
    "no header, semicolons and decimal commas": ROWS.replace(b",", b";").replace(b".", b","),
    "no header, tabs": ROWS.replace(b",", b"\t"),
    "no header, blanks": ROWS.replace(b",", b" "),
    "no header, words": to_bytes(recode(PATIENTS, WORDS)).split(b"\n", 1)[1],
    "no header, one column": b"61.37\n231.73\nMuller\n",
    "only names of people": b"Muller,Muller\n61.37,231.73\n",
    "every line in quotes": quote_lines(CSV),
    "every line in quotes, no header": quote_lines(ROWS),
    "header in quotes": quote_lines(CSV.split(b"\n", 1)[0]) + b"\n" + ROWS,
    "rows with another separator": CSV.split(b"\n", 1)[0] + b"\n" + ROWS.replace(b",", b";"),
    "some rows with another separator": CSV + ROWS.replace(b",", b";"),
    "some rows separated by blanks": CSV + ROWS.replace(b",", b" "),
    "two separators in the header": CSV.replace(b"age,sex,cp,", b"age;sex,cp;x,"),
    "rows that are too wide": CSV.split(b"\n", 1)[0] + b"\n" + ROWS.replace(b"\n", b",1,2\n"),
    "a row that begins in the middle": CSV.replace(b"\n61.37,", b"\n,,,61.37,"),
    "another data set": to_bytes([{"age": row["age"], "totChol": row["chol"], "who": "Muller"} for row in PATIENTS]),
    "two columns are missing": to_bytes([{k: v for k, v in row.items() if k not in ("sex", "ca")} for row in PATIENTS]),
    "no diagnosis": to_bytes([{k: v for k, v in row.items() if k != "num"} for row in PATIENTS]),
    "a doubled column": CSV.replace(b"thal,", b"chol,", 1),
    "another layout's names": to_bytes(rename(PATIENTS, RENAMED)),
    "another layout's names, no diagnosis": to_bytes(
        [{k: v for k, v in row.items() if k != "num"} for row in rename(PATIENTS, RENAMED)]
    ),
    "codes from 0": to_bytes(label(zero_based(PATIENTS), "target")),
    "the 303 copy's codes": to_bytes(kaggle_303(PATIENTS)),
    "Statlog's labels": to_bytes(label(PATIENTS, "num", "1", "2")),
    "no healthy patient": to_bytes(label(PATIENTS, "target", "1", "1")),
    "labels without meaning": to_bytes(label(PATIENTS, "target", "0", "9")),
    "grades under target": to_bytes(rename(PATIENTS, {**{k: k for k in PATIENTS[0]}, "num": "target"})),
    "a wrong cell": CSV.replace(b",110,", b",11,", 1),
    "too few patients": b"\n".join(CSV.splitlines()[:8]),
    "broken quotes": CSV.replace(b"Muller", b'"Muller', 1),
    "not UTF-8": CSV.replace(b"Muller", "Müller".encode("latin-1")),
    "UTF-16": CSV.decode().encode("utf-16"),
    "an ARFF file": b"@relation heart\n@data\n" + ROWS,
    "an Excel workbook": make_zip({"xl/workbook.xml": b"<workbook/>", "xl/sheet1.xml": CSV}),
    "read with warnings": to_bytes([{**row, "thal": "NULL", "oldpeak": "9"} for row in PATIENTS]),
}


def read_by_client(path: Path) -> None:
    load_hospital(path)


def read_by_create(path: Path) -> None:
    load_path(path)


def read_by_predict(path: Path) -> None:
    read_new_patients(path.read_bytes(), path, HEART)


@pytest.mark.parametrize("read", [read_by_client, read_by_create, read_by_predict])
@pytest.mark.parametrize("name", FILES)
def test_a_refusal_shows_no_value_of_a_patient(read: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    path = tmp_path / "heart.csv"
    path.write_bytes(FILES[name])
    try:
        read(path)
    except UsageError as error:
        assert not [marker for marker in MARKERS if marker in str(error)], str(error)


@pytest.mark.parametrize("name", FILES)
def test_every_file_but_the_last_is_refused_by_the_client_in_lines_that_fit_a_screen(name: str, tmp_path: Path) -> None:
    path = tmp_path / "heart.csv"
    path.write_bytes(FILES[name])
    if name == "read with warnings":
        assert not [marker for marker in MARKERS for line in load_hospital(path).warnings if marker in line]
        return
    with pytest.raises(UsageError) as caught:
        load_hospital(path)
    assert len(str(caught.value).splitlines()) <= 21
    assert all(len(line.removeprefix(str(path))) < 300 for line in str(caught.value).splitlines())
