"""Settings of a configuration as options of a command: their names, types, defaults and help texts come from there.

A command takes whole configurations, each a parameter such as ``config: Annotated[SegmentConfig, Options(...)]``. Here
such a parameter is replaced by one option for each setting, and what the user gives becomes the configuration again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from segem.config import Config, parse
from segem.errors import ConfigError

Complete = Callable[[typer.Context, str], list[str]]
"""From the other options and the beginning of a value to the values that begin so."""
Values = dict[str, Any]
"""The settings that were given, by their place in the configuration, as a file of them would have it."""


@dataclass(frozen=True)
class Option:
    """A setting whose option is not all said by the configuration.

    Parameters
    ----------
    key : str
        The setting; one of a configuration within has a dot, as ``"crf.w1"``.
    name : str
        The option, where it is not called like the setting.
    default : str
        What happens without the option, where that is not the default of the setting.
    envvar : str
        The variable that gives it too.
    complete : callable, optional
        What a shell proposes for it.
    """

    key: str
    name: str = ""
    default: str = ""
    envvar: str = ""
    complete: Complete | None = None

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return self.name or f"--{self.key.rpartition('.')[2].replace('_', '-')}"

    @property
    def parameter(self) -> str:
        """The option as a parameter of Python."""
        return self.key.replace(".", "__")


@dataclass(frozen=True)
class Options:
    """Which settings of a configuration a command takes.

    Parameters
    ----------
    panels : mapping
        The settings under the titles that ``--help`` shows them by; under an empty one are those without a panel.
    arguments : sequence
        Settings that are given by their place in the line, not by a name.
    settle : callable, optional
        Changes or refuses what was given before it is checked, where options hang together.
    """

    panels: Mapping[str, Sequence[str | Option]]
    arguments: Sequence[str | Option] = ()
    settle: Callable[[Values], None] | None = None

    def __iter__(self) -> Iterator[Option]:
        for setting in (*self.arguments, *(one for panel in self.panels.values() for one in panel)):
            yield _option(setting)

    def named(self, key: str) -> str:
        """Return the option that sets a setting; nothing where there is none."""
        plain = ".".join(part for part in key.split(".") if not part.isdigit())
        return next((one.flag for one in self if one.key == plain), "")


def expanded(function: Callable[..., None], where: str) -> Callable[..., None]:
    """Return the function for typer to call: with options in place of each configuration that it takes.

    Parameters
    ----------
    function : callable
        A command; its configurations are annotated with `Options`.
    where : str
        What to call the command in messages.

    Raises
    ------
    ConfigError
        By the returned function, where a value is wrong.
    """
    taken: dict[str, tuple[Any, Options]] = {}
    parameters = [_parameter("context", typer.Context)]
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, *notes = get_args(hints[parameter.name]) if _is_noted(hints[parameter.name]) else [None]
        options = next((note for note in notes if isinstance(note, Options)), None)
        if options is None:
            parameters.append(_parameter(parameter.name, hints[parameter.name], parameter.default))
        else:
            taken[parameter.name] = kind, options
            parameters += _parameters_of(kind, options)

    def called(context: typer.Context, **given: Any) -> None:
        configs = {}
        for name, (kind, options) in taken.items():
            values: Values = {}
            for option in options:
                value = given.pop(option.parameter)
                # Defaults are left to the configuration, which can then tell what the user has set.
                source = context.get_parameter_source(option.parameter)
                if source is not None and source.name != "DEFAULT":
                    _put(values, option.key, _read(value, _field(kind, option.key).annotation, option.flag))
            configs[name] = _made(kind, values, options, where)
        function(**given, **configs)

    called.__name__, called.__doc__ = function.__name__, function.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {}
    return called


def _made(kind: Any, values: Values, options: Options, where: str) -> Config | None:
    """Return the configuration of what was given; None where nothing was and it may be absent."""
    if not values and _is_optional(kind):
        return None
    if options.settle is not None:
        options.settle(values)
    config: type[Config] = _kinds(kind)[0]
    return parse(config, values, where=where, called=options.named)


def _parameters_of(kind: Any, options: Options) -> Iterator[inspect.Parameter]:
    for setting in options.arguments:
        option, field = _option(setting), _field(kind, _option(setting).key)
        note = typer.Argument(metavar=option.parameter.upper(), help=_help(field))
        yield _parameter(option.parameter, Annotated[_typer_type(field.annotation), note])
    for title, settings in options.panels.items():
        for option in map(_option, settings):
            field = _field(kind, option.key)
            note = typer.Option(
                option.flag,
                help=_help(field),
                rich_help_panel=title or None,
                metavar=_metavar(field.annotation),
                envvar=option.envvar or None,
                autocompletion=option.complete,
                show_default=option.default or True,
            )
            required = field.is_required() and "." not in option.key and not _is_optional(kind)
            default = inspect.Parameter.empty if required else _shown(None if option.default else field.default)
            yield _parameter(option.parameter, Annotated[_typer_type(field.annotation), note], default)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _option(setting: str | Option) -> Option:
    return setting if isinstance(setting, Option) else Option(setting)


def _field(kind: Any, key: str) -> FieldInfo:
    """Return a setting, also one of a nested configuration."""
    first, _, rest = key.partition(".")
    (config,) = _kinds(kind)
    field: FieldInfo = config.model_fields[first]
    return _field(field.annotation, rest) if rest else field


def _help(field: FieldInfo) -> str:
    """Return the docstring of a setting as Markdown."""
    return " ".join((field.description or "").split()).replace("``", "`")


def _kinds(annotation: Any) -> list[Any]:
    """Return what a value may be other than absent.

    Examples
    --------
    >>> _kinds(int | None), _kinds(str)
    ([<class 'int'>], [<class 'str'>])
    """
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [each for each in get_args(annotation) if each is not type(None)]


def _is_optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _is_noted(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated


def _typer_type(annotation: Any) -> Any:
    """Return what typer makes of an option; what it cannot read, or the configuration reads better, stays text.

    Examples
    --------
    >>> _typer_type(float | None), _typer_type(tuple[int, int, int]), _typer_type(Literal["zero"] | int)
    (float | None, str | None, str | None)
    """
    kinds = _kinds(annotation)
    if len(kinds) > 1:
        return str | None
    kind = kinds[0]
    if _is_noted(kind):
        kind, *notes = get_args(kind)
        if any(isinstance(note, BeforeValidator) for note in notes):
            return str | None
    if get_origin(kind) is dict:
        return list[str] | None
    if kind is bool:
        return bool
    if kind in (int, float, Path):
        return kind | None
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices and all(isinstance(choice, str) for choice in choices):
        return kind | None
    return int | None if choices else str | None


def _metavar(annotation: Any) -> str | None:
    (kind, *more) = _kinds(annotation)
    if get_origin(kind) is tuple:
        return "Z,Y,X" if len(get_args(kind)) == 3 else "LOW,HIGH"
    if kind is Path and more:
        return "PATH|URL"
    if get_origin(kind) is dict:
        return "NAME=VALUE"
    if get_origin(kind) is Literal and not more and not isinstance(get_args(kind)[0], str):
        return f"<{'|'.join(map(str, get_args(kind)))}>"
    return "BYTES" if _is_noted(kind) and kind.__origin__ is int else None


def _shown(default: Any) -> Any:
    """Return a default as it would be typed; None where there is nothing to show."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return default if default not in (PydanticUndefined, "", {}) else None


def _read(value: Any, annotation: Any, flag: str) -> Any:
    kind = get_origin(_kinds(annotation)[0])
    if kind is tuple:
        return triple(value, flag) if len(get_args(_kinds(annotation)[0])) == 3 else pair(value, flag)
    return dict(assignment(text, flag) for text in value) if kind is dict else value


def _put(values: Values, key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[last] = value


def assignment(text: str, option: str) -> tuple[str, str]:
    """Return name and value of an option such as ``--option depth=3``.

    Raises
    ------
    ConfigError
        When there is no name, or no sign between it and the value.

    Examples
    --------
    >>> assignment("upsampling=bilinear", "--option")
    ('upsampling', 'bilinear')
    """
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ConfigError(
            f"{option} needs a name and a value",
            expected="NAME=VALUE",
            found=repr(text),
            fix=f"for example {option} depth=3",
        )
    return name.strip(), value.strip()


def pair(text: str, option: str) -> tuple[str, str]:
    """Return the two numbers of an option such as ``--window 0,4095``, as they were typed.

    Raises
    ------
    ConfigError
        When there are not two of them.

    Examples
    --------
    >>> pair("0,4095", "--window")
    ('0', '4095')
    """
    low, comma, high = text.partition(",")
    if not comma or "," in high:
        raise ConfigError(
            f"{option} needs two numbers", expected="LOW,HIGH", found=repr(text), fix=f"for example {option} 0,4095"
        )
    return low, high


def triple(text: str, option: str) -> tuple[str, str, str]:
    """Return the three numbers of an option such as ``--voxel-nm 50,4,4``, as they were typed.

    Raises
    ------
    ConfigError
        When there are not three of them.

    Examples
    --------
    >>> triple("8,512,512", "--shape")
    ('8', '512', '512')
    """
    parts = text.split(",")
    if len(parts) != 3:
        example = "8,512,512" if option == "--shape" else "50,4,4"
        raise ConfigError(
            f"{option} needs three numbers", expected="Z,Y,X", found=repr(text), fix=f"for example {option} {example}"
        )
    return parts[0], parts[1], parts[2]
