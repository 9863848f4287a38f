"""Scores the methods that need no labels on the labelled public stacks.

    .venv/bin/python benchmarks/baselines.py --data-root DIR [--choose]

Each method runs as `segem baseline` runs it, on a whole stack: ISBI 2012 sections 0-23, Drosophila VNC sections 0-9,
with its default settings. No label is used to fit. IoU is pooled over all pixels of a stack; V_rand and V_info are
means over its sections. --choose scores other settings on ISBI sections 0-14 alone, which is how the defaults were
chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from judged import rand_and_info
from machine import provenance

from segem.config import BaselineConfig, load_manifest, parse
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.stages.segmentation.baseline import baseline
from segem.stages.volumes.ingest import ingest

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS: tuple[dict[str, Any], ...] = (
    {"method": "kmeans"},
    {"method": "kmeans", "sigma_px": 2},
    {"method": "kmeans-features"},
    {"method": "watershed"},
    {"method": "ncut"},
)
CHOICES: tuple[dict[str, Any], ...] = (
    *({"method": "kmeans", "sigma_px": sigma} for sigma in (0, 1, 1.5, 2, 2.5, 3)),
    *(
        {"method": "kmeans-features", "features": {"sigmas_px": sigmas, "clusters": clusters}}
        for sigmas in ((2,), (1, 2, 4), (1, 2, 4, 8))
        for clusters in (2, 3)
    ),
    *(
        {"method": "watershed", "watershed": {"sigma_px": sigma, "depth": depth, "width_px": width}}
        for sigma, depth, width in ((2, 1, 5), (2, 1.2, 5), (2, 1.4, 5), (2, 1.2, 7), (1.5, 1.4, 5), (2.5, 1.2, 7))
    ),
    *(
        {"method": "ncut", "ncut": {"superpixel_px": area, "darkness": darkness, "cut": cut, "width_px": width}}
        for area, darkness, cut, width in ((300, 1, 0.1, 7), (300, 1, 0.15, 7), (200, 1, 0.1, 7), (300, 0.7, 0.1, 7))
    ),
)
CHOSEN_ON = range(15)


def main() -> None:
    """Print one row of scores for each volume and setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--choose", action="store_true", help="score other settings on ISBI sections 0-14")
    arguments = parser.parse_args()
    print(provenance())
    print("| volume | sections | settings | IoU | V_rand | V_info | s/Mpx |\n|---|---|---|---|---|---|---|")
    manifest = load_manifest(ROOT / "data" / "manifests" / "isbi-vnc.yaml", arguments.data_root)
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        for entry in manifest.volumes:
            if entry.labels is None or (arguments.choose and entry.name != "isbi"):
                continue
            volume = Volume.open(ingest(entry.ingest_config(), space).path)
            sections = CHOSEN_ON if arguments.choose else range(volume.shape[0])
            for number, values in enumerate(CHOICES if arguments.choose else DEFAULTS):
                print(_row(volume, sections, values, f"r{number}", space), flush=True)


def _row(volume: Volume, sections: range, values: dict[str, Any], run: str, space: Workspace) -> str:
    started = time.perf_counter()
    baseline(volume.name, run, parse(BaselineConfig, values), space)
    seconds = time.perf_counter() - started
    pixels, cells = Confusion(), SegmentationSums.nothing()
    mask = Volume.open(space.result(run, volume.name)).label("baseline")
    for z in sections:
        truth, found = read_section(volume.label("truth"), z), read_section(mask, z)
        pixels += Confusion.count(truth, found)
        cells += SegmentationSums.count(truth, found * 255)
    v_rand, v_info = rand_and_info(cells)
    z, y, x = volume.shape
    said = ", ".join(f"{key}={value}" for key, value in values.items() if key != "method")
    return (
        f"| {volume.name} | {sections.start}-{sections.stop - 1} | {values['method']} {said} | {pixels.iou:.3f} "
        f"| {v_rand:.3f} | {v_info:.3f} | {seconds / (z * y * x / 1e6):.1f} |"
    )


if __name__ == "__main__":
    main()
