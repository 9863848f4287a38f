"""Compares several runs, and methods, on the same volumes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, WorkspaceError
from segem.geometry import Box
from segem.io.layers import Layers, read_section
from segem.io.results import digest_results
from segem.io.run import load_run
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.regions import find_largest, sum_tiles
from segem.progress import track
from segem.records.comparison import (
    ComparedMask,
    ComparedSection,
    ComparedVolume,
    Comparison,
    MaskScores,
    ScoreDifference,
)
from segem.records.scores import LayerScores, Report, SectionScores, VolumeScores
from segem.stages.reporting.certainty import compare_volumes
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.read import JSON, read_report

REGION_PX, REGIONS = 256, 3
"""Edge of the regions that are searched for differences, and how many are shown of a volume."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class OpenVolume:
    """A volume and its masks on disk, in the order of the comparison."""

    source: Volume
    truth: Array | None
    masks: tuple[Array | None, ...]

    @property
    def first(self) -> int:
        """The place of the mask that others are compared with: the first that is there."""
        return next(place for place, mask in enumerate(self.masks) if mask is not None)

    def read_truth(self, z: int) -> Mask | None:
        """Read the truth of a section."""
        return None if self.truth is None else read_section(self.truth, z)

    def read_masks(self, z: int) -> list[Mask | None]:
        """Read the masks of a section."""
        return [None if mask is None else read_section(mask, z) for mask in self.masks]


@dataclass(frozen=True)
class Compared:
    """A comparison, and what of it is worth a look."""

    result: Comparison
    volumes: Mapping[str, OpenVolume]
    regions: Mapping[str, tuple[tuple[float, Box], ...]]
    """The regions of each volume that changed most, and the share of their voxels that did."""


def compare(runs: Sequence[str], workspace: Workspace) -> Compared:
    """Compare the masks of several runs on the volumes that all of them have.

    Parameters
    ----------
    runs : sequence of str
        Two or more; the others are compared with the first one.
    workspace : Workspace
        Where they live.

    Returns
    -------
    Compared

    Raises
    ------
    InputError
        When a run is named twice, or the runs share no volume with the same voxels.
    WorkspaceError
        When there is no such run, or a result cannot be read.
    """
    if len(set(runs)) < len(runs):
        raise InputError("a run is named twice", found=", ".join(runs), fix="name each run once")
    reports = [_score(run, workspace) for run in runs]
    same, left_out = _match(reports)
    if not same:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise InputError(
            "these runs have no volume in common, and only the same voxels can be compared",
            where=", ".join(runs),
            found=told or "no volumes",
            fix="run both on the same volumes",
        )
    masks = tuple(_list_masks(reports, same))
    volumes, opened, regions = [], {}, {}
    for name in same:
        scored = [next(volume for volume in report.volumes if volume.name == name) for report in reports]
        opened[name] = _open(name, masks, dict(zip(runs, scored, strict=True)), workspace)
        tally = _tally(name, opened[name], _choose_watched(masks, opened[name]))
        volumes.append(_describe(masks, dict(zip(runs, scored, strict=True)), opened[name], tally))
        regions[name] = tuple(sorted(tally.regions, reverse=True))
    result = Comparison(runs=tuple(runs), masks=masks, volumes=tuple(volumes), left_out=left_out)
    return Compared(result, opened, regions)


def _score(run: str, workspace: Workspace) -> Report:
    """Return the scores of a run: those of its report where that is of the results as they are, else anew."""
    path = workspace.report(run) / JSON
    if path.is_file():
        # What cannot be read, or is of an earlier version, is found again below.
        with suppress(WorkspaceError):
            known = read_report(path.parent)
            if known.digest == digest_results(load_run(workspace, run)) and not _relabelled(known, path, workspace):
                return known
    return evaluate(run, workspace)


def _relabelled(report: Report, written: Path, workspace: Workspace) -> bool:
    """Return whether a volume was ingested anew, perhaps with other labels, since the report was written."""
    volumes = (workspace.volume(volume.name) / "zarr.json" for volume in report.volumes)
    return any(one.is_file() and one.stat().st_mtime > written.stat().st_mtime for one in volumes)


def _match(reports: Sequence[Report]) -> tuple[list[str], dict[str, str]]:
    """Return the volumes that all runs have finished on the same voxels, and why the others are left out."""
    same, left_out = [], {}
    for name in dict.fromkeys(volume.name for report in reports for volume in report.volumes):
        found = [next((volume for volume in report.volumes if volume.name == name), None) for report in reports]
        for report, volume in zip(reports, found, strict=True):
            if volume is None:
                left_out[name] = f"{report.run} does not have it"
            elif volume.state == "failed":
                left_out[name] = f"it failed in {report.run}"
        digests = {volume.source_digest for volume in found if volume is not None}
        if name not in left_out and (len(digests) > 1 or None in digests):
            left_out[name] = "its voxels differ between the runs"
        if name not in left_out:
            same.append(name)
    return same, left_out


def _list_masks(reports: Sequence[Report], volumes: Sequence[str]) -> Iterator[ComparedMask]:
    methods = set()
    for report in reports:
        kept = [volume for volume in report.volumes if volume.name in volumes]
        model = next((volume.model for volume in kept if volume.model), None)
        if model is not None:
            yield ComparedMask(name=f"{report.run}: {model.name}", run=report.run, mask="model")
    for report in reports:
        for volume in report.volumes:
            # A method finds the same mask in each run, so it stands there once.
            if volume.name in volumes and volume.baseline and volume.baseline.method not in methods:
                methods.add(volume.baseline.method)
                yield ComparedMask(name=volume.baseline.title, run=report.run, mask="baseline")


def _open(
    name: str, masks: Sequence[ComparedMask], scored: Mapping[str, VolumeScores], workspace: Workspace
) -> OpenVolume:
    layers = {
        run: Layers.open(
            run, name, workspace, segmented=volume.model is not None, clustered=volume.baseline is not None
        )
        for run, volume in scored.items()
    }
    arrays = tuple(layers[one.run].membrane if one.mask == "model" else layers[one.run].baseline for one in masks)
    some = next(iter(layers.values()))
    if not any(array is not None for array in arrays):
        raise InputError("a volume has no mask in any of the runs", where=name, fix="run `segem segment` for it")
    return OpenVolume(some.source, some.truth, arrays)


@dataclass
class _Sums:
    """What is counted over the sections of a volume, for each mask."""

    differing: list[list[int]] = field(default_factory=list)
    """Voxels of each section in which it differs from the first mask."""
    changed: list[int] = field(default_factory=list)
    """Voxels of each section in which a watched mask differs from the first."""
    regions: list[tuple[float, Box]] = field(default_factory=list)


def _choose_watched(masks: Sequence[ComparedMask], volume: OpenVolume) -> set[int]:
    """Return the masks whose differences are worth a picture.

    A baseline differs from a model nearly everywhere, so it counts only where there is no second model.
    """
    there = {place for place, mask in enumerate(volume.masks) if mask is not None}
    models = {place for place in there if masks[place].mask == "model"}
    return models if len(models) > 1 else there


def _tally(name: str, volume: OpenVolume, watched: set[int]) -> _Sums:
    sums = _Sums([[] for _ in volume.masks])
    sections, height, width = volume.source.shape
    with track(f"compare {name}", sections, "section") as advance:
        for z in range(sections):
            masks = volume.read_masks(z)
            first = masks[volume.first]
            assert first is not None  # noqa: S101 - it is the first that is there
            changed = np.zeros((height, width), bool)
            for place, mask in enumerate(masks):
                if mask is None:
                    continue
                differs = (mask != 0) != (first != 0)
                if place in watched:
                    changed |= differs
                sums.differing[place].append(int(np.count_nonzero(differs)))
            sums.changed.append(int(np.count_nonzero(changed)))
            most, box = find_largest(sum_tiles(changed, REGION_PX), (height, width), REGION_PX, z)
            # A section no larger than a region is shown as such.
            if most and box.shape[1:] != (height, width):
                heapq.heappush(sums.regions, (most / box.size, box))
                if len(sums.regions) > REGIONS:
                    heapq.heappop(sums.regions)
            advance(1)
    return sums


def _describe(
    masks: Sequence[ComparedMask], scored: Mapping[str, VolumeScores], volume: OpenVolume, sums: _Sums
) -> ComparedVolume:
    sections, height, width = volume.source.shape
    some = next(iter(scored.values()))
    there = [array is not None for array in volume.masks]
    first = masks[volume.first]
    found = [scored[one.run] for one in masks]
    return ComparedVolume(
        name=some.name,
        source_digest=some.source_digest or "",
        scores=tuple(
            _scores_of(_layer_of(one, mask)) if here else None
            for one, mask, here in zip(found, masks, there, strict=True)
        ),
        differences=tuple(
            _differ(one, scored[first.run], (mask, first)) if here and mask is not first else {}
            for one, mask, here in zip(found, masks, there, strict=True)
        ),
        changed=tuple(
            sum(differing) / (sections * height * width) if differing else None for differing in sums.differing
        ),
        sections=tuple(
            ComparedSection(
                section=z,
                ious=tuple(
                    _iou_of(one.per_section[z], mask) if here and one.per_section else None
                    for one, mask, here in zip(found, masks, there, strict=True)
                ),
                changed=sums.changed[z] / (height * width),
            )
            for z in range(sections)
        ),
        seen=tuple(one.seen if mask.mask == "model" else () for one, mask in zip(found, masks, strict=True)),
    )


def _layer_of(volume: VolumeScores, mask: ComparedMask) -> LayerScores | None:
    return volume.scores.model if mask.mask == "model" else volume.scores.baseline


def _scores_of(layer: LayerScores | None) -> MaskScores:
    if layer is None:
        return MaskScores()
    return MaskScores(
        iou=layer.iou, precision=layer.precision, recall=layer.recall, v_rand=layer.v_rand, v_info=layer.v_info
    )


def _differ(
    mine: VolumeScores, first: VolumeScores, masks: tuple[ComparedMask, ComparedMask]
) -> dict[str, ScoreDifference]:
    scores, others = _layer_of(mine, masks[0]), _layer_of(first, masks[1])
    if scores is None or others is None:
        return {}
    intervals = compare_volumes(mine, first, (masks[0].mask, masks[1].mask))
    found = {}
    for name in MaskScores.model_fields:
        here, there = getattr(scores, name), getattr(others, name)
        if here is not None and there is not None:
            found[name] = ScoreDifference(value=here - there, interval=intervals.get(name))
    return found


def _iou_of(one: SectionScores, mask: ComparedMask) -> float | None:
    return one.iou_model if mask.mask == "model" else one.iou_baseline
