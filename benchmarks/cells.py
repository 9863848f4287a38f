"""Scores masks before and after they are closed by the borders of cells, on sections that no model has seen.

    .venv/bin/python benchmarks/cells.py --data-root DIR --work FOLDER [--minutes 6]

Four contiguous folds of the sections of each volume. A model of a fold is trained on the other folds; sections next to
its training sections choose its threshold and the limit of its cells (`segem.kernels.metrics.divisions.choose_limit`).
Models and probabilities that are in the folder already are used as they are; it is a workspace.

Three proposals are compared: the plain mask, the same mask closed, and the probability at whichever threshold is best
for the volume, which is how V_rand and V_info of a probability are scored. Intervals are those of a paired bootstrap
over sections, the volumes apart: neighbouring sections are alike, so they are somewhat too narrow. Mergers and splits
are those of `segem.kernels.metrics.merges_splits`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from folds import predict_folds
from machine import provenance
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.io.workspace import Workspace
from segem.kernels.cells import close_membrane, find_cells
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.merges_splits import MergesSplits
from segem.kernels.metrics.section import choose_tolerance, compare_section
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import threshold_probability

RESAMPLES = 10_000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One section: V_rand and V_info of each proposal, counts of pixels and errors of cells."""

    plain: Array
    closed: Array
    at_thresholds: Array
    """Of the probability, (thresholds, 2)."""
    counts_plain: Array
    """True and false positives, false negatives."""
    counts_closed: Array
    errors_plain: tuple[int, int]
    """Mergers and splits."""
    errors_closed: tuple[int, int]


@dataclass(frozen=True)
class Volumes:
    """The scored sections of some volumes, each volume by itself."""

    sections: dict[str, list[Scored]]

    @cached_property
    def draws(self) -> dict[str, NDArray[np.int64]]:
        """Sections of each volume, drawn with replacement."""
        rng = np.random.default_rng(0)
        return {name: rng.integers(0, len(all_), (RESAMPLES, len(all_))) for name, all_ in self.sections.items()}

    def off(self, what: str) -> tuple[Array, Array]:
        """Return 1 - V_rand and 1 - V_info of a proposal, pooled over sections, and those of all draws, (draws, 2)."""
        sums, drawn, count = np.zeros(2), np.zeros((RESAMPLES, 2)), 0
        for name, sections in self.sections.items():
            values = np.array([getattr(section, what) for section in sections])
            total, totals = values.sum(axis=0), values[self.draws[name]].sum(axis=1)
            if what == "at_thresholds":
                # The best threshold of the volume, in each draw again.
                total, totals = total.max(axis=0), totals.max(axis=1)
            sums, drawn, count = sums + total, drawn + totals, count + len(sections)
        return 1 - sums / count, 1 - drawn / count

    def iou(self, what: str) -> tuple[float, Array]:
        """Return the membrane IoU of a mask, averaged over volumes, and that of all draws."""
        values, drawn = [], []
        for name, sections in self.sections.items():
            counts = np.array([getattr(section, what) for section in sections])
            total, totals = counts.sum(axis=0), counts[self.draws[name]].sum(axis=1)
            values.append(total[0] / total.sum())
            drawn.append(totals[:, 0] / totals.sum(axis=1))
        return float(np.mean(values)), np.mean(drawn, axis=0)

    def errors(self, what: str) -> str:
        """Return mergers and splits of a proposal."""
        found = np.sum([getattr(section, what) for each in self.sections.values() for section in each], axis=0)
        return " + ".join(str(number) for number in found)


def score(
    truth: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    threshold: float,
    limit: float,
    pixel_nm: tuple[float, float],
) -> Scored:
    """Score one section."""
    mask = threshold_probability(probability, threshold)
    closed = close_membrane(mask, find_cells(probability, CellsConfig().sigma_px, limit))
    sums = SegmentationSums.count(truth, probability)
    offs, counts, errors = [], [], []
    for one in (mask, closed):
        cells, found = SegmentationSums.count(truth, one * np.uint8(255)), Confusion.count(truth, one)
        offs.append(np.array([cells.rand[0, 0], cells.information[0, 0]]))
        counts.append(np.array([found.tp, found.fp, found.fn], float))
        pair = MergesSplits.count(*compare_section(truth, one, pixel_nm, choose_tolerance(pixel_nm)))
        errors.append((pair.merges, pair.splits))
    at_thresholds = np.stack([sums.rand[:, 0], sums.information[:, 0]], axis=1)
    return Scored(offs[0], offs[1], at_thresholds, counts[0], counts[1], errors[0], errors[1])


def interval(values: Array) -> str:
    """Return the middle 95 % of the draws of a change in per cent."""
    low, high = np.percentile(values, (2.5, 97.5))
    return f"({100 * low:+.0f} to {100 * high:+.0f})"


def tell(name: str, volumes: Volumes) -> None:
    """Print the rows of one volume, or of all."""
    closed, closed_drawn = volumes.off("closed")
    for title, what in (("plain mask", "plain"), ("probability", "at_thresholds")):
        before, before_drawn = volumes.off(what)
        cuts = (
            f"{100 * (closed[i] / before[i] - 1):+.0f} % {interval(closed_drawn[:, i] / before_drawn[:, i] - 1)}"
            for i in (0, 1)
        )
        errors = volumes.errors("errors_plain") if what == "plain" else ""
        area = f"{volumes.iou('counts_plain')[0]:.4f}" if what == "plain" else ""
        print(f"| {name} | {title} | {before[0]:.4f} | {before[1]:.4f} | {' | '.join(cuts)} | {area} | {errors} |")
    (iou, drawn), (_, before_drawn) = volumes.iou("counts_closed"), volumes.iou("counts_plain")
    low, high = np.percentile(drawn - before_drawn, (2.5, 97.5))
    change = f"{iou:.4f} ({low:+.4f} to {high:+.4f})"
    errors = volumes.errors("errors_closed")
    print(f"| {name} | closed mask | {closed[0]:.4f} | {closed[1]:.4f} | | | {change} | {errors} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="workspace of models and probabilities")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each training")
    arguments = parser.parse_args()
    print(provenance())
    scored: dict[str, list[Scored]] = {}
    for one in predict_folds(arguments.data_root, Workspace(arguments.work), arguments.minutes):
        section = score(one.truth, one.probability, one.threshold, one.limit, one.pixel_nm)
        scored.setdefault(one.volume, []).append(section)
    print("| volume | proposal | 1 - V_rand | 1 - V_info | closed: V_rand | closed: V_info | IoU | mergers + splits |")
    print("|---" * 8 + "|")
    for name, sections in scored.items():
        tell(name, Volumes({name: sections}))
    tell("all", Volumes(scored))


if __name__ == "__main__":
    main()
