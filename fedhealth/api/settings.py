"""Settings given from Python: names, types and choices are checked as flags are, before any range is."""

import difflib
import numbers
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fedhealth.common.errors import UsageError


def check_settings(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the types of the dataclass `kind`: whole numbers where one is meant, text as a path, and so on.

    Raises
    ------
    UsageError
        A name is no setting of `kind`, or a value has another type or is none of the choices.
    """
    known, hints = [field.name for field in fields(kind)], get_type_hints(kind)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(f"{name} is no setting; {f'did you mean {near[0]}?' if near else 'see server.py --help'}")
    if given.get("feasibility"):
        raise UsageError("feasibility=True trains no model to return; ask with python server.py --feasibility")
    return {name: _convert(name, value, hints[name]) for name, value in given.items()}


def _convert(name: str, value: Any, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        found, converted = _as_option(value, option)
        if found:
            return converted
    raise UsageError(f"{name} is {value!r}; give {' or '.join(_describe(option) for option in options)}")


def _as_option(value: Any, option: Any) -> tuple[bool, Any]:
    """Whether the value is of this type, and the value in it."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if get_origin(option) is Literal:
        return isinstance(value, str) and value in get_args(option), value
    if get_origin(option) is tuple:
        names = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(n, str) for n in value)
        return names, tuple(value) if names else value
    if option is int:
        return whole, int(value) if whole else value
    if option is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real, float(value) if real else value
    if option is Path:
        return isinstance(value, (str, Path)), Path(value) if isinstance(value, str) else value
    return isinstance(value, option), value


def _describe(option: Any) -> str:
    if get_origin(option) is Literal:
        return f"one of {', '.join(get_args(option))}"
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text", Path: "a path"}
    return words.get(option, "None" if option is type(None) else "a list of names")
