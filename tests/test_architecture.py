"""The rules of the house, read from the source itself.

`faults` takes the text of one module and returns every rule it breaks. The first half of the tests shows that each rule
can fail, on snippets; the second half applies all of them to every module of segem/ and flows/.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A layer imports from the layers to its left, and from itself.
LAYERS = (
    *("errors", "geometry", "progress", "config", "records", "plan", "kernels", "io"),
    *("learn", "execute", "stages", "review", "cli", "__main__"),
)

# What these layers may import beside the standard library; the others are free, up to KEPT_IN.
ALLOWED_PACKAGES = {
    "errors": set(),
    "geometry": set(),
    "config": {"pydantic", "yaml"},
    "plan": set(),
    "kernels": {"numpy", "scipy", "skimage", "sklearn"},
    "progress": {"rich"},
    "flows": {"prefect", "uvicorn"},
}
# Packages that belong to one layer of segem alone; None: to no layer of it.
KEPT_IN = {
    "torch": "learn",
    "monai": "learn",
    "fastapi": "review",
    "starlette": "review",
    "uvicorn": "review",
    "prefect": None,
}
# Layers that compute and never touch a disk.
NO_DISK = {"errors", "geometry", "plan", "kernels"}
DISK_MODULES = {"pathlib", "os", "shutil", "tempfile", "io", "glob", "sqlite3"}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FLOWS_MAY_USE = ("segem.stages", "segem.config", "segem.records", "segem.io.workspace", "segem.errors")

MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One imported name: `from a.b import c` gives a.b.c, and `lazy` when it runs only inside a function."""

    name: str
    line: int
    lazy: bool

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


def layer_of(module: str) -> str | None:
    """Return the layer of a module: "io" of "segem.io.volume", "flows" of "flows.ingest", None of "segem" itself."""
    package, _, rest = module.partition(".")
    return "flows" if package == "flows" else rest.split(".")[0] or None


def imports(tree: ast.Module, module: str, is_package: bool) -> list[Import]:
    """Return every import of a module, at the top, in functions and through importlib alike."""
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            found.extend(Import(f"{base}.{alias.name}", node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in {
            "importlib.import_module",
            "import_module",
            "__import__",
        }:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append(Import(first.value, node.lineno, lazy))
        inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, lazy=False)
    return found


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _name(node: ast.expr) -> str:
    """Return "a.b.c" of a dotted expression, and "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return ""


def faults(path: str, source: str) -> list[str]:
    """Return every broken rule of one module as "path:line: what"."""
    tree = ast.parse(source)
    parts = list(Path(path).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    found = [
        *_size_and_name(path, source),
        *_arrows(module, imports(tree, module, is_package)),
        *_dangerous(module, tree),
    ]
    if module.partition(".")[0] == "segem":
        found += [*_bare_asserts(tree), *_missing_docstrings(tree)]
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


def _size_and_name(path: str, source: str) -> Iterator[tuple[int, str]]:
    lines = len(source.splitlines())
    if lines > MAX_LINES:
        yield lines, f"{lines} lines, at most {MAX_LINES}: it holds more than one idea"
    if Path(path).name in {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}:
        yield 1, "name the file after what is in it"


def _arrows(module: str, found: list[Import]) -> Iterator[tuple[int, str]]:
    layer = layer_of(module)
    if layer is not None and layer not in {*LAYERS, "flows"}:
        yield 1, f"layer {layer} is not in LAYERS"
        return
    for imported in found:
        if imported.package == "segem":
            fault = _inside_fault(layer, imported)
        elif imported.package == "flows":
            # Only the command line starts flows, and late, since flows load Prefect.
            fault = (
                None if layer == "flows" or (layer == "cli" and imported.lazy) else "flows start from segem.cli, lazily"
            )
        else:
            fault = _outside_fault(layer, imported)
        if fault is not None:
            yield imported.line, f"imports {imported.name}: {fault}"


def _inside_fault(layer: str | None, imported: Import) -> str | None:
    target = layer_of(imported.name)
    if layer == "flows":
        allowed = any(imported.name == name or imported.name.startswith(f"{name}.") for name in FLOWS_MAY_USE)
        return None if allowed else f"flows use {', '.join(FLOWS_MAY_USE)} and nothing else of segem"
    if target not in LAYERS:  # `from segem import __version__`
        return None
    if layer is None:
        return "segem/__init__.py imports no layer"
    if LAYERS.index(target) > LAYERS.index(layer):
        return f"the arrow points from {layer} to {target}, to the right"
    return None


def _outside_fault(layer: str | None, imported: Import) -> str | None:
    package = imported.package
    if package in PICKLES:
        return "no pickle"
    if layer in NO_DISK and package in DISK_MODULES:
        return f"{layer} never touches a disk"
    if package in sys.stdlib_module_names:
        return None
    if layer in ALLOWED_PACKAGES:
        allowed = ALLOWED_PACKAGES[layer]
        return None if package in allowed else f"{layer} may import {', '.join(sorted(allowed)) or 'no package'}"
    if package in KEPT_IN and KEPT_IN[package] != layer:
        home = KEPT_IN[package]
        return f"{package} belongs in segem/{home}" if home else f"{package} belongs in flows/"
    return None


def _dangerous(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        if _name(node.func) == "torch.load" and not _is_true(keywords.get("weights_only")):
            yield node.lineno, "torch.load without weights_only=True runs whatever is in the file"
        if "allow_pickle" in keywords and not _is_false(keywords["allow_pickle"]):
            yield node.lineno, "allow_pickle runs whatever is in the file"
        if layer_of(module) in NO_DISK and _name(node.func) == "open":
            yield node.lineno, f"{layer_of(module)} never touches a disk"


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _bare_asserts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert is gone under python -O: raise an error of segem.errors"


def _missing_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith(
                "_"
            ):
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body)

    for node in public(tree.body):
        overload = any(_name(d).split(".")[-1] == "overload" for d in node.decorator_list)
        if ast.get_docstring(node) is None and not overload:
            yield node.lineno, f"{node.name} is public and has no docstring"


# Each rule can fail.

BAD = [
    ("segem/kernels/blend.py", "from segem.io import files", "from kernels to io"),
    ("segem/kernels/blend.py", "import segem.io.files", "from kernels to io"),
    ("segem/kernels/blend.py", "from ..io import files", "from kernels to io"),
    ("segem/kernels/__init__.py", "from ..io import files", "from kernels to io"),
    ("segem/kernels/blend.py", "from .. import io", "from kernels to io"),
    ("segem/kernels/blend.py", "from segem import io", "from kernels to io"),
    ("segem/geometry.py", "def f():\n    '''Do.'''\n    from segem.config import Config", "from geometry to config"),
    ("segem/io/volume.py", "from segem.learn.engine import predict", "from io to learn"),
    ("segem/learn/engine.py", "from segem.stages.segmentation.segment import segment", "from learn to stages"),
    ("segem/execute/run.py", "from segem.stages.segmentation.segment import segment", "from execute to stages"),
    ("segem/stages/segmentation/segment.py", "from segem.review.app import app", "from stages to review"),
    ("segem/stages/segmentation/segment.py", "import segem.cli", "from stages to cli"),
    ("segem/progress.py", "from segem.io import files", "from progress to io"),
    ("segem/progress.py", "import numpy", "progress may import rich"),
    ("segem/__init__.py", "from segem.config import Config", "segem/__init__.py imports no layer"),
    ("segem/novelty.py", "", "layer novelty is not in LAYERS"),
    ("segem/kernels/blend.py", "import torch", "kernels may import numpy"),
    ("segem/kernels/blend.py", "import zarr", "kernels may import numpy"),
    ("segem/plan.py", "import numpy as np", "plan may import no package"),
    ("segem/io/volume.py", "import torch.nn", "torch belongs in segem/learn"),
    ("segem/stages/training/train.py", "from monai.networks import nets", "monai belongs in segem/learn"),
    (
        "segem/stages/training/train.py",
        "import importlib\nimportlib.import_module('torch')",
        "torch belongs in segem/learn",
    ),
    ("segem/stages/run.py", "from prefect import flow", "prefect belongs in flows/"),
    ("segem/learn/engine.py", "import prefect", "prefect belongs in flows/"),
    ("segem/cli/campaign.py", "def f():\n    '''Do.'''\n    import prefect", "prefect belongs in flows/"),
    ("segem/cli/campaign.py", "from fastapi import FastAPI", "fastapi belongs in segem/review"),
    ("segem/cli/campaign.py", "from flows.campaign import campaign", "flows start from segem.cli, lazily"),
    ("segem/stages/run.py", "def f():\n    '''Do.'''\n    import flows.campaign", "flows start from segem.cli, lazily"),
    ("flows/campaign.py", "from segem.io.volume import Volume", "nothing else of segem"),
    ("flows/campaign.py", "from segem import kernels", "nothing else of segem"),
    ("flows/campaign.py", "import segem", "nothing else of segem"),
    ("flows/campaign.py", "import numpy", "flows may import prefect"),
    ("flows/campaign.py", "import torch", "flows may import prefect"),
    ("segem/kernels/blend.py", "from pathlib import Path", "kernels never touches a disk"),
    ("segem/plan.py", "import os.path", "plan never touches a disk"),
    ("segem/kernels/blend.py", "text = open('a')", "kernels never touches a disk"),
    ("segem/io/files.py", "import pickle", "no pickle"),
    ("segem/io/files.py", "from cloudpickle import loads", "no pickle"),
    ("segem/learn/artefact.py", "import torch\nt = torch.load('a')", "without weights_only=True"),
    ("segem/learn/artefact.py", "import torch\nt = torch.load('a', weights_only=False)", "without weights_only=True"),
    ("segem/io/files.py", "import numpy\na = numpy.load('a', allow_pickle=True)", "allow_pickle"),
    ("segem/io/files.py", "import numpy\na = numpy.load('a', allow_pickle=bool(1))", "allow_pickle"),
    ("segem/io/utils.py", "", "name the file after what is in it"),
    ("segem/io/files.py", "\n" * (MAX_LINES + 1), "401 lines"),
    ("segem/io/files.py", "def f(a):\n    '''Do.'''\n    assert a", "assert is gone"),
    ("segem/io/files.py", "def f(a):\n    return a", "f is public and has no docstring"),
    ("segem/io/files.py", "async def f(a):\n    return a", "f is public and has no docstring"),
    ("segem/io/files.py", "class A:\n    x = 1", "A is public and has no docstring"),
    ("segem/io/files.py", "class A:\n    '''Is.'''\n    def b(self): ...", "b is public and has no docstring"),
]

GOOD = [
    (
        "segem/io/volume.py",
        "from segem.errors import InputError\nfrom segem.kernels.normalize import zscore\nimport zarr",
    ),
    ("segem/geometry.py", "from segem.errors import ConfigError"),
    ("segem/stages/segmentation/segment.py", "from segem.execute.run import execute\nfrom segem import __version__"),
    ("segem/learn/artefact.py", "import torch\nt = torch.load('a', weights_only=True)"),
    ("segem/kernels/blend.py", "import numpy as np\nfrom scipy import ndimage\nfrom .metrics import iou"),
    ("segem/cli/campaign.py", "import typer\ndef f():\n    '''Do.'''\n    from flows.campaign import campaign"),
    ("segem/review/app.py", "from fastapi import FastAPI"),
    ("segem/io/files.py", "import numpy\na = numpy.load('a', allow_pickle=False)"),
    (
        "segem/io/files.py",
        "def f(a):\n    '''Do.\n\n    >>> assert 1\n    '''\ndef _g(a): ...\nclass _A:\n    def b(self): ...",
    ),
    (
        "flows/campaign.py",
        "import logging\nfrom prefect import flow\nfrom segem.stages.volumes.ingest import ingest\nimport flows.ingest",
    ),
    (
        "flows/campaign.py",
        "from segem.config import Manifest\nfrom segem.errors import SegemError\nfrom .ingest import ingest_flow",
    ),
    ("segem/io/files.py", "\n" * MAX_LINES),
]


@pytest.mark.parametrize(("path", "source", "expected"), BAD)
def test_a_broken_rule_is_found(path: str, source: str, expected: str) -> None:
    found = faults(path, source)
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_what_the_rules_allow_passes(path: str, source: str) -> None:
    assert faults(path, source) == []


def test_a_fault_names_its_line() -> None:
    assert faults("segem/plan.py", "import math\n\nimport numpy\n")[0].startswith("segem/plan.py:3: ")


# The house keeps them.

MODULES = sorted(
    path.relative_to(ROOT).as_posix() for room in ("segem", "flows") for path in (ROOT / room).rglob("*.py")
)


def test_the_modules_are_found() -> None:
    assert {"segem/__init__.py", "segem/errors.py", "segem/config/__init__.py"} <= set(MODULES)


@pytest.mark.parametrize("path", MODULES)
def test_module_keeps_the_rules(path: str) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_loaded_packages_are_seen() -> None:
    assert "yaml" in loaded_by("import segem.config")


@pytest.mark.parametrize("module", ["segem", "segem.config", "segem.cli"])
def test_import_is_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"torch", "monai", "prefect", "fastapi"}


def test_a_sweep_does_not_wait_for_the_compiler_of_torch() -> None:
    assert not loaded_by("import segem.stages.segmentation.segment") & {"torchvision", "monai"}
