"""YAML read as it is written: what only looks like a number, a date or a truth value stays text."""

from __future__ import annotations

import re
from typing import Any

import yaml

_BOX = 'a box needs quotes, since : and , mean something to YAML, as in box: "0:10,:,:"'
_UNQUOTED_BOX = re.compile(r"\bbox:\s*[0-9:]")
_SIDE_OF_BOX = re.compile(r"[0-9]*:[0-9]*")


class _Loader(yaml.SafeLoader):
    """Knows the values of YAML 1.2 (yaml.org/spec/1.2.2, core schema), and refuses a key that is given twice.

    By YAML 1.1, PyYAML's own, ``no`` is false, ``010`` is 8, ``50:4:4`` is 180244 and ``2026-11-28`` is a date.
    """

    # Not those of the base class, which knows YAML 1.1.
    yaml_implicit_resolvers = {}

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            # What comes of {box: 0:10,0:512,:}.
            if node.flow_style and _SIDE_OF_BOX.fullmatch(key.value):
                raise yaml.MarkedYAMLError(problem=_BOX, problem_mark=key.start_mark)
            if key.value in lines:
                before = f"in line {lines[key.value]}" if lines[key.value] != line else "in the same line"
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} is given twice, before {before}", problem_mark=key.start_mark
                )
            lines[key.value] = line
        return node


# A number with a leading zero is none here: as a name it keeps its zeros, and where a number is needed it is decimal.
_PLAIN = {
    "null": ("", "~", "null", "Null", "NULL"),
    "bool": ("true", "True", "TRUE", "false", "False", "FALSE"),
    "merge": ("<<",),
}
_WHOLE = r"[-+]?(?:0|[1-9][0-9]*)"
# No number that PyYAML takes for text: what it writes without quotes must come back as text.
_FRACTION = rf"(?:{_WHOLE}\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?"
for _kind, _pattern in {
    **{kind: "|".join(map(re.escape, words)) for kind, words in _PLAIN.items()},
    "int": _WHOLE,
    "float": _FRACTION,
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), None)


def read_yaml(text: str) -> Any:
    r"""Return what a YAML text holds.

    Parameters
    ----------
    text : str
        One document.

    Returns
    -------
    object
        Mappings, lists, text, whole numbers, numbers with a point, true and false, and None.

    Raises
    ------
    ValueError
        When it is not YAML, or gives a key twice; the message names the line.

    Examples
    --------
    >>> read_yaml("{membrane: no, name: 010, rehearsed: true, box: 1:2}")
    {'membrane': 'no', 'name': '010', 'rehearsed': True, 'box': '1:2'}
    >>> read_yaml("a: 1\na: 2")
    Traceback (most recent call last):
    ValueError: the key a is given twice, before in line 1, in line 2
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        said = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark
        line = "" if mark is None else f", in line {mark.line + 1}"
        if mark is not None and any(map(_UNQUOTED_BOX.search, text.splitlines()[mark.line : mark.line + 1])):
            said = _BOX
        tab = " (use spaces, not tabs)" if r"'\t'" in said else ""
        raise ValueError(f"{said}{tab}{line}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
