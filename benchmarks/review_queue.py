"""Measures how much of what is wrong lies in the regions that a review puts first, on sections that no model has seen.

    .venv/bin/python benchmarks/review_queue.py --data-root DIR --work FOLDER [--minutes 6] [--curves FILE.svg]

Folds and models are those of `benchmarks/folds.py`, regions those of the error map. Mergers and splits are those of
`segem.kernels.metrics.merges_splits`, each in the region where it lies. *Share* is what the first tenth of the regions
holds, in parts of what it would hold if the truth had ordered them; *gain* is the same above chance: (share held
- 10 %) / (share held by the truth's order - 10 %). Each volume has a queue of its own; the rows "all" add up what the
first tenth of each holds.

The queue of a review is that of the error map. A second signal, the mergers and splits that borders in doubt let
expect, is compared with it; how much of it to add was chosen on the folds 0 and 1. Intervals are those of a bootstrap
over sections, the volumes apart: neighbouring sections are alike, so they are somewhat too narrow.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from folds import CUTS, HeldOut, predict_folds
from machine import provenance
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.io.workspace import Workspace
from segem.kernels.divided_section import DividedSection
from segem.kernels.errors import Regions, expect_errors_in, find_errors_in, share_of_errors
from segem.kernels.metrics.merges_splits import Join, MergesSplits
from segem.kernels.metrics.section import choose_tolerance, compare_section
from segem.kernels.questions import expect_membrane
from segem.kernels.threshold import threshold_probability

REGION_PX = 256
SHARE = 0.1
RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Section:
    """One section: what is wrong in each region, and by what regions may be ordered."""

    volume: str
    fold: int
    joins: Array
    """Mergers and splits."""
    errors: Array
    """Share of pixels that is wrong."""
    expected_errors: Array
    expected_joins: Array


ORDERS = {"error map": (1.0, 0.0), "expected mergers and splits": (0.0, 1.0), "a quarter of those added": (1.0, 0.25)}
"""What the two count, each as a multiple of its mean over the volume."""


def measure(one: HeldOut) -> Section:
    """Measure one section."""
    regions = Regions.cut((one.truth.shape[0], one.truth.shape[1]), REGION_PX)
    mask = threshold_probability(one.probability, one.threshold)
    pair = compare_section(one.truth, mask, one.pixel_nm, choose_tolerance(one.pixel_nm))
    found = MergesSplits.count(*pair)
    return Section(
        one.volume,
        one.fold,
        count_joins((*found.find_merges(), *found.find_splits()), regions),
        find_errors_in(one.truth, one.probability, one.threshold, regions).ravel(),
        expect_errors_in(one.probability, one.threshold, regions).ravel(),
        expect_joins(DividedSection.divide(one.probability, mask, CellsConfig().sigma_px), one.limit, regions),
    )


def count_joins(joins: Sequence[Join], regions: Regions) -> Array:
    """Return how many places lie in each region."""
    rows = np.searchsorted(regions.rows, [join.y for join in joins], "right") - 1
    columns = np.searchsorted(regions.columns, [join.x for join in joins], "right") - 1
    width = len(regions.columns) - 1
    return np.bincount(rows * width + columns, minlength=(len(regions.rows) - 1) * width).astype(np.float64)


def expect_joins(section: DividedSection, limit: float, regions: Regions) -> Array:
    """Return how many mergers and splits the borders in doubt let expect in each region.

    Each place counts by the chance that the mask is wrong there, spread along its ridge.
    """
    expected = np.zeros(section.parts.size)
    for which, pixels, chances in (
        (section.tree.link_of[section.seams.of], section.seams.pixels, expect_membrane(section.tree.strength, limit)),
        (section.lines.of, section.lines.pixels, 1 - expect_membrane(section.lines.borders.mean, limit)),
    ):
        length = np.bincount(which, minlength=chances.size)
        expected += np.bincount(pixels, (chances / np.maximum(length, 1))[which], expected.size)
    image = expected.reshape(section.parts.shape)
    return np.concatenate([regions.sum_band(image[band]) for band in regions.bands])


def hold(volumes: Sequence[Sequence[Section]], weights: tuple[float, float], share: float) -> Array:
    """Return what the first regions of each volume hold of mergers and splits, and of wrong pixels.

    Each by an order, by that of the truth, by chance, and of all regions, (2, 4).
    """
    held = np.zeros((2, 4))
    for sections in volumes:
        errors, joins = gather(sections, "expected_errors"), gather(sections, "expected_joins")
        order = weights[0] * errors / errors.mean() + weights[1] * joins / joins.mean()
        for k, what in enumerate(("joins", "errors")):
            wrong = gather(sections, what)
            shares = share_of_errors(order, wrong, share), share_of_errors(wrong, wrong, share), share, 1
            held[k] += wrong.sum() * np.array(shares)
    return held


def find_gains(volumes: Sequence[Sequence[Section]], weights: tuple[float, float]) -> Array:
    """Return share and gain of mergers and splits, and share and gain of pixels that are wrong; see above."""
    model, oracle, chance, _ = hold(volumes, weights, SHARE).T
    return np.stack([model / oracle, (model - chance) / (oracle - chance)], axis=1).ravel()


def gather(sections: Sequence[Section], what: str) -> Array:
    """Return a measure of all regions of some sections."""
    return np.concatenate([getattr(one, what) for one in sections])


def part(sections: Sequence[Section]) -> list[list[Section]]:
    """Return the sections of each volume."""
    volumes = [[one for one in sections if one.volume == volume] for volume in CUTS]
    return [volume for volume in volumes if volume]


def tell(name: str, sections: Sequence[Section]) -> None:
    """Print a row for each order."""
    rng = np.random.default_rng(0)
    volumes = part(sections)
    draws = [
        [[volume[k] for k in rng.integers(0, len(volume), len(volume))] for volume in volumes] for _ in range(RESAMPLES)
    ]
    for title, weights in ORDERS.items():
        value = find_gains(volumes, weights)
        low, high = np.percentile([find_gains(draw, weights) for draw in draws], (2.5, 97.5), axis=0)
        cells = [f"{value[k]:.2f} ({low[k]:.2f} to {high[k]:.2f})" for k in range(len(value))]
        regions = sum(one.errors.size for one in sections)
        print(f"| {name} | {regions} | {title} | {' | '.join(cells)} |", flush=True)


def draw_curves(sections: Sequence[Section], path: Path) -> None:
    """Draw what the first regions of the queue hold, from none to all of them."""
    shares = np.linspace(0, 1, 51)[1:]
    held = np.array([hold(part(sections), ORDERS["error map"], share) for share in shares])
    percent = 100 * held[:, :, :3] / held[:, :, 3:]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    lines = (("error map", "-"), ("order of the truth", "--"), ("chance", ":"))
    for k, (axes, title) in enumerate(zip(figure.subplots(1, 2), ("mergers and splits", "wrong pixels"), strict=True)):
        for curve, (label, style) in zip(percent[:, k].T, lines, strict=True):
            axes.plot([0, *100 * shares], [0, *curve], style, label=label)
        axes.set(title=title, xlabel="regions looked at, %", ylabel=f"{title} in them, %", xlim=(0, 100), ylim=(0, 100))
        axes.legend(loc="lower right", frameon=False)
    with rc_context({"svg.hashsalt": "review", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="workspace of models and probabilities")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each training")
    parser.add_argument("--curves", type=Path, help="an SVG to be drawn")
    arguments = parser.parse_args()
    print(provenance())
    work = Workspace(arguments.work)
    sections = [measure(one) for one in predict_folds(arguments.data_root, work, arguments.minutes)]
    print("\n| volume | regions | order | mergers and splits: share | gain | wrong pixels: share | gain |")
    print("|---" * 7 + "|")
    for folds in ((0, 1), (2, 3), (0, 1, 2, 3)):
        chosen = [one for one in sections if one.fold in folds]
        for volume in CUTS:
            tell(f"{volume}, folds {folds[0]} to {folds[-1]}", [one for one in chosen if one.volume == volume])
        tell(f"all, folds {folds[0]} to {folds[-1]}", chosen)
    if arguments.curves is not None:
        draw_curves(sections, arguments.curves)


if __name__ == "__main__":
    main()
