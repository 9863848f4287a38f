"""Scores a model, and K-means, on mouse cortex (SNEMI3D): another animal, stain and pixel size than that of unet-em.

    .venv/bin/python benchmarks/other_tissue.py --data-root DIR [--model unet-em]

The labels of SNEMI3D number the neurons. Membrane is what belongs to none of them (id 0: membrane, the space between
cells, myelin) and, where two neurons touch, a border of two pixels between their numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from held_out import score_volumes
from machine import provenance
from skimage.segmentation import find_boundaries

from segem.config import IngestConfig, LabelSource
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model
from segem.stages.volumes.ingest import ingest

VOLUMES = ("ac4", "ac3")
VOXEL_NM = (30.0, 6.0, 6.0)


def main() -> None:
    """Print one line of scores for each volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", type=Path, required=True, help="holds snemi/ac3 and snemi/ac4, each raw/ and ids/"
    )
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--views", type=int, default=1, choices=(1, 2, 4, 8), help="flips and turns to average")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    print(provenance())
    print(f"model {artefact.card.name} {artefact.digest[:12]}, average of {arguments.views} views")
    with tempfile.TemporaryDirectory() as folder:
        volumes = ((volume, range(volume.shape[0])) for volume in labelled(arguments.data_root / "snemi", Path(folder)))
        for name, found in score_volumes(artefact, volumes, arguments.views).items():
            print(f"{name}: {found}")


def labelled(snemi: Path, folder: Path) -> Iterator[Volume]:
    """Ingest each volume with the membrane that follows from its neurons."""
    for name in VOLUMES:
        membranes = folder / f"{name}.tif"
        ids = np.stack([tifffile.imread(path) for path in sorted((snemi / name / "ids").glob("*.tif"))])
        between = np.stack([find_boundaries(section, mode="thick") for section in ids])
        tifffile.imwrite(membranes, ((ids == 0) | between).astype(np.uint8))
        truth = LabelSource(source=membranes, membrane="nonzero")
        config = IngestConfig(name=name, source=snemi / name / "raw", voxel_nm=VOXEL_NM, labels=truth)
        yield Volume.open(ingest(config, Workspace(folder)).path)


if __name__ == "__main__":
    main()
