"""Tables of what pydantic models hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from tables import one_line, table

RANGE = "SectionRange"
"""Written as a pair."""
WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "null": "`null`",
}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class Schemas:
    """Writes a section for each model, once, and links to it wherever it is meant.

    Parameters
    ----------
    headings : dict
        Where a model stands in a file, by its name; the name itself where absent.
    nulls : bool
        Whether it is said where a value may be null; who writes a file by hand leaves such a key out.
    """

    def __init__(self, headings: dict[str, str], *, nulls: bool = False) -> None:
        self.headings = headings
        self.nulls = nulls
        self.written = {RANGE}

    def sections(
        self, kind: type[BaseModel], mode: Literal["validation", "serialization"] = "validation"
    ) -> Iterator[str]:
        """Yield the sections of a model and of all that it holds."""
        schema = kind.model_json_schema(mode=mode)
        models, ahead = {kind.__name__: schema, **schema.get("$defs", {})}, [kind.__name__]
        while ahead:
            name = ahead.pop(0)
            if name in self.written or "properties" not in models[name]:
                continue
            self.written.add(name)
            fields = models[name]["properties"]
            yield f"## {self._heading(name)}\n"
            yield one_line(_prose(models[name].get("description") or "")) + "\n"
            if mode == "validation":
                head = ("key", "value", "default", "meaning")
                rows = [
                    (
                        f"`{key}`",
                        self._value(field),
                        _default(field, key in models[name].get("required", ())),
                        _said(field),
                    )
                    for key, field in fields.items()
                ]
            else:
                head = ("key", "value", "meaning")
                rows = [(f"`{key}`", self._value(field), _said(field)) for key, field in fields.items()]
            yield table(head, rows)
            ahead = [*_references(list(fields.values())), *ahead]

    def _heading(self, name: str) -> str:
        return self.headings.get(name, name)

    def _value(self, field: dict[str, Any]) -> str:
        if "$ref" in field:
            name = field["$ref"].rpartition("/")[2]
            if name == RANGE:
                return "`[first, one past the last]`"
            if name == "JsonValue":
                return "anything"
            anchor = self._heading(name).lower().replace(":", "").replace(".", "").replace(" ", "-")
            return f"[{self._heading(name)}](#{anchor})"
        for key in ("anyOf", "oneOf"):
            if key in field:
                return " or ".join(self._value(one) for one in field[key] if self.nulls or one.get("type") != "null")
        if "const" in field:
            return f"`{field['const']}`"
        if "enum" in field:
            return ", ".join(f"`{value}`" for value in field["enum"])
        if field.get("type") == "array":
            if "prefixItems" in field:
                return f"list of {len(field['prefixItems'])}: {self._value(field['prefixItems'][0])}"
            return f"list of {self._value(field['items'])}"
        inner = field.get("additionalProperties")
        if isinstance(inner, dict):
            return f"by name: {self._value(inner)}"
        said = "path" if field.get("format") == "path" else WORDS.get(field.get("type", ""), "mapping")
        limits = [f"{sign} {field[key]:g}" for key, sign in BOUNDS.items() if key in field]
        return f"{said} {', '.join(limits)}".strip()


def _prose(docstring: str) -> str:
    """Return a docstring without its sections, which are for programmers."""
    return re.split(r"\n\n[A-Z][a-z ]+\n-{3,}\n", docstring, maxsplit=1)[0]


def _said(field: dict[str, Any]) -> str:
    return re.sub(r"\bNone\b", "`null`", one_line(field.get("description")))


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    value = field.get("default")
    if value is None or isinstance(value, (dict, list)) or value == "":
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _references(schema: Any) -> Iterator[str]:
    """Yield the names of the models that a schema refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
