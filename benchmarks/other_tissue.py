"""Scores a model, and K-means, on whole stacks of a tissue it has not seen: other animal, stain and pixel size.

    .venv/bin/python benchmarks/other_tissue.py --data-root DIR [--model unet-em] [--volumes ac4 ac3] [--sections 18 24]

Mouse cortex (`ac4`, `ac3` of SNEMI3D) for models of the fly, and the flies (`isbi`, `stack1` of the VNC) for models of
the mouse; whether a model has seen a stack is on its card. No label of the stack is used but to judge. The labels of
SNEMI3D number the neurons. Membrane is two pixels of each neuron beside another one or 0, and 0 itself (membrane, the
space between cells, myelin), as `data/manifests/all.yaml` has it. Sections are shown to the model at the pixel size it
learned at, as a run does, unless that is switched off, or at several; it is scored at their own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from held_out import score_volumes
from machine import provenance

from segem.config import Resampling, load_manifest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model
from segem.stages.volumes.ingest import ingest

MANIFEST = Path(__file__).resolve().parent.parent / "data" / "manifests" / "all.yaml"
VOLUMES = ("ac4", "ac3", "isbi", "stack1")


def main() -> None:
    """Print one line of scores for each volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", type=Path, required=True, help="holds the stacks that data/manifests/all.yaml names"
    )
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--views", type=int, default=1, choices=(1, 2, 4, 8), help="flips and turns to average")
    parser.add_argument("--volumes", nargs="+", choices=VOLUMES, default=VOLUMES[:2])
    parser.add_argument("--sections", nargs=2, type=int, metavar=("FIRST", "STOP"), help="all when absent")
    parser.add_argument("--resample", choices=get_args(Resampling), default="auto")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    print(provenance())
    print(f"model {artefact.card.name} {artefact.digest[:12]}, average of {arguments.views} views")
    with tempfile.TemporaryDirectory() as folder:
        labelled = _labelled(arguments.volumes, arguments.data_root, Workspace(Path(folder)))
        volumes = ((volume, range(*arguments.sections or (0, volume.shape[0]))) for volume in labelled)
        for name, found in score_volumes(artefact, volumes, arguments.views, resample=arguments.resample).items():
            print(f"{name}: {found}")


def _labelled(names: list[str], data_root: Path, work: Workspace) -> Iterator[Volume]:
    for entry in load_manifest(MANIFEST, data_root).volumes:
        if entry.name in names:
            yield Volume.open(ingest(entry.ingest_config(), work).path)


if __name__ == "__main__":
    main()
