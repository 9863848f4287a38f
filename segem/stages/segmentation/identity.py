"""The code that computes a block, found by reading imports: its digest, and the versions it computes with.

A list of modules kept by hand misses the next one that is written. So they are found by following imports from the
module that computes a block. Sources are parsed, not run, and an import inside a function counts like any other.
``docs/adr/0010-identity-from-imports.md`` argues what is in and what is not.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import segem
from segem.errors import ConfigError

COMPUTING = ("segem.geometry", "segem.plan", "segem.kernels", "segem.learn", "segem.stages.segmentation.arithmetic")
"""The layers that make numbers: their modules are digested where a start reaches them, all others passed through."""

_PACKAGE = Path(segem.__file__).parent
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
"""Packages installed under another name than they are imported by; to ask importlib for all takes half a second."""


@cache
def code_digest(start: str, package: Path = _PACKAGE) -> str:
    """Return the sha256 of all code that computes a block.

    Parameters
    ----------
    start : str
        Dotted name of the module whose function computes a block.
    package : Path
        The folder of segem.

    Returns
    -------
    str
        64 hexadecimal digits, of the source of every module of `modules_of` and of all `versions_of`.

    Raises
    ------
    ConfigError
        When segem is installed without its sources, or a package without its version.

    Examples
    --------
    >>> code_digest("segem.kernels.blend") == code_digest("segem.kernels.views")
    False
    """
    # Bytes of sources, not syntax trees: those change between versions of Python (ADR 10). So an edited comment
    # counts as well, which costs a computation but never mixes blocks.
    digest = hashlib.sha256()
    for name in modules_of(start, package):
        digest.update(name.encode() + hashlib.sha256(_source_of(name, package).read_bytes()).digest())
    digest.update(json.dumps(versions_of(start, package), sort_keys=True).encode())
    return digest.hexdigest()


@cache
def modules_of(start: str, package: Path = _PACKAGE) -> tuple[str, ...]:
    """Return the names of the modules that compute a block: the start, and those of `COMPUTING` that it reaches.

    Parameters
    ----------
    start, package : str, Path
        See `code_digest`.

    Returns
    -------
    tuple of str
        Sorted.

    Raises
    ------
    ConfigError
        When segem is installed without its sources.

    Examples
    --------
    >>> modules_of("segem.kernels.views")
    ('segem.kernels', 'segem.kernels.views')
    """
    return tuple(name for name in reached_from(start, package) if name == start or _computes(name))


def versions_of(start: str, package: Path = _PACKAGE) -> dict[str, str]:
    """Return the version of every distribution that a module of `modules_of` imports, and that of Python.

    Parameters
    ----------
    start, package : str, Path
        See `code_digest`.

    Returns
    -------
    dict of str to str
        By the name of the distribution; those that are not installed are left out.

    Raises
    ------
    ConfigError
        When segem is installed without its sources, or a package without its version.

    Examples
    --------
    >>> sorted(versions_of("segem.kernels.views"))
    ['numpy', 'python']
    """
    packages = {name for module in modules_of(start, package) for name in _imports(module, package).packages}
    # The feature release is enough: within one, the arithmetic of Python is left alone.
    versions = {"python": "{}.{}".format(*sys.version_info)}
    for name in sorted(packages):
        # An optional package that is not here computes nothing here.
        if find_spec(name) is not None:
            distribution = _DISTRIBUTIONS.get(name, name)
            versions[distribution] = _version(distribution)
    return versions


@cache
def reached_from(start: str, package: Path = _PACKAGE) -> tuple[str, ...]:
    """Return the names of all modules of segem that are imported on the way from a start, whatever layer they are of.

    Parameters
    ----------
    start, package : str, Path
        See `code_digest`.

    Returns
    -------
    tuple of str
        Sorted, the start among them. To import a module is to import the packages it lies in.

    Raises
    ------
    ConfigError
        When segem is installed without its sources.
    """
    # Goes through all of segem, also through layers that are not digested: io may lead to a kernel.
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _imports(name, package).modules
    return tuple(sorted(reached))


def _computes(name: str) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in COMPUTING)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise ConfigError(
            "a package is installed without its version, by which blocks are known",
            where=distribution,
            fix=f"run pip install --force-reinstall {distribution}",
        ) from None


@dataclass(frozen=True)
class _Imports:
    """What one module imports: modules of segem, and the packages of others."""

    modules: tuple[str, ...]
    packages: frozenset[str]


@cache
def _imports(module: str, package: Path) -> _Imports:
    file = _source_of(module, package)
    above = module.rpartition(".")[0]
    # Importing a module runs the packages above it, so they are reached too.
    modules, packages = {above} - {""}, set()
    for name, is_module in _names(file.read_bytes(), module if file.name == "__init__.py" else above):
        top = name.partition(".")[0]
        if top != "segem":
            packages.add(top)
        # What must be a module is kept even if its file is missing: `_source_of` then raises, and nothing is left out.
        elif is_module or _find(name, package) is not None:
            modules.add(name)
    return _Imports(tuple(modules), frozenset(packages - sys.stdlib_module_names))


def _names(source: bytes, package: str) -> Iterator[tuple[str, bool]]:
    """Yield the names that a source imports, and whether each must be a module: in ``from a import b``, b need not."""
    tree = ast.parse(source)
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            yield base, True
            yield from ((f"{base}.{alias.name}", False) for alias in node.names)
    # Few sources import by a call; to walk every expression of the others would take most of the time.
    if b"import_module" in source or b"__import__" in source:
        yield from ((_absolute(name, package), True) for name in _called(tree))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every statement, also within functions, except those under TYPE_CHECKING, which never run."""
    # Statements hold other statements only in these fields, so expressions need not be walked.
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        blocks = ("orelse",) if _is_for_types(node) else ("body", "orelse", "finalbody", "handlers", "cases")
        for block in blocks:
            waiting += getattr(node, block, ())


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _called(tree: ast.Module) -> Iterator[str]:
    """Yield the names in calls such as ``import_module("a.b")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value


def _absolute(name: str, package: str) -> str:
    """Return a name as seen from the outside: ``..b`` in package ``a.c`` is ``a.b``."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name[level:]])])


def _source_of(module: str, package: Path) -> Path:
    file = _find(module, package)
    if file is None:
        raise ConfigError(
            "the source of a module is missing, by which blocks are known",
            where=module,
            expected=f"it below {package}",
            fix="install segem again, with its sources",
        )
    return file


def _find(module: str, package: Path) -> Path | None:
    place = package.joinpath(*module.split(".")[1:])
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files if file.is_file()), None)
