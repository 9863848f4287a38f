"""A Prefect server for the session, and data so small that a whole campaign takes a second or two."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flows.launch.local import PREFECT_SETTINGS
from segem.config import SynthConfig
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import build
from segem.records.card import ModelCard
from segem.stages.volumes.synth import synth

OPTIONS = {"features": 2, "depth": 2}


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serve Prefect to the flows of this session, away from the user's own files."""
    os.environ.update({**PREFECT_SETTINGS, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))})
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artefact of a U-Net with a handful of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = ModelCard(name="tiny", architecture="unet", options=OPTIONS, threshold=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_artefact(folder, card, build("unet", OPTIONS))
    return folder


@pytest.fixture(scope="session")
def tiny_stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three stacks of two sections and their truth."""
    root = tmp_path_factory.mktemp("stacks")
    for seed, name in enumerate(("alpha", "Beta_2", "gamma")):
        synth(root / name, SynthConfig(shape=(2, 96, 80), seed=seed))
    return root


@pytest.fixture
def manifest_of(tmp_path: Path, tiny_stacks: Path, tiny_model: Path) -> Callable[..., Path]:
    """Return a function that writes a manifest of the named stacks; `changes` replaces keys of single volumes."""

    def write(*names: str, model: str | Path = tiny_model, changes: dict[str, dict[str, Any]] | None = None) -> Path:
        volumes = [
            {
                "name": name,
                "source": str(tiny_stacks / name / "raw.tif"),
                "voxel_nm": [50, 4, 4],
                "labels": {"source": str(tiny_stacks / name / "truth.tif"), "membrane": "nonzero"},
                **(changes or {}).get(name, {}),
            }
            for name in names
        ]
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump({"name": "tiny", "model": str(model), "volumes": volumes}), encoding="utf-8")
        return path

    return write
