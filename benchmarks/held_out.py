"""Scores a model, and K-means, on the sections of a training manifest that are kept for testing.

    .venv/bin/python benchmarks/held_out.py --data-root DIR [--model unet-em] [--manifest MANIFEST]

Everything runs as in the main job: ingest, the engine, probabilities stored in 8 bits, the mask at the model's own
threshold, and that mask closed by the borders of cells (`segem cells`) at the model's own limit. K-means is fitted to
the test sections alone, which needs no labels and so takes nothing from the test. A model that looks at neighbouring
sections is given those of the whole stack, as in a run; no label of theirs is used.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from judged import rand_and_info, seen, tested
from machine import provenance

from segem.config import CellsConfig, Resampling
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.cells import close_membrane, find_cells
from segem.kernels.kmeans import fit_two_means, mark_membrane
from segem.kernels.metrics.centreline_dice import CentrelineSums
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.section import compare_section
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.normalize import histogram
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import Artefact, find_model
from segem.learn.engine import Engine, choose_device
from segem.learn.scale import choose_scales, geometry_at, net_at

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print one line of scores for each volume with test sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "unet-em-calibration.yaml")
    parser.add_argument("--views", type=int, default=1, choices=(1, 2, 4, 8), help="flips and turns to average")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    print(provenance())
    print(f"model {artefact.card.name} {artefact.digest[:12]}, threshold {artefact.card.threshold}")
    print(f"average of {arguments.views} views")
    for volume, found in score(artefact, arguments.manifest, arguments.data_root, arguments.views).items():
        print(f"{volume}: {found}")


@dataclass(frozen=True)
class Scores:
    """What a model reaches on the test sections of a volume, and K-means."""

    sections: range
    kmeans: float
    iou: float
    v_rand: float
    """Like V_info, of the probability at the best threshold, as the ISBI challenge takes them."""
    v_info: float
    mask_v_rand: float
    """At the model's own threshold, which needs no labels of what is judged."""
    closed_v_rand: float
    """Of that mask, closed."""
    cl_dice: float
    """Of that mask."""

    def __str__(self) -> str:
        return (
            f"sections {self.sections.start}-{self.sections.stop - 1}: IoU K-means {self.kmeans:.4f}, "
            f"model {self.iou:.4f}; V_rand {self.v_rand:.4f}, V_info {self.v_info:.4f} at the best threshold; "
            f"clDice {self.cl_dice:.4f}, V_rand {self.mask_v_rand:.4f} of the mask, {self.closed_v_rand:.4f} closed"
        )


def score(artefact: Artefact, manifest: Path, data_root: Path, views: int) -> dict[str, Scores]:
    """Return the scores of a model on every volume of a manifest that has test sections."""
    with tempfile.TemporaryDirectory() as folder:
        return score_volumes(artefact, tested(manifest, data_root, Workspace(Path(folder))), views)


def score_volumes(
    artefact: Artefact, volumes: Iterable[tuple[Volume, range]], views: int, *, resample: Resampling = "auto"
) -> dict[str, Scores]:
    """Return the scores of a model on some sections of each of some labelled volumes, resampled for it as in a run."""
    found = {}
    limit = artefact.card.merge_below or artefact.card.threshold
    for volume, sections in volumes:
        scales = choose_scales(volume.voxel_size, artefact.card, resample)
        shape = geometry_at(artefact.card, *scales)
        context = shape.context_sections
        pixel_nm = (volume.voxel_size.y, volume.voxel_size.x)
        with Engine(net_at(artefact, *scales), choose_device("auto"), context, views=views) as engine:
            means = fit_two_means(np.sum([histogram(read_section(volume.raw, z)) for z in sections], axis=0))
            model, kmeans, lines = Confusion(), Confusion(), CentrelineSums()
            cells, cut, closed = (SegmentationSums.nothing() for _ in range(3))
            for z in sections:
                image, truth = read_section(volume.raw, z), read_section(volume.label("truth"), z)
                (probability,) = engine.averaged([seen(volume, z, context)], shape.stride_px)
                stored = quantize_probability(probability)
                mask = threshold_probability(stored, artefact.card.threshold)
                shut = close_membrane(mask, find_cells(stored, CellsConfig().sigma_px, limit))
                model += Confusion.count(truth, mask)
                kmeans += Confusion.count(truth, mark_membrane(image, means))
                cells += SegmentationSums.count(truth, stored)
                cut += SegmentationSums.count(truth, 255 * mask)
                closed += SegmentationSums.count(truth, 255 * shut)
                lines += CentrelineSums.count(*compare_section(truth, mask, pixel_nm, 0))
            own = rand_and_info(cut)[0], rand_and_info(closed)[0], float(lines.cl_dice)
            found[volume.name] = Scores(sections, kmeans.iou, model.iou, *rand_and_info(cells), *own)
    return found


if __name__ == "__main__":
    main()
