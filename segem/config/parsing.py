"""From raw values to a configuration, or to one line that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, Secret, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from segem.config.source import SECRET
from segem.errors import ConfigError

NAME_RULE = "use letters, digits, '.', '_' and '-', starting with a letter or digit, 100 at most"

_MUST = "must be"
_PLAIN = {
    "tuple_type": "a list",
    "string_type": "text, in quotes where it looks like a number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
}
"""Plain words for types that pydantic names in the terms of Python, by the type of its error."""

C = TypeVar("C", bound=BaseModel)


def parse(kind: type[C], values: dict[str, Any], *, where: object = None, called: Callable[[str], str] = str) -> C:
    """Build a configuration, turning every error of the parser into one typed line.

    Parameters
    ----------
    kind : type
        The configuration to build.
    values : dict
        Raw values.
    where : object, optional
        The file or command the values came from, for the message.
    called : callable
        A key as the user knows it, where that is an option and not a key of a file; nothing where it is neither.

    Raises
    ------
    ConfigError
        When a key is unknown, missing or has a wrong value.

    Examples
    --------
    >>> from segem.config import BaselineConfig
    >>> parse(BaselineConfig, {"sigma_px": 2}).sigma_px
    2.0
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = _first_of(errors)
        key = _key(first)
        means = _description(kind, first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join((_holder(kind, first["loc"]) or kind).model_fields)
            raise ConfigError(f"unknown key {key}", where=where, fix=f"keys there are {known}") from None
        name = called(key)
        if first["type"] == "missing":
            what = f"key {key}" if name == key else name
            given = _given_beside(first, called) if name != key else None
            raise ConfigError(f"{what} is missing", where=where, found=given, fix=f"add {name}{means}") from None
        # A value that may have one of several types is reported once for each of them.
        reasons = dict.fromkeys(_reason(one) for one in errors if f"{_key(one)}.".startswith(f"{key}."))
        reason = " or ".join(reasons).replace(f" or {_MUST} ", " or ")
        if not name:
            # Settings that contradict each other have no single value to show.
            raise ConfigError(reason, where=where, fix="change one of these settings") from None
        value = first.get("input")
        # A long list or mapping, cut short, tells nothing.
        found = repr(value)[:80] if isinstance(value, str) or len(repr(value)) <= 80 else None
        if first["type"] == SECRET or _is_secret(kind, first["loc"]):
            found = None
        raise ConfigError(f"{name}: {reason}", where=where, found=found, fix=f"correct {name}{means}") from None


def _first_of(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the error to tell; where a key is missing, rather an unknown one beside it, which may be meant for it."""
    first = errors[0]
    beside = [one for one in errors if one["type"] == "extra_forbidden" and one["loc"][:-1] == first["loc"][:-1]]
    return beside[0] if beside and first["type"] == "missing" else first


def _given_beside(missing: Mapping[str, Any], called: Callable[[str], str]) -> str | None:
    """Return the options that were given of the group in which one is missing."""
    group = _key(missing).rpartition(".")[0]
    names = [called(f"{group}.{key}" if group else key) for key in missing["input"]]
    return ", ".join(name for name in names if name) or None


def _description(kind: type[BaseModel], place: Sequence[int | str]) -> str:
    """Return the docstring of a setting in brackets; nothing where it is not clear which setting is meant."""
    field = _field(kind, place)
    if field is None or field.description is None:
        return ""
    said = " ".join(field.description.split())
    return f" ({said.replace('`', '').rstrip('.')})"


def _is_secret(kind: type[BaseModel], place: Sequence[int | str]) -> bool:
    """Return whether the value of a setting is kept from logs, by its type."""
    field = _field(kind, place)
    return field is not None and any(_hides(one) for one in _all_in(field.annotation))


def _hides(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, (Secret, SecretStr))


def _all_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _all_in(inner)


def _field(kind: type[BaseModel], place: Sequence[int | str]) -> FieldInfo | None:
    """Return a setting by its place; None where it is not clear which one is meant."""
    names = [part for part in place if isinstance(part, str) and _is_key(part)]
    holder = _holder(kind, names)
    return holder.model_fields.get(names[-1]) if holder is not None and names else None


def _holder(kind: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the configuration that a key belongs to, by its place; None where that is not clear."""
    here = kind
    for part in place[:-1]:
        if not isinstance(part, str):
            continue
        field = here.model_fields.get(part)
        kinds = list(_configs_in(field.annotation)) if field is not None else []
        if len(kinds) != 1:
            return None
        here = kinds[0]
    return here


def _configs_in(annotation: Any) -> Iterator[type[BaseModel]]:
    return (one for one in _all_in(annotation) if isinstance(one, type) and issubclass(one, BaseModel))


def _key(error: Mapping[str, Any]) -> str:
    """Return the key an error is about, without pydantic's own names such as ``literal['zero']``."""
    return ".".join(str(part) for part in error["loc"] if _is_key(part))


def _is_key(part: int | str) -> bool:
    return "[" not in str(part)


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "string_pattern_mismatch":  # names alone have a pattern
        return f"not a name, {NAME_RULE}"
    if error["type"] in _PLAIN:
        return f"{_MUST} {_PLAIN[error['type']]}"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", _MUST, 1)
