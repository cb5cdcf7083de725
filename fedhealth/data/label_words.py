"""The labels that an SPSS or Stata file has for codes -> words of a schema's codes.

Labels are part of the file's description, and no patient's: they disclose nothing, also those of codes that nobody has.
"""

from collections.abc import Mapping

from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER, is_missing
from fedhealth.data.schema import USUAL_WORDS, YES_NO, Kind, plain_words

Labels = Mapping[float, str]
"""Code -> its label."""
LONGEST_WORD = 40
"""Characters of a word."""
SHOWN_LABELS = 10
"""Most labels that a note lists."""
LARGEST_CODE = 1e15


def label_words(labels: Labels) -> dict[int, str]:
    """Code -> its label, as a word that a schema may have; "NA" and the like stand for a missing value and are left out."""
    words: dict[int, str] = {}
    for code, label in sorted(labels.items()):
        word = printable(" ".join(label.split()), LONGEST_WORD)
        if not code.is_integer() or abs(code) >= LARGEST_CODE or is_missing(plain_words(word)):
            continue
        if not is_word(plain_words(word)):
            word = f"code {code:g}"
        taken = plain_words(word) in map(plain_words, words.values())
        words[int(code)] = f"{word} ({code:g})" if taken else word
    return words


def is_word(word: str) -> bool:
    """Whether a schema may have this plain text as a word."""
    return word.isprintable() and not NUMBER.fullmatch(word) and not is_missing(word) and bool(word)


def name_codes(words: Mapping[int, str]) -> tuple[Kind, Mapping[int, str]]:
    """The kind of a column with these words, and its codes, which are empty for the usual ones of yes/no."""
    meant = {code: USUAL_WORDS[0].get(plain_words(word)) for code, word in words.items()}
    if meant == YES_NO:
        return "yes/no", {}
    return ("yes/no" if sorted(map(str, meant.values())) == ["no", "yes"] else "category"), words


def describe_labels(labels: Labels) -> str:
    """The note about a column with labels."""
    shown = [f'{code:g} = "{printable(label, LONGEST_WORD)}"' for code, label in sorted(labels.items())]
    more = ["..."] if len(shown) > SHOWN_LABELS else []
    listed = ", ".join(shown[:SHOWN_LABELS] + more)
    remedy = "If one means that the value is not known, it is no code: missing-marks = [its code]"
    return f"The file has the labels {listed}. {remedy}"
