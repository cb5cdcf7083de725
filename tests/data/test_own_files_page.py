"""docs/own-files.md has the codes, numbers and flags of the code."""

import re
from pathlib import Path

from fedhealth.data.patients import ENOUGH_PATIENTS, MINIMUM_PATIENTS
from fedhealth.data.sources.code_schemes import KAGGLE_303, SCHEMES, UCI
from fedhealth.data.sources.heart import FEATURES, FEWEST_KNOWN

PAGE = (Path(__file__).parents[2] / "docs" / "own-files.md").read_text(encoding="utf-8")


def test_the_page_of_layouts_has_the_codes_of_every_scheme() -> None:
    """Each code stands before the beginning of a word of its meaning."""
    codes_of = {column.name: column.codes for column in FEATURES}
    for scheme in (UCI, KAGGLE_303):
        (line,) = re.findall(rf"^\| `{scheme.flag}` \|(.*)\|$", PAGE, re.MULTILINE)
        cells = dict(zip(("cp", "restecg", "slope", "thal"), line.split("|"), strict=True))
        for name, cell in cells.items():
            shown = {int(code): word for code, word in re.findall(r"(\d) ([\w-]+)", cell)}
            meanings = {
                code: codes_of[name][int(text)] if text else "missing" for code, text in scheme.codes[name].items()
            }
            assert shown.keys() == meanings.keys()
            assert all(any(part.startswith(word) for part in meanings[code].split()) for code, word in shown.items()), (
                name
            )


def test_the_page_of_layouts_has_the_numbers_of_the_code_and_every_flag() -> None:
    assert f"fewer than {MINIMUM_PATIENTS} patients" in PAGE
    assert f"always from {ENOUGH_PATIENTS} on" in PAGE
    assert f"fewer than {FEWEST_KNOWN} of {len(FEATURES)})" in PAGE
    assert all(f"`{scheme.flag}`" in PAGE for scheme in SCHEMES)
