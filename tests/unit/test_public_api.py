"""What `import segem` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import segem


def test_importing_segem_loads_nothing_but_the_standard_library() -> None:
    script = "import sys, segem; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before = subprocess.run(
        [sys.executable, "-c", script.replace(", segem", "")], capture_output=True, text=True, check=True
    )
    assert set(told.stdout.split()) - set(before.stdout.split()) - sys.stdlib_module_names == {"segem"}


def test_using_a_configuration_loads_no_net() -> None:
    script = (
        "import sys, segem; segem.SegmentConfig(); print([n for n in ('torch', 'prefect', 'zarr') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_no_public_name_is_the_name_of_a_module() -> None:
    assert set(segem.__all__) & {module.name for module in pkgutil.iter_modules(segem.__path__)} == set()


def test_type_checkers_are_told_the_same() -> None:
    stub = ast.parse(Path(segem.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exported = next(
        ast.literal_eval(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert told == vars(segem)["_PUBLIC"]
    assert exported == segem.__all__ == sorted(segem.__all__)


@pytest.mark.parametrize("name", segem.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(segem, name)
    assert inspect.getdoc(found)
    assert name in dir(segem)
    assert getattr(segem, name) is found


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        segem.segment_everything  # type: ignore[attr-defined]  # noqa: B018
