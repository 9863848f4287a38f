"""Measures what hot pixels, bars, padding and rotated corners cost K-means and a model, and that tissue is left alone.

    .venv/bin/python benchmarks/robustness.py [--data-root DIR] [--sections 4] [--side 512] [--model unet-em]
        [--only NAME ...]

Each stack is spoiled in the ways in which microscopes and alignment spoil data, ingested as any source, and segmented.
The IoU is taken over the tissue alone, and compared with that of the same tissue unspoiled; for the rotated stack that
is the tissue rotated in the same way, with mirrored instead of black corners. The second table says what of each real
stack is marked as no tissue, which must be nothing, and how far its fence is from its extremes.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from machine import provenance
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from segem.config import BaselineConfig, ExecutionConfig, IngestConfig, LabelSource, SegmentConfig, SynthConfig
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.kernels.synth import synthesize
from segem.kernels.truth import UNKNOWN
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest

VOXEL_NM = (50.0, 4.0, 4.0)
LABELLED = {
    "isbi": ("isbi2012/train-volume.tif", "isbi2012/train-labels.tif", "zero"),
    "vnc": ("vnc/stack1/raw", "vnc/stack1/membranes", "nonzero"),
}
REAL = (
    "isbi2012/train-volume.tif",
    "isbi2012/test-volume.tif",
    "vnc/stack1/raw",
    "vnc/stack2/raw",
    "snemi/ac3/raw",
    "snemi/ac4/raw",
    "fibsem/raw",
)
DEGREES = 7


@dataclass(frozen=True)
class Case:
    """A stack, spoiled and not, with the truth where it is scored."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    """`UNKNOWN` where nothing is scored, as in `clean_truth`."""
    clean: NDArray[Any]
    clean_truth: NDArray[np.uint8]


def spoil(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Iterator[Case]:
    """Yield a stack spoiled in each way."""
    rng = np.random.default_rng(0)
    wide = image.astype(np.uint16) * 16
    for share in (1e-5, 1e-4, 1e-3):
        struck, hot = wide.copy(), rng.random(image.shape) < share
        struck[hot] = 65535
        known = np.where(hot, np.uint8(UNKNOWN), truth)
        yield Case(f"hot pixels {share:g}", struck, known, wide, known)
    depth, height, width = image.shape
    barred, unknown = image.copy(), np.zeros(image.shape[1:], bool)
    unknown[-height // 12 : -height // 16, width // 20 : width // 3] = True
    barred[:, unknown] = 255
    known = np.where(unknown, np.uint8(UNKNOWN), truth)
    yield Case("scale bar", barred, known, image, known)
    barred, unknown = image.copy(), np.zeros(image.shape[1:], bool)
    unknown[-height // 8 :] = True
    barred[:, unknown] = 0
    letters = rng.random((height // 16, width // 8)) < 0.3
    text = np.kron(letters, np.ones((4, 4), bool))[: height // 12, : width // 2]
    barred[:, -height // 10 : -height // 10 + text.shape[0], 20 : 20 + text.shape[1]][:, text] = 255
    known = np.where(unknown, np.uint8(UNKNOWN), truth)
    yield Case("data bar", barred, known, image, known)
    for value in (0, 255):
        for factor in (1.25, 2.0):
            shape = (depth, int(height * factor), int(width * factor))
            at = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape[1:], image.shape[1:], strict=True))
            canvas, known = np.full(shape, value, np.uint8), np.full(shape, UNKNOWN, np.uint8)
            canvas[:, *at], known[:, *at] = image, truth
            yield Case(f"padding {value}, {1 - factor**-2:.0%} of the canvas", canvas, known, image, truth)
    edge = slice(0, width // 8)
    known = truth.copy()
    known[:, :, edge] = UNKNOWN
    for what, noise in (
        ("by 2 levels", rng.integers(0, 5, image.shape)),
        ("by 2 levels, white", rng.integers(251, 256, image.shape)),
    ):
        padded = image.copy()
        padded[:, :, edge] = noise[:, :, edge]
        yield Case(f"strip of padding that varies {what}", padded, known, image, known)
    for quality in (75, 90):
        padded = image.copy()
        padded[:, :, edge] = 0
        pressed, plain = (np.stack([compress(section, quality) for section in stack]) for stack in (padded, image))
        yield Case(f"strip of padding, JPEG {quality}", pressed, known, plain, known)
    for order in (1, 3):
        turn = {"axes": (1, 2), "reshape": False}
        corners = ndimage.rotate(np.ones(image.shape[1:], np.float32), DEGREES, reshape=False, order=1) < 0.999
        turned_truth = ndimage.rotate(truth, DEGREES, order=0, mode="mirror", **turn)
        known = np.where(ndimage.binary_dilation(corners, iterations=3), np.uint8(UNKNOWN), turned_truth)
        black, mirrored = (ndimage.rotate(image, DEGREES, order=order, mode=m, **turn) for m in ("constant", "mirror"))
        yield Case(f"rotated by {DEGREES} degrees, order {order}", black, known, mirrored, known)


def compress(section: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return what JPEG makes of a section."""
    buffer = io.BytesIO()
    Image.fromarray(section).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def score(image: NDArray[Any], truth: NDArray[np.uint8], model: str) -> dict[str, float]:
    """Return the IoU of K-means and of a model on a stack."""
    with tempfile.TemporaryDirectory() as folder:
        tifffile.imwrite(Path(folder, "a.tif"), image, photometric="minisblack")
        workspace = Workspace(Path(folder, "w"))
        ingest(IngestConfig(name="a", source=Path(folder, "a.tif"), voxel_nm=VOXEL_NM), workspace)
        baseline("a", "r", BaselineConfig(), workspace)
        segment("a", "r", SegmentConfig(model=model), ExecutionConfig(), workspace)
        result = Volume.open(workspace.result("r", "a"))
        masks = {"K-means": result.label("baseline"), model: result.label("membrane")}
        return {
            name: sum((Confusion.count(known, read_section(mask, z)) for z, known in enumerate(truth)), Confusion()).iou
            for name, mask in masks.items()
        }


def stacks(root: Path | None, sections: int, side: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield name, image and truth of a synthetic stack, and of the real ones that are there."""
    drawn = synthesize(SynthConfig(shape=(sections, side, side)))
    yield "synthetic", drawn.image, drawn.truth
    if root is None:
        return
    for name, (raw, labels, membrane) in LABELLED.items():
        with tempfile.TemporaryDirectory() as folder:
            truth = LabelSource(source=root / labels, membrane=membrane)
            config = IngestConfig(
                name=name,
                source=root / raw,
                voxel_nm=VOXEL_NM,
                trust_voxel=True,
                labels=truth,
                box=f":{sections},:{side},:{side}",
            )
            volume = Volume.open(ingest(config, Workspace(Path(folder))).path)
            yield name, np.asarray(volume.raw[:]), np.asarray(volume.label("truth")[:])


def look_at(source: Path) -> str:
    """Return what is marked of a real stack, and its fence, as a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        config = IngestConfig(name="a", source=source, voxel_nm=VOXEL_NM, trust_voxel=True)
        volume = Volume.open(ingest(config, Workspace(Path(folder))).path)
        known = volume.statistics
        return f"| {volume.outside_voxels} | {known.minimum}-{known.maximum} | {known.low}-{known.high} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder of the public data sets")
    parser.add_argument("--sections", type=int, default=4)
    parser.add_argument("--side", type=int, default=512, help="pixels along each side that are taken of a section")
    parser.add_argument("--model", default="unet-em")
    parser.add_argument("--only", nargs="*", default=[], help="words of the cases to measure")
    arguments = parser.parse_args()
    print(provenance())
    print("\n| stack | case | method | clean IoU | spoiled IoU | difference |\n|---|---|---|---|---|---|")
    for name, image, truth in stacks(arguments.data_root, arguments.sections, arguments.side):
        done: dict[bytes, dict[str, float]] = {}
        for case in spoil(image, truth):
            if arguments.only and not any(word in case.name for word in arguments.only):
                continue
            # Several cases have the same clean stack, scored in the same places.
            key = case.clean.tobytes() + case.clean_truth.tobytes()
            clean = done.setdefault(key, {}) or score(case.clean, case.clean_truth, arguments.model)
            done[key] = clean
            for method, found in score(case.image, case.truth, arguments.model).items():
                change = found - clean[method]
                print(
                    f"| {name} | {case.name} | {method} | {clean[method]:.4f} | {found:.4f} | {change:+.4f} |",
                    flush=True,
                )
    if arguments.data_root is not None:
        print("\n| stack | voxels marked | extremes | fence |\n|---|---|---|---|")
        for source in REAL:
            print(f"| {source} {look_at(arguments.data_root / source)}", flush=True)


if __name__ == "__main__":
    main()
