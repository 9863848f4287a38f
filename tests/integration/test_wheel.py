"""What `make wheels` packs, installed into a venv without a network, works from any folder, without the source tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import clean_environment

ROOT = Path(__file__).resolve().parents[2]
PACKED = ("Makefile", "constraints.txt", "pyproject.toml", "README.md", "LICENSE", "segem", "flows")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new venv with the wheel of segem, which sees the packages that the tests run with, but not the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # A copy, since building leaves files beside the source, and takes along those of an earlier build.
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    # What segem requires would take minutes and a network: here it is what the tests run with.
    alone = "ARGS=--quiet --no-deps --no-index --no-build-isolation"
    subprocess.run(["make", "-s", "-C", str(source), "wheels", f"VENV={sys.prefix}", alone], check=True)
    wheels = folder / "wheels"
    shutil.move(source / "build" / "wheels", wheels)
    shutil.rmtree(source)
    new = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(new)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(new)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--find-links", str(wheels), "segem[cpu]"], check=True)
    # Folders that a .pth file names are searched last, and .pth files in them, that of an editable segem too, not read.
    packages = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (site,) = new.glob("lib/python*/site-packages")
    (site / "tested.pth").write_text("\n".join(packages))
    return new


def run(venv: Path, *words: str | Path, folder: Path) -> str:
    """Return what a program of the venv prints, started in a folder without a word about the source tree."""
    environment = clean_environment()
    environment.pop("PYTHONPATH", None)
    command = [str(venv / "bin" / words[0]), *map(str, words[1:])]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_says_what_it_can_do(venv: Path, tmp_path: Path) -> None:
    assert "segem" in run(venv, "segem", "--help", folder=tmp_path)


def test_the_segem_that_runs_is_the_installed_one(venv: Path, tmp_path: Path) -> None:
    for package in ("segem", "flows"):
        found = Path(run(venv, "python", "-c", f"import {package}; print({package}.__file__)", folder=tmp_path).strip())
        assert found.is_relative_to(venv)


def test_everything_of_the_source_tree_is_in_the_wheel(venv: Path) -> None:
    (site,) = venv.glob("lib/python*/site-packages")
    for package in ("segem", "flows"):
        tree = {
            p.relative_to(ROOT) for p in (ROOT / package).rglob("*") if p.is_file() and p.parent.name != "__pycache__"
        }
        assert {path for path in tree if not (site / path).is_file()} <= {Path("segem/bundled/README.md")}


def test_the_demo_runs_from_start_to_report(venv: Path, tmp_path: Path) -> None:
    printed = json.loads(run(venv, "segem", "demo", "--json", folder=tmp_path))
    (run_folder,) = (tmp_path / "workspace" / "runs").iterdir()
    page = (run_folder / "report" / "index.html").read_text(encoding="utf-8")
    assert printed == json.loads((run_folder / "report" / "report.json").read_text(encoding="utf-8"))
    for volume in printed["volumes"]:
        assert volume["name"] in page
        assert volume["iou"]["model"] > 0.5
    assert len(printed["volumes"]) == 2
    assert (run_folder / "report" / "iou.csv").read_text(encoding="utf-8").count("\n") > 12


def test_a_model_is_packed_by_its_template(venv: Path, tmp_path: Path) -> None:
    assert "unet-em" in run(venv, "segem", "models", "list", folder=tmp_path)
    run(venv, "segem", "models", "export", "unet-em", "unet-em.zip", folder=tmp_path)
    assert (tmp_path / "unet-em.zip").stat().st_size > 1_000_000
