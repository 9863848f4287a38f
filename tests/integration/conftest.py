"""A workspace with one small volume and one small model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segem.config import IngestConfig
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, save_artefact
from segem.learn.models.registry import build
from segem.records.card import ModelCard
from segem.stages.volumes.ingest import ingest

OPTIONS = {"features": 2, "depth": 2}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    space = Workspace(tmp_path / "workspace")
    space.prepare()
    return space


@pytest.fixture
def artefact(workspace: Workspace) -> Artefact:
    return make_artefact(workspace, seed=0)


def make_artefact(workspace: Workspace, seed: int, name: str = "tiny") -> Artefact:
    torch.manual_seed(seed)
    net = build("unet", OPTIONS).eval()
    with torch.inference_mode():
        # Random weights lean to one side; centred on noise, they call half of it membrane.
        net.head.bias -= net(torch.randn(1, 1, 64, 64)).median()
    card = ModelCard(name=name, architecture="unet", options=OPTIONS, threshold=0.5)
    return save_artefact(workspace.models / name / "1", card, net)


def make_volume(
    workspace: Workspace,
    folder: Path,
    shape: tuple[int, int, int] = (18, 300, 290),
    change: int | None = None,
    name: str = "noise",
) -> str:
    """Ingest noise; `change` alters one voxel of that section."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if change is not None:
        image[change, 5, 5] ^= 1
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / "noise.tif", image, photometric="minisblack")
    ingest(
        IngestConfig(name=name, source=folder / "noise.tif", voxel_nm=(50, 4, 4)),
        workspace,
    )
    return name
