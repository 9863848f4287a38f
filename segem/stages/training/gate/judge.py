"""Compares a candidate with the incumbent on the same sections of a volume, and reports any harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segem.config import Device, GateConfig
from segem.errors import InputError
from segem.geometry import Range, name_sections
from segem.io.volume import Volume
from segem.kernels.bootstrap import Difference, compare_iou, compare_v_rand, count_tiles
from segem.kernels.metrics.local_rand import score_tiles
from segem.kernels.metrics.segmentation import Measure, SegmentationSums
from segem.kernels.metrics.segments import label_cells
from segem.kernels.tiles import pool_depth
from segem.learn.artefact import Artefact
from segem.progress import track
from segem.records.card import TrainedOn
from segem.records.promotion import DifferenceInterval, Judgement, ScorePair
from segem.stages.training.gate.predictions import Mask, Predict, Prediction, hide_unsure, predict_with, read_truth
from segem.stages.training.labelled import LabelledVolume, list_labelled
from segem.stages.training.provenance import check_unseen, find_calibrated


class JudgedSections(NamedTuple):
    """The sections of a volume that models are judged on."""

    volume: Volume
    sections: range

    @property
    def span(self) -> Range:
        """The same as (first, one past the last)."""
        return self.sections.start, self.sections.stop

    @property
    def labelled(self) -> Sequence[int]:
        """Those that are looked at: of a volume that people have reviewed, the ones with regions."""
        return list_labelled(self.volume, self.span)


@dataclass(frozen=True)
class Contender:
    """A model under judgement, ready to predict; K-means where there is no model."""

    model: Artefact | None
    predict: Predict

    @classmethod
    def open(cls, model: Artefact | None, device: Device) -> Contender:
        """Load a model; None is K-means."""
        return cls(model, predict_with(model, device))

    def calibrated_on(self, judged: JudgedSections) -> tuple[Range, ...]:
        """Return which of the judged sections the calibration of the model was fitted on."""
        return () if self.model is None else find_calibrated(self.model.card, *judged[:1], judged.span)


def choose_judged_sections(volumes: Sequence[LabelledVolume], config: GateConfig) -> tuple[JudgedSections, ...]:
    """Return the sections to judge models on: the ``test`` sections, or ``validation`` of a volume without any.

    Raises
    ------
    InputError
        When there is too little labelled tissue to judge by.
    """
    chosen = tuple(JudgedSections(one.volume, range(*(one.test or one.validation))) for one in volumes)
    for judged in chosen:
        _check_enough(judged, compose_blocks(judged, config), config)
    return chosen


def compose_blocks(
    judged: JudgedSections, config: GateConfig, compose: Callable[[int], NDArray[np.int64]] | None = None
) -> NDArray[np.int64]:
    """Return the numbers of membrane and background voxels of each block with labels, (blocks, 2).

    Whoever tries many ranges of one volume hands in a cached `compose_section`.
    """
    compose = compose or partial(compose_section, judged.volume, config)
    blocks = _pool_cubes([compose(z) for z in judged.labelled], judged, config)
    return blocks[blocks.any(axis=1), :2]


def compose_section(volume: Volume, config: GateConfig, z: int) -> NDArray[np.int64]:
    """Return the numbers of membrane and background voxels of each tile of a section, as far as they may be judged."""
    return _composition(hide_unsure(read_truth(volume, z), volume), config)


def check_all_unseen(trained_on: Iterable[TrainedOn], whose: object, chosen: Iterable[JudgedSections]) -> None:
    """Raise unless a model has seen none of the sections it is to be judged on.

    Raises
    ------
    ConfigError
        When it has; the message names the first volume.
    """
    for judged in chosen:
        check_unseen(trained_on, whose, judged.volume, judged.span, "judged")


def judge_volume(candidate: Contender, incumbent: Contender, judged: JudgedSections, config: GateConfig) -> Judgement:
    """Compare the output of two models on the same sections of a volume.

    IoU is that of the masks which a run would write, at the threshold of each model. V_rand and V_info are those of a
    report: means over the sections at the best of eleven thresholds, since at one threshold a single hole may decide.

    Parameters
    ----------
    candidate, incumbent : Contender
        The incumbent is K-means where no model is in use.
    judged : JudgedSections
        Sections that neither has seen.
    config : GateConfig
        What counts as harm.
    """
    volume, sections = judged.volume, judged.labelled
    tallies, held, cells = (_Tally(), _Tally()), [], 0
    predictions = candidate.predict(volume, sections), incumbent.predict(volume, sections)
    # Both models section by section, so that memory does not grow with the number of sections.
    with track(f"judge {volume.name}", len(sections), "section") as advance:
        for z, *pair in zip(sections, *predictions, strict=True):
            truth = read_truth(volume, z)
            pixels = hide_unsure(truth, volume)
            for tally, found in zip(tallies, pair, strict=True):
                tally.add(truth, pixels, found, config.block_px)
            held.append(_composition(pixels, config))
            cells += int(label_cells(truth == 0).max())
            advance(1)
    # Blocks without labels are no observations.
    known = _pool_cubes(held, judged, config).any(axis=1)
    counts = [_pool_cubes(tally.counts, judged, config)[known] for tally in tallies]
    # Paired, on the same blocks: what makes a block hard for both models cancels out. By blocks, because errors of
    # neighbouring voxels are not independent: they run along a membrane.
    iou = compare_iou(*counts, resamples=config.resamples, confidence=config.confidence, seed=config.seed)
    v_rand, within = _pair(tallies, "rand"), _compare_within_blocks(tallies, cells, judged, config)
    harms = (
        _iou_harm(iou, config, replaces=incumbent.model is not None),
        _v_rand_harm(v_rand, within, cells, config),
    )
    return Judgement(
        volume=volume.name,
        source_digest=volume.attributes["source_digest"],
        sections=judged.span,
        candidate_calibrated_on=candidate.calibrated_on(judged),
        incumbent_calibrated_on=incumbent.calibrated_on(judged),
        iou=ScorePair(candidate=iou.first, incumbent=iou.second),
        iou_interval=_interval(iou),
        v_rand=v_rand,
        v_info=_pair(tallies, "information"),
        v_rand_interval=None if within is None else _interval(within),
        harm="; ".join(filter(None, harms)),
    )


@dataclass
class _Tally:
    """Counts for one model, section by section."""

    counts: list[NDArray[np.int64]] = field(default_factory=list)
    """True positives, false positives and false negatives of each tile."""
    sums: SegmentationSums = field(default_factory=SegmentationSums.nothing)
    within: list[NDArray[np.int64]] = field(default_factory=list)
    """The sums of V_rand in each tile, for each threshold."""

    def add(self, truth: Mask, pixels: Mask, found: Prediction, block_px: int) -> None:
        self.counts.append(count_tiles(pixels, found.mask, block_px))
        sums, within = score_tiles(truth, found.probability, block_px)
        self.sums += sums
        self.within.append(within)

    def at_best(self) -> list[NDArray[np.int64]]:
        """Return the sums of V_rand in each tile at the threshold whose mean V_rand over the sections is best."""
        # The threshold of the whole, not one for each tile: a tile's own best would flatter both models.
        best = int(np.argmax(self.sums.rand[:, 0]))
        return [tiles[best] for tiles in self.within]


def _pair(tallies: tuple[_Tally, _Tally], measure: Measure) -> ScorePair | None:
    candidate, incumbent = (tally.sums.best(measure) for tally in tallies)
    if candidate is None or incumbent is None:
        return None
    return ScorePair(candidate=candidate.value, incumbent=incumbent.value)


def _compare_within_blocks(
    tallies: tuple[_Tally, _Tally], cells: int, judged: JudgedSections, config: GateConfig
) -> Difference | None:
    """Return the difference in V_rand within blocks, and its interval; None where there is too little to tell."""
    first, second = (_pool_cubes(tally.at_best(), judged, config) for tally in tallies)
    with_cells = first[:, 1] > 0
    # A vessel may fill all blocks: they are then many observations of one cell, in which no merger can occur.
    if min(cells, int(with_cells.sum())) < config.fewest_blocks:
        return None
    return compare_v_rand(
        first[with_cells],
        second[with_cells],
        resamples=config.resamples,
        confidence=config.confidence,
        seed=config.seed,
    )


def _interval(found: Difference) -> DifferenceInterval:
    return DifferenceInterval(low=found.low, high=found.high, lower_bound=found.lower_bound, blocks=found.blocks)


def _composition(truth: Mask, config: GateConfig) -> NDArray[np.int64]:
    """Return the numbers of membrane and background voxels in each tile of a truth; unknown voxels do not count."""
    # Against a mask that is all membrane, true positives are the membrane and false positives the background.
    return count_tiles(truth, np.ones_like(truth), config.block_px)


def _pool_cubes(counts: Sequence[NDArray[np.int64]], judged: JudgedSections, config: GateConfig) -> NDArray[np.int64]:
    """Add up tiles to cubes of tissue: errors continue through thin sections just as they do along a membrane."""
    size = judged.volume.voxel_size
    sections = np.zeros((len(judged.sections), *counts[0].shape), np.int64)
    sections[[z - judged.sections.start for z in judged.labelled]] = counts
    return pool_depth(sections, max(1, round(config.block_px * size.y / size.z)))


def _check_enough(judged: JudgedSections, blocks: NDArray[np.int64], config: GateConfig) -> None:
    where = f"{judged.volume.name}, {name_sections([(judged.sections.start, judged.sections.stop)])}"
    if len(blocks) < config.fewest_blocks:
        raise InputError(
            "too little to judge a model by",
            where=where,
            expected=f"{config.fewest_blocks} or more blocks of {config.block_px} px",
            found=f"{len(blocks)} with labels",
            fix="label more of these sections, give more of them to test, or leave this volume out",
        )
    membrane, other = blocks[:, 0].sum(), blocks[:, 1].sum()
    if not (membrane and other):
        raise InputError(
            "the truth of these sections holds one class only",
            where=where,
            expected="membrane and background",
            found=f"{membrane / (membrane + other):.0%} membrane",
            fix="check the labels and their polarity, or name other sections as test",
        )


def _iou_harm(found: Difference, config: GateConfig, *, replaces: bool) -> str:
    """Return why a difference in IoU speaks against the candidate, or nothing."""
    measured = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    if not replaces:
        # There is nothing to lose yet, so the first model must show that it is better than no model.
        return "" if found.low > 0 else f"not surely better than K-means: IoU {measured}"
    # Not a test for improvement: what is to be excluded is harm, so a model just as good may pass.
    if found.low > -config.harm:
        return ""
    if found.high < -config.harm:
        return f"worse than the incumbent: IoU {measured}"
    return f"a loss of more than {config.harm:g} cannot be excluded: IoU {measured}"


def _v_rand_harm(v_rand: ScorePair | None, within: Difference | None, cells: int, config: GateConfig) -> str:
    """Return why the cells of a candidate speak against it, or nothing.

    A mask may gain IoU on wide membranes and lose a few pixels of thin ones, which merges cells.
    """
    if v_rand is None or within is None:
        needed = f"{config.fewest_blocks} or more cells, in as many blocks of {config.block_px} px"
        return f"V_rand cannot be compared: {cells} cells, where {needed} are needed"
    measured = f"{v_rand.incumbent:.4f} to {v_rand.candidate:.4f}"
    interval = f"within blocks {within.low:+.4f} to {within.high:+.4f}"
    # The point loss counts too: a merger of two large cells shows in whole sections more than within blocks.
    if v_rand.difference < -config.harm_v_rand:
        return f"V_rand fell by more than {config.harm_v_rand:g}: {measured} ({interval})"
    return f"V_rand surely fell: {measured} ({interval})" if within.high < 0 else ""
