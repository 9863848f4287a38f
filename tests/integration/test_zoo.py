"""Every architecture of the zoo goes the same way: trained, swept over a volume, scored and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tifffile

from segem.config import (
    ExecutionConfig,
    LabelSource,
    Manifest,
    SegmentConfig,
    Split,
    SynthConfig,
    TrainConfig,
    VolumeEntry,
)
from segem.io.workspace import Workspace
from segem.kernels.synth import synthesize
from segem.learn.models.registry import ZOO
from segem.stages.reporting.write import report
from segem.stages.segmentation.segment import segment
from segem.stages.training.train import train

NARROW: dict[str, dict[str, Any]] = {
    "fullres": {"features": 4, "layers": 3},
    "segnet": {"features": 4, "depth": 2},
    "unet": {"features": 4, "depth": 2},
    "unet2015": {"features": 4},
}
WHOLE = ("deeplab-v2-resnet101", "deeplab-v3-resnet50", "deeplab-v3-resnet101")
"""Nets that cannot be narrowed, and take half a minute each."""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    em = synthesize(SynthConfig(shape=(4, 64, 72), seed=1))
    tifffile.imwrite(tmp_path / "em.tif", em.image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "truth.tif", em.truth * 255, photometric="minisblack")
    volume = VolumeEntry(
        name="em",
        source=tmp_path / "em.tif",
        voxel_nm=(50, 4, 4),
        labels=LabelSource(source=tmp_path / "truth.tif", membrane="nonzero"),
        split=Split.model_validate({"train": [0, 2], "validation": [2, 3], "test": [3, 4]}),
    )
    return Manifest(name="m", volumes=(volume,))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in WHOLE else ()) for name in ZOO])
def test_from_labels_to_a_report(name: str, manifest: Manifest, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.prepare()
    options = NARROW.get(name, {"width": 2} if "width" in ZOO[name].options.model_fields else {})
    config = TrainConfig(model=name, architecture=options, steps=2, batch=2, crop_px=32)
    made = train(manifest, "mine", config, workspace, device="cpu")
    assert made.scores[0].sections == (3, 4)

    quiet = ExecutionConfig(device="cpu")
    found = segment("em", "r", SegmentConfig(model="mine", runtime="torch"), quiet, workspace)
    assert found.computed == found.blocks > 0
    made_report = report("r", workspace)
    (scored,) = json.loads(made_report.json.read_text())["volumes"]
    assert scored["state"] == "complete"
    assert scored["iou"] is not None
