"""Measures how long all scores of a volume take, and V_rand's table beside scikit-image.

    .venv/bin/python benchmarks/scores.py [--sections 20] [--edge 1024] [--full]

A synthetic volume, its membrane blurred and with noise as a probability, and K-means as the other mask are written to
a temporary folder. Then both masks are compared with the truth, by the code that the report calls, two sections at a
time. The time is that of all scores; peak memory is that of the process, Python included. The second table
compares adapted Rand error and both halves of VOI together, for each section, with scikit-image called twice; ids as
they are, ids times 10,007, and ids times 2^40 + 3, which scikit-image cannot take, so they are renumbered for it first.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import provenance
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from segem.config import SynthConfig
from segem.kernels.kmeans import fit_two_means, mark_membrane
from segem.kernels.metrics.adapted_rand import AdaptedRandSums
from segem.kernels.metrics.contingency import Overlaps
from segem.kernels.metrics.section import SectionMask, choose_tolerance
from segem.kernels.metrics.variation import VariationSums
from segem.kernels.normalize import histogram
from segem.kernels.synth import draw_sections
from segem.stages.reporting.tally import MaskTally, count_mask

PIXEL_NM = (4.0, 4.0)


def main() -> None:
    """Print seconds, memory and scores, and the comparison with scikit-image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, default=20)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--full", action="store_true", help="the warping error as well")
    arguments = parser.parse_args()
    print(provenance())
    with tempfile.TemporaryDirectory() as folder:
        files = write_sections(Path(folder), arguments.sections, arguments.edge)
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            tallies = list(pool.map(partial(score, full=arguments.full), files))
        seconds = time.perf_counter() - started
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{len(files)} sections of {arguments.edge}^2, two masks: {seconds:.1f} s, {peak_gb:.2f} GB at most")
        for name, each in zip(("model", "K-means"), zip(*tallies, strict=True), strict=True):
            total = sum(each, MaskTally())
            print(name, {key: round(value, 4) for key, value in total.values().items() if isinstance(value, float)})
        compare(files)


def write_sections(folder: Path, sections: int, edge: int) -> list[Path]:
    """Write truth, probability and K-means mask of each section, and return the files."""
    rng, files = np.random.default_rng(0), []
    for z, drawn in enumerate(draw_sections(SynthConfig(shape=(sections, edge, edge)))):
        noise = ndimage.gaussian_filter(rng.normal(0, 700, drawn.truth.shape), 3)
        sure = np.clip(ndimage.gaussian_filter(drawn.truth * 510.0, 1.5) - 80 + noise, 0, 255).astype(np.uint8)
        kmeans = mark_membrane(drawn.image, fit_two_means(histogram(drawn.image)))
        files.append(folder / f"{z}.npz")
        np.savez(files[-1], truth=drawn.truth, sure=sure, kmeans=kmeans)
    return files


def score(file: Path, *, full: bool) -> tuple[MaskTally, MaskTally]:
    """Compare both masks of a section with its truth, and look for the places of mergers and splits of the first."""
    with np.load(file) as found:
        truth, sure, kmeans = found["truth"], found["sure"], found["kmeans"]
    true = SectionMask.of_truth(truth, PIXEL_NM, choose_tolerance(PIXEL_NM))
    model, joins = count_mask(truth, true, sure >= 128, sure, full=full)
    joins.find_merges()
    joins.find_splits()
    return model, count_mask(truth, true, kmeans, full=full)[0]


def compare(files: list[Path]) -> None:
    """Print how long a section takes here and in scikit-image, in milliseconds of processor time."""
    for mask in ("sure", "kmeans"):
        for factor in (1, 10_007, 2**40 + 3):
            ours, theirs = [], []
            for file in files[:5]:
                with np.load(file) as found:
                    true = SectionMask.of_truth(found["truth"], PIXEL_NM, choose_tolerance(PIXEL_NM))
                    segments = true.of_mask(found[mask] >= (128 if mask == "sure" else 1)).segments
                pair = [
                    ids.astype(np.uint64) * np.uint64(factor) if factor > 1 else ids for ids in (true.cells, segments)
                ]
                ours.append(clock(lambda a, b: count(Overlaps.count(a, b)), *pair))
                theirs.append(clock(count_by_scikit_image if factor < 2**31 else renumber_first, *pair))
            ratio = np.median(theirs) / np.median(ours)
            times = f"{np.median(ours):.1f} ms, scikit-image {np.median(theirs):.1f} ms"
            print(f"{mask}, ids x {factor}: {times}: {ratio:.1f} times")


def count(overlaps: Overlaps) -> None:
    """Take adapted Rand error and VOI from one table."""
    rand, variation = AdaptedRandSums.of(overlaps), VariationSums.of(overlaps)
    _ = rand.error, variation.split, variation.merge


def count_by_scikit_image(truth: NDArray[Any], proposal: NDArray[Any]) -> None:
    """Take both by the functions of scikit-image."""
    adapted_rand_error(truth, proposal, ignore_labels=(0,))
    variation_of_information(truth, proposal, ignore_labels=(0,))


def renumber_first(truth: NDArray[Any], proposal: NDArray[Any]) -> None:
    """Take both by scikit-image, after giving the ids small numbers."""
    small = [np.unique(ids, return_inverse=True)[1].reshape(ids.shape) for ids in (truth, proposal)]
    count_by_scikit_image(*small)


def clock(work: Callable[..., None], *arguments: NDArray[Any]) -> float:
    """Return the least milliseconds of processor time of three calls."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        work(*arguments)
        taken.append(1000 * (time.process_time() - started))
    return min(taken)


if __name__ == "__main__":
    main()
