"""The page of the keys of a manifest, from the models that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tables import one_line, table

from segem.config import ExecutionConfig, Manifest
from segem.config.retrain import RetrainConfig

INTRODUCTION = """\
# Keys of a manifest

*Written by `python docs/reference/generate/pages.py` from the models that read manifests.*

A manifest is a YAML file that lists volumes and says how they are segmented. Relative sources count from the folder of
the manifest, or from `--data-root`. A key that is not listed here is refused.

```yaml
name: mine
model: unet-em
volumes:
  - name: cortex
    source: cortex/raw.tif
    voxel_nm: [50, 4, 4]
    labels: {source: cortex/membranes.tif, membrane: nonzero}
    split: {train: [0, 6], validation: [6, 7], test: [7, 10]}
  - name: cortex-rest
    source: cortex/rest
    voxel_nm: [50, 4, 4]
baseline: {method: watershed}
segment: {views: 4}
```
"""
DEPLOYMENTS = """\
# Settings of deployments

What the [deployments](../how-to/schedule.md) take as `execution` and, for `retrain`, as `config`. `config` of the other
deployments has the keys above.
"""
HEADINGS = {
    "Manifest": "The manifest",
    "VolumeEntry": "volumes",
    "LabelSource": "volumes: labels",
    "Split": "volumes: split",
    "BaselineConfig": "baseline",
    "FeatureOptions": "baseline: features",
    "WatershedOptions": "baseline: watershed",
    "NcutOptions": "baseline: ncut",
    "SweepConfig": "segment",
    "ExecutionConfig": "execution",
    "RetrainConfig": "config of retrain",
    "TrainConfig": "config of retrain: train",
    "GateConfig": "config of retrain: gate",
}
"""Where a model stands in a file, by its name."""
RANGE = "SectionRange"
"""Written as a pair."""


def manifest_page() -> str:
    """Return the page."""
    seen: set[str] = set()
    parts = [INTRODUCTION, *_sections(Manifest, seen), DEPLOYMENTS]
    for kind in (ExecutionConfig, RetrainConfig):
        parts += _sections(kind, seen)
    return "\n".join(parts).rstrip() + "\n"


def _sections(kind: Any, seen: set[str]) -> Iterator[str]:
    """Yield a section for a model and each model in it, those not yet `seen`."""
    schema = kind.model_json_schema()
    models = {kind.__name__: schema, **schema.get("$defs", {})}
    order = [kind.__name__]
    while order:
        name = order.pop(0)
        if name in seen or name == RANGE:
            continue
        seen.add(name)
        model = models[name]
        rows = [
            (
                f"`{key}`",
                _type(field),
                _default(field, key in model.get("required", ())),
                one_line(field.get("description")),
            )
            for key, field in model["properties"].items()
        ]
        yield f"## {HEADINGS.get(name, name)}\n"
        yield one_line(model.get("description")) + "\n"
        yield table(("key", "value", "default", "meaning"), rows)
        order = [*(inner for field in model["properties"].values() for inner in _references(field)), *order]


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


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return "`[first, one past the last]`" if name == RANGE else f"[{HEADINGS.get(name, name)}](#{_anchor(name)})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        if "prefixItems" in field:
            return f"list of {len(field['prefixItems'])}: {_type(field['prefixItems'][0])}"
        return f"list of {_type(field['items'])}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    said = "path" if field.get("format") == "path" else words.get(field.get("type", ""), "mapping")
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[key]:g}" for key, sign in bounds.items() if key in field]
    return f"{said} {', '.join(limits)}".strip()


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    value = field.get("default")
    if value is None or isinstance(value, (dict, list)) or value == "":
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _anchor(name: str) -> str:
    return HEADINGS.get(name, name).lower().replace(":", "").replace(" ", "-")
