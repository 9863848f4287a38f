"""Scores every volume of a run against its truth, section by section, and says what was not measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import PurePath

from segem.config.accept import Rule, parse_rules
from segem.errors import SegemError, WorkspaceError
from segem.geometry import name_sections
from segem.io.layers import Layers
from segem.io.results import digest_results
from segem.io.reviewed import verify_review
from segem.io.run import failure_of, fault_of, load_run, source_digest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.not_defined import NO_TRUE_CELL, NOTHING_KNOWN, NotDefined
from segem.kernels.metrics.seam import Seams
from segem.kernels.metrics.section import choose_tolerance
from segem.kernels.metrics.threshold_curve import LevelCounts
from segem.kernels.pieces import Grid
from segem.progress import track
from segem.records.error_map import ErrorMap
from segem.records.quality import SectionFlag, SectionQuality
from segem.records.run import CellsFacts, CrfFacts, ModelRecord, RunRecord, SegmentFacts, StepRecord, VolumeRecord
from segem.records.scores import (
    Baseline,
    ReliabilityBin,
    Report,
    Scores,
    SectionScores,
    SeenSections,
    ThresholdPoint,
    VolumeScores,
)
from segem.records.seams import SeamAudit
from segem.stages.reporting.certainty import find_bands, find_ceiling, find_intervals, keep_blocks
from segem.stages.reporting.expected import estimate_volume
from segem.stages.reporting.findings import find_review
from segem.stages.reporting.gain import find_gain
from segem.stages.reporting.seen import DONE, WHY_IT_MATTERS, find_seen, say_remarks
from segem.stages.reporting.tally import SectionTally, Tally, part_values, tally_sections
from segem.stages.reporting.verdict import judge_run, judge_volume
from segem.stages.segmentation.verify import outdated, plan_of
from segem.stages.volumes.quality import read_quality

NOT_MEASURED = "not measured: no ground truth"
NO_MEMBRANE = "not measured: the ground truth holds no membrane"


@dataclass(frozen=True)
class ScoredVolume:
    """The scores of one volume, and what was scored."""

    scores: VolumeScores
    errors: ErrorMap | None
    """Where the model's mask is likely wrong; None where there is none, or the volume failed."""
    made: VolumeRecord
    """What the record of the run said of it."""

    def holds(self, record: RunRecord, workspace: Workspace) -> bool:
        """Return whether a volume is still what was scored, as far as records say so: its voxels are not read again."""
        same = self.scores.state != "failed" and record.volumes[self.scores.name] == self.made
        return same and failure_of(record, self.scores.name, workspace) is None


def evaluate(
    run: str,
    workspace: Workspace,
    rules: Sequence[Rule] | None = None,
    *,
    full: bool = False,
    keep: Callable[[ErrorMap], None] | None = None,
    scored: Mapping[str, ScoredVolume] | None = None,
) -> Report:
    """Score every volume of a run.

    IoU is pooled over all voxels of a volume; V_rand and V_info are means over sections at the one threshold that suits
    the volume best. Memory does not grow with the number of sections.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    rules : sequence of Rule, optional
        What is good enough; the rules of the manifest that the run was made by when absent.
    full : bool
        Take also scores that take long: the warping error.
    keep : callable, optional
        Called with the error map of each volume that the model segmented.
    scored : mapping, optional
        Volumes that were scored already, by name; they are scored again where something has changed since.

    Returns
    -------
    Report
        A volume that did not finish is ``failed``, with its reason and no score; one without truth, or without membrane
        in its truth, is ``complete``, with a note and no score.

    Raises
    ------
    WorkspaceError
        When there is no such run, its record is damaged, or the log of its review was changed.
    ConfigError
        When the run was made by rules that this version of segem does not know.
    """
    record = load_run(workspace, run)
    if rules is None:
        rules = parse_rules(record.accept, where=f"run {run}")
    volumes = []
    for name in record.volumes:
        found = (scored or {}).get(name)
        if found is None or not found.holds(record, workspace):
            found = _score_volume(record, name, workspace, full)
        if keep is not None and found.errors is not None:
            keep(found.errors)
        volumes.append(_judge(found.scores, rules))
    return Report(
        run=run,
        model=record.model,
        created=record.created,
        segem_version=record.segem_version,
        environment=record.environment,
        volumes=tuple(volumes),
        digest=digest_results(record),
        accept=tuple(map(str, rules)),
        verdict=judge_run(volumes),
        review=verify_review(workspace, run),
        reviewing=find_review(workspace, run),
        gain=find_gain(record.model, workspace),
    )


def score_volume(run: str, name: str, workspace: Workspace) -> ScoredVolume:
    """Score one volume of a run as `evaluate` does, while other volumes are still worked on.

    Parameters
    ----------
    run, name : str
        Names of the run and of the volume.
    workspace : Workspace
        Where the run lives.

    Returns
    -------
    ScoredVolume
        To be given to `evaluate`.

    Raises
    ------
    WorkspaceError
        When there is no such run, or its record is damaged.
    """
    return _score_volume(load_run(workspace, run), name, workspace, full=False)


def _judge(volume: VolumeScores, rules: Sequence[Rule]) -> VolumeScores:
    return volume.model_copy(update={"verdict": judge_volume(volume, rules)})


@dataclass(frozen=True)
class _Made:
    """What the record of a run says about a finished volume; nothing else here reads the record."""

    missing: Mapping[str, str]
    """Layers that are not there, with the reason."""
    baseline: Baseline | None
    model: ModelRecord | None
    facts: SegmentFacts | CrfFacts | None
    """How the model's mask was made."""
    seams: Seams
    divided: bool = False
    """Whether there are cells of the model's probability."""


def _read_record(record: RunRecord, name: str, workspace: Workspace) -> _Made:
    volume, digest = record.volumes[name], source_digest(workspace, name)
    faults = {
        "baseline": fault_of(volume.baseline, "baseline", digest),
        "model mask": fault_of(volume.membrane, "segmentation", digest),
    }
    if volume.cells is not None:
        faults["cells"] = _fault_of_cells(volume.cells, record.run, name, workspace)
    missing = {what: reason for what, reason in faults.items() if reason is not None}
    clustered = volume.baseline_facts if "baseline" not in missing else None
    segmented = volume.membrane if "model mask" not in missing else None
    return _Made(
        missing,
        Baseline(method=clustered.method) if clustered else None,
        segmented.model if segmented else None,
        volume.membrane_facts if segmented else None,
        _seams_of(segmented, Volume.open(workspace.result(record.run, name))) if segmented else Seams(),
        segmented is not None and volume.cells is not None and "cells" not in missing,
    )


def _fault_of_cells(step: StepRecord, run: str, name: str, workspace: Workspace) -> str | None:
    fault = fault_of(step, step.result, source_digest(workspace, name))
    if fault is None and isinstance(step.facts, CellsFacts):
        fault = outdated(step.facts, name, run, workspace)
    return fault


def _seams_of(step: StepRecord, result: Volume) -> Seams:
    # The last phase wrote the probability, so seams can only lie between its tiles and blocks.
    plan = plan_of(step.phases[-1], result.shape)
    sections, rows, columns = (
        {*range(0, size, block)} for size, block in zip(plan.shape, plan.write_block, strict=True)
    )
    # Where tiles are blended, the weight of one begins at its start, and that of another ends at its stop.
    rows.update(border for window in plan.windows(1) for border in window)
    columns.update(border for window in plan.windows(2) for border in window)
    found = Seams(tuple(rows), tuple(columns), tuple(sections), plan.tiling.stride_px)
    return found.within(plan.shape)


def _score_volume(record: RunRecord, name: str, workspace: Workspace, full: bool) -> ScoredVolume:
    errors = None
    try:
        reason = failure_of(record, name, workspace)
        if reason is None:
            made = _read_record(record, name, workspace)
            scores, errors = _score_finished(record.run, name, made, workspace, full)
    # A volume that cannot be read counts as failed, and the others are still scored.
    except SegemError as error:
        reason = record.volumes[name].failure or str(error)
    if reason is not None:
        scores = VolumeScores(name=name, state="failed", reason=reason)
    return ScoredVolume(scores, errors, record.volumes[name])


def _score_finished(
    run: str, name: str, made: _Made, workspace: Workspace, full: bool
) -> tuple[VolumeScores, ErrorMap | None]:
    segmented, clustered = made.model is not None, made.baseline is not None
    layers = Layers.open(run, name, workspace, segmented=segmented, clustered=clustered, divided=made.divided)
    source = layers.source
    grid = Grid.cut(source.shape, source.voxel_size.zyx)
    tallies = []
    with track(f"evaluate {name}", source.shape[0], "section") as advance:
        for tally in tally_sections(layers, made.seams, grid.tile_px, full=full):
            tallies.append(tally)
            advance(1)
    sections = [tally.sums for tally in tallies]
    total = reduce(Tally.__add__, sections, Tally())
    known = None if layers.truth is None else total.known / math.prod(source.shape)
    # A truth without a single known voxel counts as none; where it holds no membrane, an empty mask would be perfect.
    note = None if total.membrane else NO_MEMBRANE if known else NOT_MEASURED
    measured = note is None
    tolerance_nm = choose_tolerance(source.voxel_size.zyx[1:])
    scores = Scores(
        model=total.model.scores(tolerance_nm) if measured and made.model else None,
        baseline=total.baseline.scores(tolerance_nm) if measured and made.baseline else None,
        closed=total.closed.scores(tolerance_nm) if measured and made.divided else None,
    )
    flags, quality, damage = _read_quality(source)
    seen = tuple(find_seen(made.facts, source.attributes)) if made.facts else ()
    seams = total.seams.audit(made.seams, source.shape) if made.model else None
    if seams is not None and made.facts is not None:
        seams = seams.beside(made.facts.recomputed)
    blocks = keep_blocks(grid, source.shape, total) if measured else None
    ceiling = None
    if measured and layers.second is not None:
        ceiling = find_ceiling(grid, source.shape, sections, _name_second(source), tolerance_nm)
    expected, errors = (None, None) if made.facts is None else estimate_volume(layers, made.facts, flags)
    found = VolumeScores(
        name=name,
        state="complete",
        note=note,
        sections=source.shape[0],
        shape=source.shape,
        dtype=str(source.dtype),
        source_digest=source.attributes.get("source_digest"),
        voxel_nm=source.voxel_size.zyx,
        outside_fraction=source.outside_voxels / math.prod(source.shape),
        model=made.model,
        threshold=made.facts.threshold if made.facts else None,
        divided=made.divided,
        baseline=made.baseline,
        scores=scores,
        per_section=tuple(_score_section(z, tally, scores) for z, tally in enumerate(tallies)) if measured else (),
        seen=seen,
        threshold_curve=tuple(_cut(total.levels)) if scores.model else (),
        ece=total.bins.error if scores.model else None,
        reliability=tuple(_reliability(total.bins)) if scores.model else (),
        known_fraction=known,
        seams=seams,
        intervals=find_intervals(blocks, sections, scores, "model") if blocks else {},
        closed_intervals=find_intervals(blocks, sections, scores, "closed") if blocks else {},
        baseline_intervals=find_intervals(blocks, sections, scores, "baseline") if blocks else {},
        bands=find_bands(scores, made.facts, ceiling),
        ceiling=ceiling,
        blocks=blocks,
        flags=flags,
        quality=quality,
        warnings=(*_warnings(source, made, seen, known, seams), *damage),
        expected=expected,
        errors=errors.sections if errors else (),
    )
    return found, errors


def _name_second(source: Volume) -> str:
    return f"second labels {PurePath(source.attributes['second_labels']['source']).name}"


def _read_quality(
    source: Volume,
) -> tuple[tuple[SectionFlag, ...], tuple[SectionQuality, ...], tuple[str, ...]]:
    # Scores are worth more than measures of quality: a table that was lost must not cost them.
    try:
        found = read_quality(source)
    except WorkspaceError as error:
        return (), (), (str(error),)
    return ((), (), ()) if found is None else (found[0].flags, found[1], ())


def _score_section(z: int, tally: SectionTally, scores: Scores) -> SectionScores:
    sums, model = tally.sums, scores.model
    found: dict[str, float | NotDefined] = {}
    if model:
        found |= sums.model.values()
        found["iou_model"] = found.pop("iou")
        rand = sums.model.at_threshold_of("rand", model.rand)
        information = sums.model.at_threshold_of("information", model.information)
        found["v_rand"] = NO_TRUE_CELL if rand is None else rand
        found["v_info"] = NO_TRUE_CELL if information is None else information
    if scores.baseline:
        found["iou_baseline"] = sums.baseline.values()["iou"]
    # A section without known truth gets no score: its empty counts would read as a perfect one.
    if not sums.known:
        found = dict.fromkeys(found, NOTHING_KNOWN)
    values, undefined = part_values({name: found[name] for name in found if name in SectionScores.model_fields})
    places = {"merged_at": tally.merged_at, "split_at": tally.split_at}
    return SectionScores.model_validate({"section": z, **values, **places, "undefined": undefined})


def _reliability(bins: CalibrationBins) -> Iterator[ReliabilityBin]:
    for voxels, promised, found in zip(bins.voxels, bins.promised, bins.found, strict=True):
        if voxels:
            yield ReliabilityBin(voxels=int(voxels), probability=promised / voxels, membrane=found / voxels)


def _cut(levels: LevelCounts) -> Iterator[ThresholdPoint]:
    for threshold, counted in levels.curve():
        values, _ = part_values({"precision": counted.precision, "recall": counted.recall})
        yield ThresholdPoint.model_validate({"threshold": threshold, "iou": counted.iou, **values})


def _warnings(
    source: Volume,
    made: _Made,
    seen: tuple[SeenSections, ...],
    known: float | None,
    seams: SeamAudit | None,
) -> Iterator[str]:
    noted = source.attributes
    yield from (str(warning) for warning in noted.get("warnings", []))
    if known is not None and known < 1:
        yield f"scored on the {known:.1%} of the voxels whose truth is known"
    for what, reason in made.missing.items():
        yield f"no {what}: {reason}"
    if made.facts is not None:
        yield from made.facts.warnings
        for one in seen:
            yield f"{DONE[one.use]} on {name_sections(one.sections)} of this volume: {WHY_IT_MATTERS[one.use]}"
        yield from say_remarks(made.facts)
    if seams is not None and seams.shows:
        yield seams.describe()
