"""What pyproject.toml declares, what constraints.txt pins and what is installed agree."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [
    requirement
    for lines in PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, lines)
    if requirement.name != PROJECT["name"]
]
# Packages that are imported under another name than they are installed by.
IMPORTED_AS = {
    "google-crc32c": "google_crc32c",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in pinned}


def allows(requirement: Requirement, found: str) -> bool:
    return requirement.specifier.contains(found, prereleases=True)


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_runtime_dependency_imports_at_a_declared_version(requirement: Requirement) -> None:
    importlib.import_module(IMPORTED_AS.get(requirement.name, requirement.name))
    found = version(requirement.name)
    assert allows(requirement, found), f"{requirement.name} {found} is outside {requirement.specifier}"


def test_known_bad_versions_are_outside_the_ranges() -> None:
    declared = {requirement.name: requirement for requirement in RUNTIME}
    assert not allows(declared["fastapi"], "0.151.0")
    assert not allows(declared["sqlalchemy"], "2.1.0")
    assert not allows(declared["pydantic"], "2.13.0")
    assert not allows(declared["zarr"], "3.1.1")
    assert not allows(declared["torch"], "2.9.1")


def test_installed_packages_fit_each_other() -> None:
    if find_spec("pip") is None:
        pytest.skip("this environment has no pip to ask")
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("requirement", RUNTIME + EXTRAS, ids=lambda requirement: requirement.name)
def test_direct_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    pinned = constraints().get(canonicalize_name(requirement.name))
    if requirement.name in ("torch", "torchvision"):
        assert pinned is None, "both come in the build that fits the machine, so they are never pinned"
        return
    assert pinned is not None, f"{requirement.name} is missing in constraints.txt"
    (pin,) = pinned.specifier
    assert allows(requirement, pin.version)


def test_constraints_are_exact_versions_and_name_no_place() -> None:
    for name, requirement in constraints().items():
        assert requirement.url is None, f"{name} is pinned to a place"
        assert [pin.operator for pin in requirement.specifier] == ["=="], f"{name} is not pinned to one version"
    of_torch = ("torch", "torchvision", "torchaudio")
    builds = {name for name in constraints() if name in of_torch or name.startswith(("triton", "nvidia-", "cuda"))}
    assert builds == set()
