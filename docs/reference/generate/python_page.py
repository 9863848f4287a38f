"""The page of what `import segem` offers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from tables import first_sentence, table

import segem
from segem.config import Config

INTRODUCTION = """\
# Python

*Written by `python docs/reference/generate/pages.py` from the functions, of which `help()` says more.*

```python
import segem

workspace = segem.open_workspace("workspace")
source = segem.IngestConfig(name="cortex", source="cortex.tif", voxel_nm=(50, 4, 4))
segem.ingest_volume(source, workspace)
segem.segment_volume("cortex", "monday", segem.SegmentConfig(model="unet-em"), segem.ExecutionConfig(), workspace)
probability = segem.Volume.open(workspace.result("monday", "cortex")).raw
```

`import segem` loads nothing; each name below is imported at its first use. Steps take a frozen configuration, whose
fields the page on [manifest keys](manifest.md) lists, and keep what they make in the workspace. Calling a step again
resumes it. Every error that a user can cause is a `segem.SegemError`. The notebooks show
[the steps](../start/segem.ipynb) and [the nets](../start/zoo.ipynb) at work.
"""


def python_page() -> str:
    """Return the page."""
    names = [(name, getattr(segem, name)) for name in segem.__all__]
    functions = [(name, value) for name, value in names if inspect.isfunction(value)]
    settings = [(name, value) for name, value in names if _is_setting(value)]
    others = [pair for pair in names if pair not in functions and pair not in settings]
    parts = [INTRODUCTION, "## Functions\n", *_described(functions)]
    for title, group in (("Settings", settings), ("Others", others)):
        rows = [(f"`segem.{name}`", first_sentence(inspect.getdoc(value))) for name, value in group]
        parts += [f"## {title}\n", table(("name", "what it is"), rows)]
    return "\n".join(parts).rstrip() + "\n"


def _described(functions: list[tuple[str, Any]]) -> Iterator[str]:
    for name, function in functions:
        signature = inspect.signature(function)
        arguments = [_argument(one) for one in signature.parameters.values()]
        by_name = [one.kind is one.KEYWORD_ONLY for one in signature.parameters.values()]
        if True in by_name:
            arguments.insert(by_name.index(True), "*")
        lines = "".join(f"    {argument},\n" for argument in arguments)
        yield f"### segem.{name}\n\n{first_sentence(inspect.getdoc(function))}\n"
        yield f"```python\n{name}(\n{lines}) -> {signature.return_annotation}\n```\n"


def _argument(one: inspect.Parameter) -> str:
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{one.name}: {one.annotation}{default}"


def _is_setting(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Config)
