"""What the bundled model expects of real sections that it has not seen, of tissue that it knows and of another look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segem.config import ExecutionConfig, IngestConfig, SegmentConfig
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.records.expected import Abstains, Expected
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest

RUN = "r"


@pytest.mark.slow
def test_the_bundled_model_knows_fly_and_abstains_on_another_microscope(em_data: Path, tmp_path: Path) -> None:
    """A focused ion beam's sections are given as if their voxels were those of the fly: their looks give them away."""
    workspace, truth = Workspace(tmp_path / "w"), tifffile.imread(em_data / "isbi2012" / "train-labels.tif")[21:23]
    fly = tifffile.imread(em_data / "isbi2012" / "train-volume.tif")[21:23]
    milled = np.stack([np.asarray(Image.open(path)) for path in sorted((em_data / "fibsem" / "raw").iterdir())[:2]])
    for name, image in {"fly": fly, "milled": milled}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")
        ingest(IngestConfig(name=name, source=tmp_path / f"{name}.tif", voxel_nm=(50, 4, 4)), workspace)
        segment(name, RUN, SegmentConfig(runtime="torch"), ExecutionConfig(device="cpu"), workspace)
    found = {volume.name: volume.expected for volume in evaluate(RUN, workspace).volumes}
    mask = np.asarray(Volume.open(workspace.result(RUN, "fly")).label("membrane")[:])
    measured = Confusion.count((truth == 0).astype(np.uint8), mask).iou
    assert isinstance(found["fly"], Expected)
    assert found["fly"].like == "isbi"
    assert found["fly"].iou.low < measured < found["fly"].iou.high
    assert found["fly"].iou.high - found["fly"].iou.low < 0.15
    assert isinstance(found["milled"], Abstains)
    assert "too unlike" in found["milled"].abstains
    assert len(found["milled"].reasons) == 3
