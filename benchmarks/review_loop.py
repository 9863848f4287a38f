"""Measures what a review gives the next model: the first tenth of the queue is put right, and the model is retrained.

    .venv/bin/python benchmarks/review_loop.py --data-root DIR --work FOLDER [--steps 300] [--case ac3]

A model that has learned from a fly segments the first sections of mouse cortex. A simulated reviewer makes the first
tenth of the queue what the truth says, `segem retrain --from-reviews` takes these regions and nothing else, and both
models segment the last sections of the volume, which neither the reviewer nor a training has seen. Beside it, the same
with as many regions drawn at random. Of the regions that are reviewed, the command itself holds back about half, to
choose the threshold and to judge; that share of the minutes trains nothing, as in real use.

The minutes of a reviewer are assumed: `LOOK_SECONDS` for a region, and `MEND_SECONDS` for each place where at least
`LEAST_PX` pixels that touch each other are wrong. Intervals are those of the gate, a paired bootstrap over blocks. What
is made is kept in the folder, and a run that was killed resumes.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from folds import MANIFEST, entries
from judged import trained
from machine import provenance
from numpy.typing import NDArray
from scipy import ndimage

from segem.config import ExecutionConfig, GateConfig, Manifest, SegmentConfig, TrainConfig, load_manifest
from segem.config.retrain import RetrainConfig
from segem.io.layers import read_section
from segem.io.reviewed import has_log, open_log, open_mask, reader_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.centreline_dice import CentrelineSums
from segem.kernels.metrics.section import choose_tolerance, compare_section
from segem.kernels.runs import encode_runs
from segem.learn.artefact import Artefact, load_artefact
from segem.records.promotion import Judgement
from segem.records.review import Draft, Place
from segem.records.review_queue import Region
from segem.review.queue import rank_regions
from segem.stages.segmentation.segment import segment
from segem.stages.training.gate.judge import Contender, JudgedSections, judge_volume
from segem.stages.training.gate.predictions import predict_with, read_truth
from segem.stages.training.retrain import retrain
from segem.stages.training.train import train
from segem.stages.volumes.ingest import ingest

SHARE = 0.1
LOOK_SECONDS, MEND_SECONDS, LEAST_PX = 10.0, 3.0, 25
ORDERS = ("queue", "random")


LEARNED, FOLD = ("isbi", "stack1"), 0
"""Tissue that the model before the review has learned from, a fly's, and the fold of it that was kept from it."""


@dataclass(frozen=True)
class Case:
    """Tissue that the model has not seen, mouse cortex, and which of its sections are reviewed and judged."""

    volume: str
    reviewed: tuple[int, int]
    judged: tuple[int, int]


CASES = {case.volume: case for case in (Case("ac4", (0, 16), (18, 24)), Case("ac3", (0, 5), (6, 8)))}


@dataclass
class Outcome:
    """What one review gave."""

    volume: str
    order: str
    regions: int
    minutes: float
    judged: Judgement
    cl_dice: tuple[float, float]
    """Before and after."""


def measure(case: Case, base: Artefact, data_root: Path, work: Workspace, steps: int) -> Iterator[Outcome]:
    """Review a volume in both orders, retrain on each, and judge."""
    entry = next(one for one in load_manifest(MANIFEST, data_root).volumes if one.name == case.volume)
    whole = Volume.open(ingest(entry.ingest_config(), work).path)
    first, stop = case.reviewed
    # As a volume of its own and without its truth: nothing else of it can be learned.
    unseen = {"name": f"{case.volume}-unseen", "labels": None, "box": f"{first}:{stop},:,:"}
    reviewed = ingest(entry.ingest_config().model_copy(update=unseen), work).path
    name_of = Volume.open(reviewed).name
    for order in ORDERS:
        run = f"{case.volume}-{order}"
        segment(name_of, run, SegmentConfig(model=str(base.path)), ExecutionConfig(), work)
        regions = choose_regions(rank_regions(work, run, name_of), order)
        seconds = review(work, run, regions, whole, first)
        config = RetrainConfig(
            out=run,
            from_reviews=run,
            start=str(base.path),
            against=str(base.path),
            train=TrainConfig(steps=steps),
        )
        made = trained(run, work)
        if made is None:
            promotion = retrain(None, config, work.root)
            made = load_artefact(work.models / run / promotion.version)
            print(f"{run}: {'promoted' if promotion.promoted else 'kept aside: ' + promotion.reason}", flush=True)
        judged, cl_dice = judge(made, base, whole, range(*case.judged))
        yield Outcome(case.volume, order, len(regions), seconds / 60, judged, cl_dice)


def choose_regions(ranked: Sequence[Region], order: str) -> list[Region]:
    """Return the first tenth of the queue, or as many at random."""
    count = round(SHARE * len(ranked))
    if order == "queue":
        return list(ranked[:count])
    rng = np.random.default_rng(zlib.crc32(ranked[0].volume.encode()))
    return [ranked[k] for k in rng.permutation(len(ranked))[:count]]


def review(work: Workspace, run: str, regions: Sequence[Region], whole: Volume, first: int) -> float:
    """Make regions what the truth says, once, and return the seconds that it takes."""
    done = has_log(work, run)
    with open_log(work, run) as log:
        if not done:
            for one in regions:
                read = reader_of(open_mask(work, run, one.volume))
                place = Place(volume=one.volume, z=one.z, y=one.y, x=one.x, height=one.height_px, width=one.width_px)
                truth = read_truth(whole, first + one.z)[one.y : one.y + place.height, one.x : one.x + place.width]
                wrong = (truth == 1) != log.mask(place, read)
                for kind, detail, flips, seconds in (
                    ("correction", {"tool": "brush"}, wrong, count_places(wrong) * MEND_SECONDS),
                    ("decision", {"decision": "fix", "note": ""}, np.zeros_like(wrong), LOOK_SECONDS),
                ):
                    number = log.head().entries
                    draft = Draft(
                        id=f"{number:032x}",
                        kind=kind,
                        place=place,
                        runs=encode_runs(flips),
                        active_seconds=seconds,
                        detail=detail,
                    )
                    log.append(draft, "simulated", number, read)
        return sum(entry.active_seconds for entry in log.entries())


def count_places(wrong: NDArray[np.bool_]) -> int:
    """Return in how many places a reviewer has something to mend."""
    labels, _ = ndimage.label(wrong, np.ones((3, 3)))
    return int((np.bincount(labels.ravel())[1:] >= LEAST_PX).sum())


def judge(after: Artefact, before: Artefact, volume: Volume, sections: range) -> tuple[Judgement, tuple[float, float]]:
    """Compare two models on sections that neither has seen."""
    pair = (after, before)
    sides = Contender.open(after, "auto"), Contender.open(before, "auto")
    found = judge_volume(*sides, JudgedSections(volume, sections), GateConfig())
    _, *pixel_nm = volume.voxel_size.zyx
    size = (pixel_nm[0], pixel_nm[1])
    scores = []
    for model in pair:
        sums = CentrelineSums()
        for z, one in zip(sections, predict_with(model, "auto")(volume, sections), strict=True):
            truth = read_section(volume.label("truth"), z)
            sums += CentrelineSums.count(*compare_section(truth, one.mask, size, choose_tolerance(size)))
        assert isinstance(sums.cl_dice, float)
        scores.append(sums.cl_dice)
    return found, (scores[1], scores[0])


def tell(one: Outcome) -> None:
    """Print a row of the table."""
    judged, interval = one.judged, one.judged.iou_interval
    assert judged.v_rand is not None
    assert judged.v_rand_interval is not None
    gain = judged.iou.difference / one.minutes
    cells = (
        one.volume,
        one.order,
        one.regions,
        f"{one.minutes:.0f}",
        f"{judged.iou.incumbent:.3f} to {judged.iou.candidate:.3f}",
        f"{judged.iou.difference:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})",
        f"{gain:+.4f}",
        f"{judged.v_rand.incumbent:.3f} to {judged.v_rand.candidate:.3f}",
        f"{judged.v_rand_interval.low:+.3f} to {judged.v_rand_interval.high:+.3f}",
        f"{one.cl_dice[0]:.3f} to {one.cl_dice[1]:.3f}",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def base_of(name: str, data_root: Path, work: Workspace, steps: int) -> Artefact:
    """Return the model that is reviewed, trained now unless it is there."""
    known = trained(name, work)
    if known is None:
        volumes = tuple(one for learned in LEARNED for one in entries((learned,), FOLD, data_root))
        config = TrainConfig(model="unet", architecture={"context_sections": 3}, steps=steps)
        train(Manifest(name=name, volumes=volumes), name, config, work)
        known = trained(name, work)
    assert known is not None
    return known


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="workspace of models and runs")
    parser.add_argument("--steps", type=int, default=300, help="for each training")
    parser.add_argument("--case", choices=CASES, action="append", help="all when absent")
    arguments = parser.parse_args()
    print(provenance(), flush=True)
    work = Workspace(arguments.work.resolve())
    work.prepare()
    print("| volume | regions | count | minutes | IoU | gain | gain a minute | V_rand | within blocks | clDice |")
    print("|---" * 10 + "|", flush=True)
    base = base_of("cortex-base", arguments.data_root, work, arguments.steps)
    for name in arguments.case or CASES:
        for outcome in measure(CASES[name], base, arguments.data_root, work, arguments.steps):
            tell(outcome)


if __name__ == "__main__":
    main()
