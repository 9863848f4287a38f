"""Measures how far yes and no to twenty questions a section put V_rand right, on sections that no model has seen.

    .venv/bin/python benchmarks/review_questions.py --data-root DIR --work FOLDER [--minutes 6]

Folds and models are those of `benchmarks/folds.py`. The simulated reviewer compares the basins on the two sides of a
ridge: "yes" where most of their pixels lie in different true cells. Answers are given in the order of the list, which
is made once for a section and not again after an answer. In random order, the same reviewer is asked about any of the
places that are in doubt.

The constants of `segem.kernels.questions` were chosen on the folds 0 and 1; those of 2 and 3 are shown by themselves.
Intervals are those of a bootstrap over sections, the volumes apart: neighbouring sections are alike, so they are
somewhat too narrow.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from folds import CUTS, HeldOut, predict_folds
from machine import provenance
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.io.workspace import Workspace
from segem.kernels.cells import close_membrane, find_cells
from segem.kernels.divided_section import DividedSection
from segem.kernels.metrics.contingency import Contingency, Overlaps
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import true_cells
from segem.kernels.metrics.segments import thin_segments
from segem.kernels.questions import Doubt, draw_ridge, erase_ridge, find_doubts
from segem.kernels.threshold import threshold_probability

STEPS = (5, 10, 20)
"""Answers to a section."""
ERRING = 0.1
"""Share of wrong answers of the second reviewer."""
TRIES = 3
"""How often it is asked, and how often the order is drawn, since luck has a part in both."""
STARTS = ("plain", "closed")
"""The model's mask, and the same closed by the borders of its cells."""
CHOSE = (0, 1)
"""Folds that constants were chosen on."""
RESAMPLES = 10_000
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Result:
    """1 - V_rand of one section."""

    volume: str
    fold: int
    off: tuple[float, ...]
    """Of the mask, after so many answers in order as `STEPS` says, by the reviewer who errs, and in random order."""
    changes: int
    """Of the answers in order, those that change the mask."""
    places: int
    """In doubt at all."""


class Reviewer:
    """Answers by the truth."""

    def __init__(self, truth: Mask, section: DividedSection) -> None:
        cells = thin_segments(truth == 0)
        self._overlaps = Overlaps.count(section.parts, cells, (section.parts != 0) & (cells != 0))

    def says_yes(self, doubt: Doubt) -> bool:
        """Return whether there is a membrane between the basins on the two sides of a ridge."""
        one, other = (self._find_cell(side) for side in doubt.sides)
        return one != other

    def _find_cell(self, parts: NDArray[np.int64]) -> int:
        """Return the true cell that holds most pixels of some parts."""
        inside = np.isin(self._overlaps.truth, parts)
        pixels = np.bincount(self._overlaps.proposal[inside], self._overlaps.pixels[inside], 1)
        return int(np.argmax(pixels))


def apply(mask: Mask, doubts: Sequence[Doubt], yes: Sequence[bool]) -> Mask:
    """Return the mask after answers."""
    for doubt, answer in zip(doubts, yes, strict=True):
        if answer != doubt.has_membrane:
            change = draw_ridge if answer else erase_ridge
            mask = change(mask, [(int(y), int(x)) for y, x in doubt.ridge], doubt.width_px)
    return mask


def measure_off(truth: Mask, mask: Mask) -> float:
    """Return 1 - V_rand of a mask."""
    return 1 - rand_score(Contingency.count(true_cells(truth, mask), thin_segments(mask == 0))).value


def review(one: HeldOut, start: str) -> Result:
    """Ask about one section."""
    mask = threshold_probability(one.probability, one.threshold)
    if start == "closed":
        mask = close_membrane(mask, find_cells(one.probability, CellsConfig().sigma_px, one.limit))
    section = DividedSection.divide(one.probability, mask, CellsConfig().sigma_px)
    doubts = find_doubts(section, one.limit, section.parts.size)
    reviewer, most = Reviewer(one.truth, section), max(STEPS)
    yes = [reviewer.says_yes(doubt) for doubt in doubts]
    rng = np.random.default_rng((list(CUTS).index(one.volume), one.section))
    erring, random = [], []
    for _ in range(TRIES):
        wrong = rng.random(len(yes[:most])) < ERRING
        answers = [bool(answer != slip) for answer, slip in zip(yes[:most], wrong, strict=True)]
        erring.append(measure_off(one.truth, apply(mask, doubts[:most], answers)))
        drawn = rng.permutation(len(doubts))[:most]
        random.append(measure_off(one.truth, apply(mask, [doubts[k] for k in drawn], [yes[k] for k in drawn])))
    in_order = [measure_off(one.truth, apply(mask, doubts[:count], yes[:count])) for count in STEPS]
    off = (measure_off(one.truth, mask), *in_order, float(np.mean(erring)), float(np.mean(random)))
    changes = sum(answer != doubt.has_membrane for doubt, answer in zip(doubts[:most], yes, strict=False))
    return Result(one.volume, one.fold, off, changes, len(doubts))


def tell(name: str, results: Sequence[Result]) -> None:
    """Print a row of the table."""
    rng = np.random.default_rng(0)
    total, drawn = np.zeros(len(STEPS) + 3), np.zeros((RESAMPLES, len(STEPS) + 3))
    for volume in {one.volume for one in results}:
        off = np.array([one.off for one in results if one.volume == volume])
        total += off.sum(axis=0)
        drawn += off[rng.integers(0, len(off), (RESAMPLES, len(off)))].sum(axis=1)
    cuts, (low, high) = total / total[0] - 1, np.percentile(drawn / drawn[:, :1] - 1, (2.5, 97.5), axis=0)
    cells = [f"{100 * cuts[k]:+.0f} % ({100 * low[k]:+.0f} to {100 * high[k]:+.0f})" for k in range(1, len(cuts))]
    changes, places = (np.mean([getattr(one, what) for one in results]) for what in ("changes", "places"))
    before = total[0] / len(results)
    print(f"| {name} | {len(results)} | {before:.4f} | {' | '.join(cells)} | {changes:.1f} | {places:.0f} |")


def main() -> None:
    """Print a table for each mask to begin with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="workspace of models and probabilities")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each training")
    arguments = parser.parse_args()
    print(provenance())
    found: dict[str, list[Result]] = {start: [] for start in STARTS}
    for one in predict_folds(arguments.data_root, Workspace(arguments.work), arguments.minutes):
        for start in STARTS:
            found[start].append(review(one, start))
            print(one.volume, one.section, start, *(f"{off:.4f}" for off in found[start][-1].off), flush=True)
    steps = " | ".join(f"{count} answers" for count in STEPS)
    for start, results in found.items():
        print(
            f"\n| {start} mask | sections | 1 - V_rand | {steps} | one in ten wrong | random order | changes | places |"
        )
        print("|---" * (len(STEPS) + 7) + "|")
        for volume in CUTS:
            tell(volume, [one for one in results if one.volume == volume])
        tell("all", results)
        tell("folds that chose nothing", [one for one in results if one.fold not in CHOSE])


if __name__ == "__main__":
    main()
