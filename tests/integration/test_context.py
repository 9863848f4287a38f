"""Nets that see neighbouring sections, isotropic volumes, and nets that see the whole section, through the stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segem.config import ExecutionConfig, IngestConfig, SegmentConfig, Window
from segem.errors import ConfigError
from segem.geometry import around
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import find_model, load_net, save_artefact
from segem.learn.models.registry import ZOO, build
from segem.records.card import ModelCard
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest
from tests.integration.conftest import make_volume
from tests.nets import UNKNOWN_HALO

QUIET = ExecutionConfig(device="cpu")
ISOTROPIC, SECTIONS = (8.0, 8.0, 8.0), (40.0, 4.0, 4.0)


def make_model(workspace: Workspace, architecture: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    card = ModelCard(name="tiny", architecture=architecture, options=options, threshold=0.5)
    save_artefact(workspace.models / "tiny" / "1", card, build(architecture, options).eval())


@pytest.mark.parametrize("voxel_nm", [ISOTROPIC, SECTIONS], ids=["isotropic", "sections"])
@pytest.mark.parametrize("context", [1, 3, 5])
def test_the_stage_gives_what_each_section_gives_with_its_neighbours(
    workspace: Workspace, tmp_path: Path, context: int, voxel_nm: tuple[float, float, float]
) -> None:
    # 19 sections lie in three blocks, so that neighbours come from other blocks, and from beyond the ends.
    image = np.random.default_rng(0).integers(0, 256, (19, 117, 90), np.uint8)
    tifffile.imwrite(tmp_path / "cube.tif", image, photometric="minisblack")
    ingest(IngestConfig(name="cube", source=tmp_path / "cube.tif", voxel_nm=voxel_nm), workspace)
    make_model(workspace, "unet", {"features": 4, "depth": 2, "context_sections": context})
    done = segment("cube", "r", SegmentConfig(model="tiny", tile_px=32), QUIET, workspace)
    assert done.blocks == done.computed == 3
    assert verify("r", workspace) == []

    net, statistics = load_net(find_model("tiny", workspace)), Volume.open(workspace.volume("cube")).statistics
    expected = np.empty(image.shape, np.float32)
    with torch.inference_mode():
        for z in range(len(image)):
            seen = [min(max(z + dz, 0), len(image) - 1) for dz in around(context)]
            logits = net(torch.from_numpy(zscore(image[seen], statistics))[None])
            expected[z] = torch.sigmoid(logits)[0, 0].numpy()
    result = Volume.open(workspace.result("r", "cube"))
    stored = np.asarray(result.raw[...])
    # Folded weights and tiles round otherwise in the last bits, which may turn a rounding to 8 bits here and there.
    assert np.abs(stored - expected * 255).max() <= 0.5 + 255e-5
    assert (stored != quantize_probability(expected)).mean() < 1e-3
    assert (np.asarray(result.label("membrane")[...]) == threshold_probability(stored, done.threshold)).all()
    assert stored.std() > 1


def test_context_is_seen_by_the_test_above(workspace: Workspace) -> None:
    make_model(workspace, "unet", {"features": 4, "depth": 2, "context_sections": 5})
    net, x = load_net(find_model("tiny", workspace)), torch.randn(1, 5, 32, 32)
    with torch.inference_mode():
        for neighbour in range(5):
            other = x.clone()
            other[:, neighbour] += 1
            assert (torch.sigmoid(net(x)) - torch.sigmoid(net(other))).abs().max() > 0.02


@pytest.fixture
def pooled(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a workspace with a volume and a net that pools over its whole input, as DeepLab does."""
    monkeypatch.setitem(ZOO, "pooled", UNKNOWN_HALO["pooled"])
    make_volume(workspace, tmp_path / "source", (3, 150, 131))
    make_model(workspace, "pooled", {})
    return workspace


def test_a_net_that_sees_the_whole_section_cannot_be_cropped(pooled: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"cannot be cropped exactly.*Fix: use stitch: gaussian or hann"):
        segment("noise", "r", SegmentConfig(model="tiny", stitch="crop"), QUIET, pooled)


@pytest.mark.parametrize("window", ["gaussian", "hann"])
def test_a_net_that_sees_the_whole_section_is_blended(pooled: Workspace, window: Window) -> None:
    segment("noise", "r", SegmentConfig(model="tiny", stitch=window, tile_px=64), QUIET, pooled)
    assert verify("r", pooled) == []
    segment("noise", "auto", SegmentConfig(model="tiny", tile_px=64), QUIET, pooled)
    blended, automatic = (np.asarray(Volume.open(pooled.result(run, "noise")).raw[...]) for run in ("r", "auto"))
    assert (blended == automatic).all() == (window == "gaussian")
