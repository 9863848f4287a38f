"""The rules of the house, and that each of them can fail.

Who may import whom stands in `pyproject.toml` and is checked by import-linter, what one file may say by ruff; `make
check` runs both. Here are the rules that neither of them can say, and for all rules an example that breaks them.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
SOURCES = sorted(
    path.relative_to(ROOT).as_posix() for room in ("segem", "flows") for path in (ROOT / room).rglob("*.py")
)

# Imports, by import-linter.

LINTER = read_configuration(str(ROOT / "pyproject.toml"))
CONTRACTS = {options["id"]: options for options in LINTER["contracts_options"]}
KINDS = {
    kind.type_name: kind for kind in (AcyclicSiblingsContract, ForbiddenContract, LayersContract, ProtectedContract)
}

# One import each that the code of today may not gain, and the contract that forbids it.
BROKEN = [
    ("layers", "segem.geometry", "segem.config.base"),
    ("layers", "segem.progress", "segem.io.files"),
    ("layers", "segem.config.base", "segem.records.run"),
    ("layers", "segem.records.run", "segem.plan"),
    ("layers", "segem.plan", "segem.kernels.blend"),
    ("layers", "segem.kernels.blend", "segem.io.files"),
    ("layers", "segem.io.volume", "segem.learn.engine"),
    ("layers", "segem.learn.engine", "segem.execute.run"),
    ("layers", "segem.execute.run", "segem.stages.segmentation.segment"),
    ("layers", "segem.stages.segmentation.segment", "segem.cli"),
    ("layers", "segem.cli.steps", "segem.__main__"),
    ("layers", "segem.novelty", "segem.errors"),
    ("layers", "segem", "segem.stages.segmentation.segment"),
    ("acyclic", "segem.io.files", "segem.io.volume"),
    ("acyclic", "segem.learn.runtimes.base", "segem.learn.runtimes.openvino"),
    ("acyclic", "segem.learn.models.registry", "segem.learn.artefact"),
    ("acyclic", "segem.errors", "segem.geometry"),
    ("acyclic", "flows.steps", "flows.campaign"),
    ("wings", "segem.stages.volumes.ingest", "segem.stages.segmentation.segment"),
    ("wings", "segem.stages.segmentation.segment", "segem.stages.models.zoo"),
    ("wings", "segem.stages.models.zoo", "segem.stages.training.train"),
    ("wings", "segem.stages.reporting.write", "segem.stages.training.score"),
    ("wings", "segem.stages.training.train", "segem.stages.reporting.evaluate"),
    ("wings", "segem.stages.doctor", "segem.stages.campaign"),
    ("wings", "segem.stages.novelty", "segem.errors"),
    ("wings-apart", "segem.stages.reporting.evaluate", "segem.stages.models.zoo"),
    ("wings-apart", "segem.stages.campaign", "segem.stages.training.train"),
    ("flows-start", "segem.stages.campaign", "flows.campaign"),
    ("flows-start", "segem.learn.engine", "flows.launch.local"),
    ("flows-use", "flows.campaign", "segem.io.volume"),
    ("flows-use", "flows.campaign", "segem.kernels"),
    ("flows-use", "flows.launch.local", "segem.cli.show"),
    ("pure", "segem.kernels.blend", "pathlib"),
    ("pure", "segem.kernels.blend", "torch"),
    ("pure", "segem.kernels.blend", "zarr"),
    ("pure", "segem.kernels.blend", "a_package_of_tomorrow"),
    ("pure", "segem.plan", "numpy"),
    ("pure", "segem.plan", "os"),
    ("pure", "segem.geometry", "pydantic"),
    ("pure", "segem.records.run", "json"),
    ("pure", "segem.errors", "shutil"),
    ("torch", "segem.io.volume", "torch"),
    ("torch", "segem.stages.training.train", "monai"),
    ("torch", "flows.campaign", "openvino"),
    ("prefect", "segem.stages.campaign", "prefect"),
    ("prefect", "segem.cli.campaign", "prefect"),
    ("formats", "segem.stages.segmentation.export", "zarr"),
    ("formats", "segem.cli.results", "sqlite3"),
    ("numbers", "segem.stages.reporting.evaluate", "scipy"),
    ("engines", "segem.stages.segmentation.segment", "dask"),
    ("web", "segem.cli.campaign", "fastapi"),
    ("web", "segem.stages.reporting.page", "uvicorn"),
    ("web", "flows.campaign", "starlette"),
    ("network", "segem.stages.volumes.data", "pooch"),
    ("network", "segem.cli.data", "requests"),
    ("terminal", "segem.stages.reporting.write", "rich"),
    ("terminal", "flows.campaign", "typer"),
]
ALLOWED = [
    ("segem.io.volume", "segem.kernels.normalize"),
    ("segem.stages.training.gate.promote", "segem.stages.models.zoo"),
    ("segem.cli.campaign", "flows.launch.local"),
    ("segem.kernels.blend", "scipy"),
    ("segem.learn.artefact", "torch"),
    ("flows.campaign", "segem.stages.doctor"),
    ("flows.campaign", "prefect"),
]


@pytest.fixture(scope="module")
def imported() -> grimp.ImportGraph:
    """Return every import of segem and flows."""
    return grimp.build_graph("segem", "flows", include_external_packages=True, cache_dir=None)


def is_kept(contract: str, graph: grimp.ImportGraph) -> bool:
    """Check a contract of `pyproject.toml`; the graph is left as it was."""
    options = CONTRACTS[contract]
    kind = KINDS[options["type"]](options["name"], LINTER["session_options"], options)
    return bool(kind.check(deepcopy(graph), verbose=False).kept)


def with_import(graph: grimp.ImportGraph, importer: str, target: str) -> grimp.ImportGraph:
    """Return the graph as if `importer` had a line that imports `target`."""
    graph = deepcopy(graph)
    for module in (importer, target):
        if module not in graph.modules:
            graph.add_module(module, is_squashed="." not in module)
    graph.add_import(importer=importer, imported=target, line_number=1, line_contents=f"import {target}")
    return graph


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_code_keeps_the_contract(contract: str, imported: grimp.ImportGraph) -> None:
    assert is_kept(contract, imported)


@pytest.mark.parametrize(("contract", "importer", "target"), BROKEN)
def test_one_import_breaks_the_contract(contract: str, importer: str, target: str, imported: grimp.ImportGraph) -> None:
    assert importer.rpartition(".")[2] == "novelty" or importer in imported.modules, "an example names what there is"
    assert not is_kept(contract, with_import(imported, importer, target))


def test_each_contract_is_seen_to_break() -> None:
    assert {contract for contract, *_ in BROKEN} == set(CONTRACTS)


@pytest.mark.parametrize(("importer", "target"), ALLOWED)
def test_what_the_contracts_allow_passes(importer: str, target: str, imported: grimp.ImportGraph) -> None:
    more = with_import(imported, importer, target)
    assert [contract for contract in CONTRACTS if not is_kept(contract, more)] == []


# One file, by ruff: these settings are ours, the rules are ruff's.

RUFF = [
    ("S101", "def f(a):\n    assert a\n"),
    ("D103", "def f(a):\n    return a\n"),
    ("D103", "async def f(a):\n    return a\n"),
    ("D101", "class A:\n    x = 1\n"),
    ("D102", 'class A:\n    """Is."""\n\n    def b(self):\n        return 1\n'),
    ("TID251", "import pickle\n"),
    ("TID251", "from cloudpickle import loads\n"),
    ("TID251", "import joblib\n"),
    ("TID251", "from pkgutil import resolve_name\n"),
    ("TID251", "import importlib\n\nimportlib.import_module('torch')\n"),
    ("PTH123", "open('a')\n"),
    ("PLR0913", "def f(a, b, c, d, e, f, g, h, i):\n    pass\n"),
]


def codes_of_ruff(source: str) -> set[str]:
    """Return the rules that ruff finds broken in a module of segem."""
    command = [sys.executable, "-m", "ruff", "check", "--output-format=json", "--stdin-filename=segem/io/files.py", "-"]
    done = subprocess.run(command, input=source, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return {found["code"] for found in json.loads(done.stdout)}


@pytest.mark.parametrize(("code", "source"), RUFF)
def test_ruff_holds_what_is_ours(code: str, source: str) -> None:
    assert code in codes_of_ruff(source)


# What neither of them can say.


def faults(path: str, source: str) -> list[str]:
    """Return every broken rule of one module as "path:line: what"."""
    found = [*_size_and_name(path, source), *_unsafe_calls(ast.parse(source))]
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


def _size_and_name(path: str, source: str) -> Iterator[tuple[int, str]]:
    lines = len(source.splitlines())
    if lines > MAX_LINES:
        yield lines, f"{lines} lines, at most {MAX_LINES}: it holds more than one idea"
    if Path(path).name in {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}:
        yield 1, "name the file after what is in it"


def _unsafe_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if ast.unparse(node.func) == "torch.load" and not _is_constant(keywords.get("weights_only"), True):
            yield node.lineno, "torch.load without weights_only=True runs whatever is in the file"
        if ast.unparse(node.func) == "__import__":
            yield node.lineno, "an import that import-linter cannot see"
        if "allow_pickle" in keywords and not _is_constant(keywords["allow_pickle"], False):
            yield node.lineno, "allow_pickle runs whatever is in the file"


def _is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("segem/learn/artefact.py", "import torch\nt = torch.load('a')", "2: torch.load without weights_only=True"),
        ("segem/learn/artefact.py", "t = torch.load('a', weights_only=False)", "1: torch.load without weights_only"),
        ("segem/io/files.py", "import numpy\na = numpy.load('a', allow_pickle=True)", "2: allow_pickle"),
        ("segem/io/files.py", "a = numpy.load('a', allow_pickle=bool(1))", "1: allow_pickle"),
        ("segem/io/files.py", "t = __import__('torch')", "1: an import that import-linter cannot see"),
        ("segem/io/utils.py", "", "1: name the file after what is in it"),
        ("segem/io/files.py", "\n" * (MAX_LINES + 1), "401: 401 lines"),
    ],
)
def test_a_broken_rule_is_found(path: str, source: str, expected: str) -> None:
    (found,) = faults(path, source)
    assert found.startswith(f"{path}:{expected}")


@pytest.mark.parametrize(
    "source",
    [
        "import torch\nt = torch.load('a', weights_only=True)",
        "import numpy\na = numpy.load('a', allow_pickle=False)",
        "\n" * MAX_LINES,
    ],
)
def test_what_the_rules_allow_passes(source: str) -> None:
    assert faults("segem/io/files.py", source) == []


def test_the_modules_are_found() -> None:
    assert {"segem/__init__.py", "segem/errors.py", "segem/config/__init__.py", "flows/steps.py"} <= set(SOURCES)


@pytest.mark.parametrize("path", SOURCES)
def test_module_keeps_the_rules(path: str) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_loaded_packages_are_seen() -> None:
    assert {"pydantic", "segem"} <= loaded_by("import segem.config")


@pytest.mark.parametrize("module", ["segem", "segem.config", "segem.cli"])
def test_import_is_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"torch", "monai", "prefect", "fastapi", "flows"}


def test_a_sweep_does_not_wait_for_the_compiler_of_torch() -> None:
    assert not loaded_by("import segem.stages.segmentation.segment") & {"torchvision", "monai"}
