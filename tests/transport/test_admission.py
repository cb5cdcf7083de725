"""Names that differ only in case: most likely one hospital, unless certificates say that they are two."""

import pytest

from fedhealth.data.sources.heart import HEART
from fedhealth.transport.grpc.admission import Admission, Caller, Names, RefusedError
from fedhealth.transport.messages import agreement


def caller(name: str, certified: str | None = None) -> Caller:
    return Caller("127.0.0.1:9", name, certified, agreement(HEART))


@pytest.mark.parametrize(("first", "second"), [("VA", "va"), ("Zürich", "ZÜRICH"), ("Straße", "STRASSE")])
def test_without_certificates_a_name_that_differs_only_in_case_is_refused(first: str, second: str) -> None:
    expected = f"named {first} is already connected, and {second} differs from it only in case"
    with pytest.raises(RefusedError, match=expected):
        Admission(4, HEART).check(caller(second), Names({"hungary", first}))


def test_with_certificates_both_names_are_admitted() -> None:
    Admission(4, HEART).check(caller("va", certified="va"), Names({"VA"}))


def test_a_hospital_that_left_may_join_again_in_another_case_before_the_rounds() -> None:
    admission = Admission(4, HEART)
    admission.check(caller("va"), Names({"hungary"}))
    admission.admit_only(frozenset({"VA", "hungary"}))
    with pytest.raises(RefusedError, match="the run has started without va"):
        admission.check(caller("va"), Names({"hungary"}))


def test_a_name_that_was_removed_is_no_twin() -> None:
    here = Names(["VA", "va", "hungary"])
    assert here.find_twin("Va") == "VA"
    here.remove("VA")
    assert (here.find_twin("Va"), here.find_twin("va"), len(here)) == ("va", None, 2)
    here.remove("va")
    here.remove("va")
    assert "va" not in here
    assert here.find_twin("Va") is None
