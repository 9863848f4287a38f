"""Scores the fully connected CRF on a model's probability, beside that probability alone.

    .venv/bin/python benchmarks/crf.py --data-root DIR [--model unet-em]

The parameters are chosen on sections that are not tested (CHOICE), by the mean of IoU and V_rand over all volumes;
then the model alone, the parameters of DeepLab, the default and the chosen ones are scored on the test sections of the
manifest. Some of the sections that choose are sections the bundled model was trained on, where its probability is
better than elsewhere. Probabilities are stored in 8 bits before and after, as in a run. Masks are those of a run: the
model's is cut at its own threshold; the CRF takes that for its operating point, and its mask is cut at 0.5. Seconds are
those of one thread, for 512 x 512 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from judged import rand_and_info, seen, tested
from machine import provenance
from numpy.typing import NDArray

from segem.config import CrfConfig
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.crf import refine
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import find_model, geometry_of, load_net
from segem.learn.engine import Engine, choose_device

HEAD = "| {}: w1, sa, sb, w2, sg | volume | IoU | V_rand | V_info | s |\n" + "|---" * 6 + "|"
ROOT = Path(__file__).resolve().parent.parent
CHOICE = {"isbi": (0, 1, 15, 16, 17), "stack1": (6,)}
DEEPLAB_V1 = CrfConfig(w1=5, sa_px=50, sb_grey=10, w2=3, sg_px=3)
DEEPLAB_V2 = CrfConfig(w1=4, sa_px=67, sb_grey=3, w2=3, sg_px=1)
CANDIDATES = tuple(
    CrfConfig(w1=w1, sa_px=sa, sb_grey=sb, w2=w2, sg_px=1)
    for w1, sa, sb, w2 in product((0.5, 1, 2), (16, 50), (10, 20), (0, 1))
)


@dataclass(frozen=True)
class Section:
    """What is scored."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    probability: NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """Of some sections of one volume."""

    iou: float
    v_rand: float
    v_info: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.iou:.4f} | {self.v_rand:.4f} | {self.v_info:.4f} | {self.seconds:.2f}"


def score(sections: list[Section], config: CrfConfig | None, threshold: float) -> Score:
    """Score a CRF, or the model alone."""
    membrane, cells, seconds, pixels = Confusion(), SegmentationSums.nothing(), 0.0, 0
    for section in sections:
        probability, cut = section.probability, threshold
        if config is not None:
            started = time.perf_counter()
            refined = refine((probability / 255).astype(np.float32), section.image, config, threshold)
            seconds += time.perf_counter() - started
            probability, cut = quantize_probability(refined), 0.5
        pixels += probability.size
        membrane += Confusion.count(section.truth, threshold_probability(probability, cut))
        cells += SegmentationSums.count(section.truth, probability)
    return Score(membrane.iou, *rand_and_info(cells), seconds * 512**2 / pixels)


def sections_of(
    volume: Volume, numbers: range | tuple[int, ...], engine: Engine, context: int, stride_px: int
) -> list[Section]:
    """Predict sections as a run does."""
    found = []
    for z in numbers:
        (probability,) = engine.averaged([seen(volume, z, context)], stride_px)
        truth = read_section(volume.label("truth"), z)
        found.append(Section(read_section(volume.raw, z), truth, quantize_probability(probability)))
    return found


def named(config: CrfConfig | None) -> str:
    """Return the settings as the first cells of a row."""
    if config is None:
        return "the model alone"
    return f"{config.w1:g}, {config.sa_px:g}, {config.sb_grey:g}, {config.w2:g}, {config.sg_px:g}"


def main() -> None:
    """Print a table for the choice, and one for the test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "unet-em-train.yaml")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    geometry, threshold = geometry_of(artefact.card), artefact.card.threshold
    print(provenance())
    print(f"model {artefact.card.name} {artefact.digest[:12]}, its own threshold {threshold}")
    choice: dict[str, list[Section]] = {}
    test: dict[str, list[Section]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(load_net(artefact), choose_device("auto"), geometry.context_sections) as engine,
    ):
        for volume, judged in tested(arguments.manifest, arguments.data_root, Workspace(Path(folder))):
            for numbers, kept in ((CHOICE[volume.name], choice), (judged, test)):
                kept[volume.name] = sections_of(volume, numbers, engine, geometry.context_sections, geometry.stride_px)
    print(HEAD.format("choice"))
    merits = {}
    for config in (None, DEEPLAB_V1, DEEPLAB_V2, *CANDIDATES):
        scores = {name: score(sections, config, threshold) for name, sections in choice.items()}
        merits[config] = np.mean([(found.iou + found.v_rand) / 2 for found in scores.values()])
        for name, found in scores.items():
            print(f"| {named(config)} | {name} | {found} |", flush=True)
    chosen = max(CANDIDATES, key=lambda config: merits[config])
    print(f"\nchosen: {named(chosen)}, merit {merits[chosen]:.4f}; the model alone {merits[None]:.4f}\n")
    print(HEAD.format("test"))
    for config in (None, DEEPLAB_V1, DEEPLAB_V2, CrfConfig(), chosen):
        for name, sections in test.items():
            print(f"| {named(config)} | {name} | {score(sections, config, threshold)} |", flush=True)


if __name__ == "__main__":
    main()
