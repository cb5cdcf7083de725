"""Files of SPSS, Stata and SAS: codes and not labels, what the files mark as missing, dates, and numbers of four bytes."""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedhealth.common.errors import UsageError
from fedhealth.data.hospital import parse_hospital
from fedhealth.data.readers.read_any import ReadOptions, read_any
from fedhealth.data.schema_file import heart_disease
from tests.support.format_files import to_frame, to_spss, to_stata, to_transport, twenty_patients, written

pyreadstat = pytest.importorskip("pyreadstat", reason="pip install -r requirements-formats.txt")

HEART = heart_disease()
SAS_DATA_SET = (
    "c-rmSze@sP7zgl2GqG$q!NDQus0JYkrRWC)ozMk=PWlHVAzGLQ8aV{j-qiol*4A7^OJg(y4MBS}G*!?Kd+*-Y(kHJ1gNVK#hxeZEJ@0$Rf#ShS"
    "^zQh2Ykof%I6c_$QP)XqJJhEIMu_^!MKStRu&GMLQ~K;&!kmex<0&((JE1RF^JSkgom{($zmJTyl1Aia@#Jtc7L6sNVjLCYSYolbS|tDg00000"
    "0000000000fd9xZK13HivI=)JpFL7}h|Q{~JW&r^YQ96h=a=I;%L^(u*!mHN{HD8gzUPn^9P)@m4gdfE@SnUq)@<MHpCVsd^V_}t1bKe-`aeDY"
    "NlvfjS#CXLkNCsvW3|TW5UX`nci6R?2H5#V>e97|x1^WktAMV?LG`r5YK*8nN}cR}pFgZ6R$+UBGr264vsGHimkMk7Y_U?UP`Q#>ULkv5u(h|?"
    "OwT3FJHhJrvTNK6-+87(YV<gq_kOj2);g{+`1OE4$<^@9*nQZL2e;GmtGz5=k8|fn#y(gojbEzm`7<rwoDI=Rto4kodMN8n(K<GwH??lERgERP"
    "J`$}(eggmi0000008sY|Fc7kU"
)
"""What haven 2.5.1 (R 4.2.2) writes for four invented patients, compressed; Python has no writer of SAS data sets:
d <- data.frame(age=c(63,40,NA,41), sex=c(1,0,1,0), chol=c(233.5,0,200,210), when=as.Date("2020-01-02")+0:3,
txt=c("a","","63 ","n")); d$stamp <- as.POSIXct("2020-01-02 10:30:00", tz="UTC"); d$chol[3] <- tagged_na("A");
d$age[1] <- tagged_na("Z"); write_sas(d, "p.sas7bdat")"""
SAS_99 = bytes([0x42, 0x63, 0, 0, 0, 0, 0, 0])
"""99 as SAS's transport format stores it (IBM's numbers of eight bytes)."""


def cells(content: bytes, name: str) -> list[list[str]]:
    return [row for _, row in read_any(content, Path(name), HEART).patients]


def notes(content: bytes, name: str) -> tuple[str, ...]:
    return read_any(content, Path(name), HEART).notes


def refusal(content: bytes, name: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_hospital(content, Path(name))
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix(f"{name}: ")


def marked(where: str) -> str:
    return f"what the file marks as missing (user-missing) is read as missing (in {where})"


def test_a_sas_data_set_is_read_with_dates_and_special_missing_values() -> None:
    content = zlib.decompress(base64.b85decode(SAS_DATA_SET))
    sheet = read_any(content, Path("p.sas7bdat"), HEART)
    moment = "2020-01-02T10:30:00"
    assert sheet.header == ["age", "sex", "chol", "when", "txt", "stamp"]
    assert sheet.patients == [
        (2, ["", "1", "233.5", "2020-01-02", "a", moment]),
        (3, ["40", "0", "0", "2020-01-03", "", moment]),
        (4, ["", "1", "", "2020-01-04", "63", moment]),
        (5, ["41", "0", "210", "2020-01-05", "n", moment]),
    ]
    assert sheet.notes == (marked("2 cells of age, chol"),)
    with pytest.raises(
        UsageError, match=r"p.sas7bdat: cannot be read as a SAS data set \(.*\); export it again, or as a CSV"
    ):
        read_any(content[:5000], Path("p.sas7bdat"), HEART)


def test_spss_s_user_missing_values_and_ranges_are_missing_and_counted_once_for_all_columns_of_ours() -> None:
    table = {"age": [63.0, 99.0, -1.0], "chol": [200.0, 9999.0, 210.0], "job": ["x", "9", "y"]}
    content = to_spss(table, missing_ranges={"age": [99, {"lo": -9, "hi": -1}], "chol": [9999], "job": ["9"]})
    assert cells(content, "p.sav") == [["63", "200", "x"], ["", "210", "y"]]
    assert notes(content, "p.sav") == (marked("3 cells of age, chol"),)


def test_stata_s_extended_missing_values_are_missing_and_the_text_a_is_not() -> None:
    frame = pd.DataFrame({"age": pd.Series([63.0, "a", 40.0, "z"], dtype=object), "note": ["a", "b", "c", "d"]})
    content = written(pyreadstat.write_dta, frame, missing_user_values={"age": ["a", "z"]})
    assert cells(content, "p.dta") == [["63", "a"], ["", "b"], ["40", "c"], ["", "d"]]
    assert notes(content, "p.dta") == (marked("2 cells of age"),)


def test_special_missing_values_of_the_transport_format_are_missing() -> None:
    content = to_transport({"age": [63.0, 99.0], "sex": [1.0, 0.0]})
    assert cells(content.replace(SAS_99, b"A" + bytes(7)), "p.xpt") == [["63", "1"], ["", "0"]]


@pytest.mark.parametrize("version", [5, 8])
def test_zeros_of_the_transport_format_are_zeros(version: int) -> None:
    content = to_transport({"age": [63.0, 99.0], "oldpeak": [0.0, 99.0]}, version)
    assert cells(content, "p.xpt") == [["63", "0"], ["99", "99"]]
    assert notes(content, "p.xpt") == ()
    smallest = bytes([0x00, 0x10, 0, 0, 0, 0, 0, 0])
    tiny = content[::-1].replace(SAS_99[::-1], smallest[::-1], 1)[::-1]
    assert cells(tiny, "p.xpt") == [["63", "0"], ["99", "0"]]
    assert notes(tiny, "p.xpt") == ("what SAS stores as 5.4e-79 is read as 0 (in 1 cell of oldpeak)",)


def test_several_data_sets_in_a_transport_file_are_one_line() -> None:
    patients, visits = (to_transport({name: [63.0, 40.0, 50.0]}) for name in ("age", "chol"))
    both = patients + visits[visits.index(b"HEADER RECORD*******MEMBER") :]
    assert refusal(both, "p.xpt") == ("holds 2 SAS data sets; write the one with the patients into a file of its own")
    assert refusal(patients[:-20], "p.xpt").startswith("ends within a record of 80 bytes, so it was cut off")
    cport = b"**COMPRESSED** **COMPRESSED** **COMPRESSED**"
    assert refusal(cport, "p.xpt").startswith(
        "is a SAS file of PROC CPORT; write it with PROC COPY and the XPORT engine"
    )


@pytest.mark.parametrize("write", [to_spss, to_stata], ids=["p.sav", "p.dta"])
def test_codes_are_read_by_their_numbers_and_not_by_the_order_of_their_labels(write: Any) -> None:
    """The schema has 0 female, 1 male; as categories, female would come first by alphabet, male by the order of rows."""
    name = "p.sav" if write is to_spss else "p.dta"
    labels = {"sex": {1: "male", 0: "Female"}, "cp": {1: "pain on stairs", 4: "none"}}
    hospital = parse_hospital(write(twenty_patients(), variable_value_labels=labels), Path(name))
    expected = np.array(twenty_patients()["sex"])
    np.testing.assert_array_equal(hospital.patients.features[:, HEART.places["sex"]], expected)


@pytest.mark.parametrize("write", [to_spss, to_stata], ids=["p.sav", "p.dta"])
def test_labels_that_contradict_the_schema_s_codes_are_one_line(write: Any) -> None:
    """R's factors count from 1, so that 1 is "no" or "female"."""
    name = "p.sav" if write is to_spss else "p.dta"
    line = refusal(write(twenty_patients(), variable_value_labels={"sex": {1: "female", 2: "male"}}), name)
    assert line == (
        'sex: the file\'s label of 1 is "female", which is 0 in the schema; state the codes of this column in a mapping '
        "file (--mapping, docs/own-files.md)"
    )


def test_pandas_categories_in_stata_are_counted_from_0_and_refused_where_that_is_another_code() -> None:
    frame = to_frame(twenty_patients())
    frame["sex"] = pd.Categorical(["male", "female"] * 10, categories=["male", "female"])
    stream = io.BytesIO()
    frame.to_stata(stream, write_index=False)
    assert refusal(stream.getvalue(), "p.dta").startswith(
        'sex: the file\'s label of 0 is "male", which is 1 in the schema'
    )


def test_a_number_with_a_label_is_reported_because_it_may_mean_a_missing_value() -> None:
    table = twenty_patients()
    table["age"][0] = 99.0
    content = to_spss(table, variable_value_labels={"age": {99: "not known"}, "chol": {999: "not known"}})
    assert parse_hospital(content, Path("p.sav")).warnings[0] == (
        'age: 99 has the label "not known" in the file and is read as a number (in 1 of 20 rows); if it stands for a '
        "missing value, list it in a mapping file"
    )


@pytest.mark.parametrize("version", [114, 117, 118])
def test_numbers_of_four_bytes_are_as_stata_shows_them(version: int) -> None:
    frame = to_frame({"age": [63.0], "oldpeak": [5.2], "chol": [200.1]}).astype({"oldpeak": np.float32})
    stream = io.BytesIO()
    frame.to_stata(stream, write_index=False, version=version)
    assert cells(stream.getvalue(), "p.dta") == [["63", "5.2", "200.1"]]


def test_text_columns_with_decimal_commas_are_read_as_in_a_csv() -> None:
    content = to_spss({"age": [63.0, 40.0], "oldpeak": ["2,3", "0,5"], "chol": [200.5, None]})
    assert cells(content, "p.sav") == [["63", "2.3", "200.5"], ["40", "0.5", ""]]
    with pytest.raises(UsageError, match=r"p.sav: row 2: oldpeak is 2,3, which has no decimal point; correct it or"):
        read_any(content, Path("p.sav"), HEART, ReadOptions(decimal="point"))
