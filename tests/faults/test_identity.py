"""No code that computes a block is missing from the identity of its step: what runs, and what is edited, tells."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from segem.io.workspace import Workspace
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import ZOO, build
from segem.records.card import Calibration, ModelCard
from segem.stages.segmentation.identity import COMPUTING, code_digest, modules_of, reached_from, versions_of
from tests.fabricate import add_volume, new_workspace, tissue
from tests.faults.tracing import Job, Seen, trace
from tests.processes import ROOT

ARITHMETIC = "segem.stages.segmentation.arithmetic"
STARTS = tuple(f"{ARITHMETIC}.{step}" for step in ("segment", "crf", "cells", "baseline"))
CARRY = {"segem.stages.segmentation.block_work", "segem.stages.segmentation.verify"}
"""Modules of the stages that hand a block on while it is computed, and compute nothing of it."""
COMPUTE = {name: name for name in ("numpy", "scipy", "torch", "torchvision", "openvino", "nncf", "monai")} | {
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
"""Packages of others that make numbers, and the names they are installed by."""
TRAINING = {
    *("augment", "batches", "checkpoint", "checks", "exchange", "halo", "interrupt", "losses", "patches", "pieces"),
    *("distillation", "platt", "sections", "speed", "supervision", "train", "watch"),
}


def missing(seen: Seen, known: Iterable[str]) -> set[str]:
    """Return the modules that have computed something of a block, and are not among those that are known."""
    ours = {name for name in seen.modules if name.startswith((*COMPUTING, "segem.stages."))}
    return ours - CARRY - set(known)


def known_of(seen: Seen) -> set[str]:
    """Return the modules whose source is part of the identity of the blocks that were seen."""
    return {name for start in seen.starts for name in modules_of(start)}


# What runs.


def add_model(
    workspace: Workspace, name: str, architecture: str, options: dict[str, int], calibration: Calibration | None = None
) -> None:
    torch.manual_seed(0)
    calibrated = {} if calibration is None else {"calibration": calibration}
    card = ModelCard(name=name, architecture=architecture, options=options, threshold=0.5, **calibrated)
    save_artefact(workspace.models / name / "1", card, build(architecture, options))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with a volume of one block in 8 and in 16 bits, and models to segment it with."""
    workspace = new_workspace(tmp_path_factory.mktemp("laboratory") / "workspace")
    image, _ = tissue((3, 90, 80))
    add_volume(workspace, "eight", image)
    add_volume(workspace, "sixteen", image.astype(np.uint16) * 200)
    add_model(workspace, "tiny", "unet", {"features": 2, "depth": 2})
    # Wide enough for Winograd, and it sees three sections.
    wide = {"features": 64, "depth": 2, "context_sections": 3}
    add_model(workspace, "wide", "unet", wide, Calibration(scale=2, bias=0.1))
    return workspace


def segmented(run: str, model: str, **settings: object) -> Job:
    return Job("segment", "eight", run, {"model": model, **settings})


JOBS = {
    "torch": (segmented("torch", "tiny", runtime="torch"), {"segem.learn.runtimes.eager", "segem.learn.fold"}),
    "blended": (segmented("blended", "tiny", runtime="torch", stitch="hann"), {"segem.kernels.blend"}),
    "torch, 8 views": (segmented("views", "wide", runtime="torch", views=8), {"segem.kernels.views"}),
    "openvino": (
        segmented("openvino", "wide", runtime="openvino", views=8),
        {"segem.learn.winograd", "segem.learn.fold", "segem.learn.calibrated", "segem.learn.runtimes.openvino"},
    ),
    "openvino-int8": (
        segmented("int8", "wide", runtime="openvino-int8", int8_tolerance=1),
        {"segem.learn.runtimes.openvino"},
    ),
    "crf": (Job("crf", "eight", "crf", {"of": "torch"}), {"segem.kernels.crf", "segem.kernels.threshold"}),
    "segment, 16 bits": (Job("segment", "sixteen", "deep", {"model": "tiny"}), {"segem.kernels.normalize"}),
    "crf, 16 bits": (Job("crf", "sixteen", "deep-crf", {"of": "deep"}), {"segem.kernels.pictures"}),
    "cells": (
        Job("cells", "eight", "torch", {}),
        {"segem.kernels.cells", "segem.kernels.merging", "segem.kernels.threshold"},
    ),
    "kmeans": (Job("baseline", "eight", "kmeans", {"method": "kmeans"}), {"segem.kernels.kmeans"}),
    "kmeans-features": (
        Job("baseline", "eight", "features", {"method": "kmeans-features"}),
        {"segem.kernels.feature_kmeans", "segem.kernels.features"},
    ),
    "watershed": (Job("baseline", "eight", "watershed", {"method": "watershed"}), {"segem.kernels.watershed"}),
    "ncut": (Job("baseline", "sixteen", "ncut", {"method": "ncut"}), {"segem.kernels.ncut", "segem.kernels.lines"}),
}
"""A block of each step in each way, and modules that must be seen at it: a trace that sees nothing proves nothing."""


@pytest.fixture(scope="module")
def traced(laboratory: Workspace) -> dict[str, Seen]:
    return dict(zip(JOBS, trace(laboratory, [job for job, _ in JOBS.values()]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_whatever_computes_a_block_is_part_of_its_identity(traced: dict[str, Seen], name: str) -> None:
    job, expected = JOBS[name]
    seen = traced[name]
    assert seen.starts == {f"{ARITHMETIC}.{job.step}"}
    assert expected <= seen.modules
    assert missing(seen, known_of(seen)) == set()
    (start,) = seen.starts
    called = {name.partition(".")[0] for name in seen.modules} & COMPUTE.keys()
    assert "numpy" in called
    assert {COMPUTE[name] for name in called} <= set(versions_of(start))


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["segem.learn.winograd", "segem.kernels.views", f"{ARITHMETIC}.block"])
def test_the_trace_finds_what_a_list_kept_by_hand_leaves_out(traced: dict[str, Seen], left_out: str) -> None:
    seen = traced["openvino"]
    assert missing(seen, known_of(seen) - {left_out}) == {left_out}


@pytest.mark.slow
def test_whatever_a_net_of_the_zoo_computes_with_is_part_of_the_identity(laboratory: Workspace) -> None:
    small = {"features": 2, "width": 2, "depth": 2, "layers": 2}
    for name, spec in ZOO.items():
        add_model(laboratory, f"small-{name}", name, {k: v for k, v in small.items() if k in spec.options.model_fields})
    jobs = [segmented(name, f"small-{name}", runtime="torch") for name in ZOO]
    nets: set[str] = set()
    for seen in trace(laboratory, jobs):
        assert missing(seen, known_of(seen)) == set()
        nets |= {name for name in seen.modules if name.startswith("segem.learn.models.")}
    assert {f"segem.learn.models.{name}" for name in ("patchnet", "unet2015", "deeplab_v2", "deeplab_v3")} <= nets


@pytest.mark.parametrize("start", STARTS)
def test_what_a_start_loads_is_part_of_the_identity(start: str) -> None:
    code = f"import {start}, sys\nprint(*(name for name in sys.modules if name.startswith('segem')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"segem.geometry", "segem.kernels", start} <= loaded
    assert {name for name in loaded if name.startswith(COMPUTING)} <= set(modules_of(start))
    assert loaded <= set(reached_from(start))


# What is edited.


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of segem, to be edited."""
    copy = tmp_path_factory.mktemp("copy") / "segem"
    shutil.copytree(ROOT / "segem", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def digest_with(edited: str, start: str, package: Path) -> str:
    """Return the digest of a step's code with a line more in one module."""
    place = package.joinpath(*edited.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    before = file.read_bytes()
    file.write_bytes(before + b"# edited\n")
    try:
        # Without its cache, which takes a package for one that does not change.
        return code_digest.__wrapped__(start, package)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("start", STARTS)
def test_an_edit_of_each_module_makes_other_blocks(package: Path, start: str) -> None:
    digests = [digest_with(module, start, package) for module in modules_of(start)]
    assert len({code_digest(start, package), *digests}) == 1 + len(digests) > 10


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "outside",
    ["progress", "cli.show", "learn.train", "learn.batches", "io.volume", "stages.segmentation.segment", "errors"],
)
def test_an_edit_of_what_computes_no_block_makes_no_other_blocks(package: Path, start: str, outside: str) -> None:
    assert digest_with(f"segem.{outside}", start, package) == code_digest(start, package)


def test_a_module_that_is_new_counts_without_being_named_anywhere(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "segem"
    shutil.copytree(package, copy)
    (copy / "learn" / "winograd_in_two_dimensions.py").write_text("FACTORS = (1, 2)\n")
    with (copy / "learn" / "winograd.py").open("a") as file:
        file.write("\n\ndef _later():\n    from segem.learn.winograd_in_two_dimensions import FACTORS\n")
    added = set(modules_of(STARTS[0], copy)) - set(modules_of(STARTS[0]))
    assert added == {"segem.learn.winograd_in_two_dimensions"}


def test_where_segem_is_installed_makes_no_other_blocks(package: Path) -> None:
    code = f"from segem.stages.segmentation.identity import code_digest\nprint(code_digest({STARTS[0]!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == code_digest(STARTS[0])


# What is written.


@pytest.mark.parametrize("start", STARTS)
def test_neither_training_nor_progress_nor_the_command_line_is_part_of_the_identity(start: str) -> None:
    assert {name for name in modules_of(start) if not name.startswith(COMPUTING)} == set()
    assert {f"segem.learn.{name}" for name in TRAINING} & set(modules_of(start)) == set()
    assert not [name for name in reached_from(start) if name.startswith(("segem.cli", "segem.stages.training"))]


def test_the_names_of_training_modules_are_those_of_files() -> None:
    assert [name for name in TRAINING if not (ROOT / "segem" / "learn" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("start", STARTS)
def test_no_import_on_the_way_is_written_so_that_it_cannot_be_read(start: str) -> None:
    for name in reached_from(start):
        place = ROOT.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom):
                assert "*" not in [alias.name for alias in node.names], f"{name}: import by its name what is needed"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                assert isinstance(node.args[0], ast.Constant), f"{name}:{node.lineno}: the identity cannot see this"


@pytest.mark.parametrize("layer", COMPUTING)
def test_no_layer_that_computes_reads_from_a_file_what_it_computes_with(layer: str) -> None:
    files = [file for file in ROOT.joinpath(*layer.split(".")).rglob("*") if file.is_file()]
    assert [file for file in files if file.suffix not in (".py", ".pyc")] == []


def test_versions_are_those_of_what_computes() -> None:
    segment, crf, cells, baseline = (set(versions_of(start)) for start in STARTS)
    assert {"python", "numpy", "torch", "torchvision", "openvino", "nncf"} <= segment
    assert crf == cells == {"python", "numpy", "scipy"}
    assert baseline == {"python", "numpy", "scipy", "scikit-image", "scikit-learn"}
    assert "monai" not in segment  # it augments, in training
