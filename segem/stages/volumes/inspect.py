"""Looks at a source before it is ingested: what it holds, what is doubtful, and what the job will take."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Url
from segem.config.inspection import InspectConfig, InspectedLabels
from segem.errors import InputError
from segem.geometry import ZYX, Box, Range, VoxelSize
from segem.io.blocks import voxel_digest
from segem.io.chunks import Layout, encode_shard
from segem.io.files import write_bytes
from segem.io.readers import Stack, list_source_files, open_labels, open_stack
from segem.io.readers.reader import Described
from segem.io.readers.source import name_format
from segem.io.readers.stack import check_reachable
from segem.io.readers.voxel_size import settle_voxel_size
from segem.io.shards import CHUNK, shard_shape
from segem.io.workspace import Workspace
from segem.kernels.axes import AxisTally, say_swapped
from segem.kernels.painted import PaintedTally
from segem.kernels.quality import measure_section, trace_section
from segem.kernels.quality_flags import QualityTally
from segem.kernels.scaling import STORED_TYPES, Scaling, ValueSurvey
from segem.progress import track
from segem.records.inspection import InspectedLabelSource, InspectedVoxels, Inspection, JobEstimate, LabelValue
from segem.records.quality import SectionFlag
from segem.stages.volumes.image import MASK_LEVELS, doubt_levels
from segem.stages.volumes.inspection_picture import ShownSection, draw_inspection
from segem.stages.volumes.intensities import check_type
from segem.stages.volumes.labels import TruthTally
from segem.stages.volumes.outside import estimate_outside
from segem.stages.volumes.placement import PlacedLabels, place_labels
from segem.stages.volumes.quality import find_middle, flag_flat

MOST_SECTIONS, MOST_BYTES = 24, 2**29
"""How much is read of a source at most; of large sections, one at each of three places all the same."""
MEGAPIXELS_PER_SECOND_PER_CORE = 0.3
"""What the bundled model segments with OpenVINO (docs/explanation/inference.md)."""

_PERCENTILES = (0, 1, 5, 50, 95, 99, 100)
_INTENSITIES_A_SECTION = 2**16
_SHOWN_VALUES = 8
_TENTATIVE: tuple[dict[str, str | int], ...] = ({"channel": 0}, {"missing": "copy"}, {"channel": 0, "missing": "copy"})
"""By what a source is opened where a channel must be named, or sections are missing."""
_PYRAMID = 4 / 3
"""Voxels of a volume with its coarser levels, for each one at full resolution."""


def inspect(config: InspectConfig, workspace: Workspace, *, picture: Path | None = None) -> Inspection:
    """Look at a source and its labels without changing anything.

    At most `MOST_SECTIONS` are read: all of a small stack, otherwise the first, middle and last ones. What ingest would
    refuse is refused with the same error, as far as the sections that are read show it.

    Parameters
    ----------
    config : InspectConfig
        The source, and what is known of it.
    workspace : Workspace
        Where the volume would go; it need not exist.
    picture : Path, optional
        Where to write a PNG of the first, middle and last section.

    Returns
    -------
    Inspection

    Raises
    ------
    InputError
        When the source or its labels are missing, damaged, inconsistent or of a type that is not supported.
    WorkspaceError
        When the picture cannot be written.
    """
    # Of a source that lies elsewhere, nobody counts the files.
    files = [] if isinstance(config.source, Url) else list_source_files(config.source)
    with ExitStack() as stack:
        opened, tentative, refusal = _open(config)
        whole = stack.enter_context(opened)
        voxel = _voxel_size(config, whole.found)
        box = config.box_within(whole.shape)
        raw = whole.within(box)
        labels = None
        if config.labels is not None:
            painted = stack.enter_context(open_labels(config.labels.source, config.labels, whole))
            size = voxel.whole if voxel is not None else None
            # Only labels with an offset are placed by it, which they state with their own size.
            labels = place_labels(painted, whole, box, VoxelSize(*(size or (1.0, 1.0, 1.0))))
        check_type(raw)
        truth = _open_tally(labels, config.labels, voxel)
        seen = _look(raw, labels, truth, config.window)
        found, stored = raw.found, sum(check_reachable(file).st_size for file in files)
        if picture is not None:
            write_bytes(picture, draw_inspection(seen.shown, *seen.contrast))
        return Inspection(
            source=str(config.source),
            format=name_format(config.source),
            files=len(files),
            stored_bytes=stored,
            axes=config.axes or found.axes,
            axes_from=raw.axes_from,
            shape=raw.shape,
            dtype=str(raw.dtype),
            voxel=voxel,
            unitless=found.unitless,
            offset_nm=found.offset_nm,
            percentiles={str(percent): value for percent, value in seen.percentiles().items()},
            outside=seen.outside / (len(seen.sampled) * raw.shape[1] * raw.shape[2]),
            first_section=raw.label_of(0),
            last_section=raw.label_of(raw.shape[0] - 1),
            numbers=(raw.numbers[0], raw.numbers[-1]) if raw.numbers else None,
            gaps=tuple(_find_gaps([n for z, n in enumerate(raw.numbers or ()) if z not in raw.filled])),
            sampled=tuple(seen.sampled),
            # What stands in for a missing section is alike another one by design.
            flags=tuple(flag for flag in seen.flags if not tentative or flag.section not in raw.filled),
            labels=_describe_labels(labels, truth, seen),
            looks_like_labels=seen.doubt() is not None,
            warnings=(
                *raw.warnings,
                *seen.warnings(),
                *_doubt_labels(labels, truth, whole=len(seen.sampled) == raw.shape[0]),
            ),
            estimate=_estimate(raw, seen, workspace),
            picture=None if picture is None else str(picture),
            tentative=tentative,
            refusal=None if refusal is None else str(refusal),
        )


def _open(config: InspectConfig) -> tuple[Stack, dict[str, str | int], InputError | None]:
    """Open a source; if ingest would refuse it for a choice that is still to be made, by the first that will do.

    Returns
    -------
    tuple of Stack, dict and InputError
        The source, what was chosen for this look only, and what ingest would raise.
    """
    try:
        return open_stack(config.source, config), {}, None
    except InputError as error:
        # What lies elsewhere would be downloaded again.
        if isinstance(config.source, Url):
            raise
        refusal = error
    for tentative in _TENTATIVE:
        with suppress(InputError):
            return open_stack(config.source, config.model_copy(update=tentative)), tentative, refusal
    raise refusal


def choose_runs(shape: ZYX, itemsize: int) -> list[Range]:
    """Return which sections are looked at, as ranges.

    Examples
    --------
    >>> choose_runs((20, 512, 512), 1), choose_runs((100, 512, 512), 1), choose_runs((9, 50_000, 50_000), 1)
    ([(0, 20)], [(0, 8), (46, 54), (92, 100)], [(0, 1), (4, 5), (8, 9)])
    """
    sections, height, width = shape
    most = max(3, min(MOST_SECTIONS, MOST_BYTES // (height * width * itemsize)))
    if sections <= most:
        return [(0, sections)]
    run = most // 3
    middle = (sections - run) // 2
    return [(0, run), (middle, middle + run), (sections - run, sections)]


@dataclass
class _Seen:
    """What the sampled sections hold."""

    sampled: list[int] = field(default_factory=list)
    intensities: list[NDArray[np.float64]] = field(default_factory=list)
    """Some of each section, spread over it."""
    extremes: list[float] = field(default_factory=list)
    """Least and largest intensity of each section."""
    levels: set[float] = field(default_factory=set)
    """Intensities that occur, until they are more than a mask has."""
    painted: PaintedTally = field(default_factory=PaintedTally)
    flags: list[SectionFlag] = field(default_factory=list)
    flat: dict[int, str] = field(default_factory=dict)
    """Sections that may have padding with noise, in words."""
    swapped: tuple[str, ...] = ()
    """That the axes may be others."""
    shown: list[ShownSection] = field(default_factory=list)
    values: Counter[float] = field(default_factory=Counter)
    label_pixels: int = 0
    seconds: float = 0.0
    """It took to read, measure and compress the sampled sections."""
    compressed: int = 0
    constant: int = 0
    """Sections of one intensity."""
    outside: int = 0
    """Pixels that show no tissue."""
    contrast: tuple[float, float] = (0.0, 255.0)
    """What is drawn black and white, as stored."""

    def percentiles(self) -> dict[int, float]:
        """Return intensities, by the percentage of pixels that are not brighter."""
        within = np.percentile(np.concatenate(self.intensities), _PERCENTILES[1:-1], method="inverted_cdf").tolist()
        values = (min(self.extremes), *within, max(self.extremes))
        return dict(zip(_PERCENTILES, map(float, values), strict=True))

    def doubt(self) -> str | None:
        """Return why the image may be labels."""
        return doubt_levels(np.array(sorted(self.levels)), self.painted)

    def warnings(self) -> Iterator[str]:
        """Yield what is doubtful about the image."""
        yield from self.swapped
        if doubt := self.doubt():
            yield doubt
        if self.constant:
            yield f"{self.constant} of the {len(self.sampled)} sections that were looked at hold one intensity only"

    def add_intensities(self, section: NDArray[Any]) -> None:
        """Take those of one more section."""
        numbers = section[np.isfinite(section)]
        if not numbers.size:
            return
        self.extremes += [float(numbers.min()), float(numbers.max())]
        self.constant += numbers.min() == numbers.max()
        step = max(1, numbers.size // _INTENSITIES_A_SECTION)
        # An odd step meets every column of a section whose width is even.
        self.intensities.append(numbers[:: step | 1].astype(np.float64))
        if len(self.levels) <= MASK_LEVELS:
            self.levels |= set(np.unique(self.intensities[-1]).tolist())


def _look(
    raw: Stack, labels: PlacedLabels | None, truth: TruthTally | None, window: tuple[float, float] | None
) -> _Seen:
    seen = _Seen()
    runs = choose_runs(raw.shape, raw.dtype.itemsize)
    scaling = _choose_scaling(raw, runs, window)
    layout = Layout(shard_shape((1, *raw.shape[1:])), CHUNK, scaling.dtype.newbyteorder("<"), 1)
    shown = {0, raw.shape[0] // 2, raw.shape[0] - 1}
    middle = find_middle(raw.shape).slices[1:]
    with track("inspect", sum(stop - start for start, stop in runs), "section") as advance:
        for start, stop in runs:
            tally, axes = QualityTally(first=start), AxisTally()
            for z in range(start, stop):
                started = time.perf_counter()
                section = raw.section(z)
                seen.add_intensities(section)
                stored = scaling.store(section)
                hidden, unsure = estimate_outside(stored)
                if unsure:
                    seen.flat[z] = unsure
                seen.outside += int(np.count_nonzero(hidden))
                sample, hidden = np.ascontiguousarray(stored[middle]), hidden[middle]
                axes.add(sample, hidden)
                tally.add(measure_section(sample, hidden), trace_section(sample, hidden), digest=voxel_digest([sample]))
                seen.compressed += sum(map(len, encode_shard(sample[None], layout))) * section.size // sample.size
                seen.seconds += time.perf_counter() - started
                painted = None if labels is None else _look_at_labels(labels, truth, z, seen)
                if z in shown:
                    seen.painted.add(section)
                    # Those of a part of the section only are not drawn.
                    drawn = painted if painted is not None and painted.shape == stored.shape else None
                    seen.shown.append(ShownSection(raw.label_of(z), z, stored, drawn, truth is not None))
                seen.sampled.append(z)
                advance(1)
            seen.flags += tally.find_flags()
            if raw.axes_guessed and not seen.swapped:
                seen.swapped = tuple(say_swapped(axes.find_doubt(), raw.axes, raw.axes_from))
    seen.flags += flag_flat(seen.flat)
    ends = seen.percentiles()
    seen.contrast = scaling.level(ends[1]), scaling.level(ends[99])
    return seen


def _choose_scaling(raw: Stack, runs: list[Range], window: tuple[float, float] | None) -> Scaling:
    """Return how ingest would store the intensities, as far as the sample shows it."""
    if raw.dtype in STORED_TYPES:
        return Scaling(raw.dtype)
    survey, (_, height, width) = ValueSurvey(raw.shape), raw.shape
    for start, stop in runs:
        for z in range(start, stop):
            survey.add(Box((z, 0, 0), (z + 1, height, width)), raw.section(z)[None])
    return survey.choose(window)


def _look_at_labels(labels: PlacedLabels, truth: TruthTally | None, z: int, seen: _Seen) -> NDArray[Any] | None:
    """Count the labels of a section of the image and return them, if there are any: as truth, where that is known."""
    at = z - labels.place.start[0]
    if not 0 <= at < labels.stack.shape[0]:
        return None
    section = labels.stack.section(at)
    values, counts = np.unique(section, return_counts=True)
    seen.values.update(dict(zip(values.astype(float).tolist(), counts.tolist(), strict=True)))
    seen.label_pixels += section.size
    return section if truth is None else truth.add(at, section)


def _describe_labels(labels: PlacedLabels | None, truth: TruthTally | None, seen: _Seen) -> InspectedLabelSource | None:
    if labels is None:
        return None
    most = seen.values.most_common(_SHOWN_VALUES)
    return InspectedLabelSource(
        source=str(labels.stack.source),
        dtype=str(labels.stack.dtype),
        distinct=len(seen.values),
        values=tuple(LabelValue(value=value, share=count / seen.label_pixels) for value, count in most),
        membrane_share=truth.fraction if truth is not None and truth.known else None,
    )


def _doubt_labels(labels: PlacedLabels | None, truth: TruthTally | None, *, whole: bool) -> Iterator[str]:
    """Yield what ingest will warn of, and raise what it will raise, if all sections were looked at."""
    if truth is not None and whole:
        truth.check()
        yield from truth.warnings()
    elif labels is not None:
        yield from labels.stack.warnings
    if labels is not None:
        yield from labels.warnings()


def _voxel_size(config: InspectConfig, found: Described) -> InspectedVoxels | None:
    """Return the voxel size that ingest would take; what is stated of it, where that is not enough."""
    stated = found.voxel
    if config.voxel_nm is None and (stated is None or None in (stated.z_nm, stated.y_nm, stated.x_nm)):
        if stated is None:
            return None
        return InspectedVoxels(z_nm=stated.z_nm, y_nm=stated.y_nm, x_nm=stated.x_nm, origin=stated.origin)
    settled = settle_voxel_size(config.voxel_nm, stated, trusted=config.trust_voxel, where=config.source)
    z, y, x = settled.size.zyx
    return InspectedVoxels(z_nm=z, y_nm=y, x_nm=x, origin=settled.origin)


def _open_tally(
    labels: PlacedLabels | None, told: InspectedLabels | None, voxel: InspectedVoxels | None
) -> TruthTally | None:
    """Return what makes a truth of the labels; None where too little is known for that yet."""
    if labels is None or told is None or told.membrane is None:
        return None
    size = voxel.whole if voxel is not None else None
    # Only borders between cells have a width.
    if size is None and told.membrane == "borders":
        return None
    return TruthTally(labels.stack, told, VoxelSize(*(size or (1.0, 1.0, 1.0))))


def _find_gaps(numbers: Sequence[float]) -> Iterator[str]:
    steps = [after - before for before, after in pairwise(numbers)]
    if not steps:
        return
    usual = Counter(steps).most_common(1)[0][0]
    for (before, after), step in zip(pairwise(numbers), steps, strict=True):
        if step != usual:
            yield f"{before:g} and {after:g}"


def _estimate(raw: Stack, seen: _Seen, workspace: Workspace) -> JobEstimate:
    voxels = int(np.prod(raw.shape, dtype=object))
    share = raw.shape[0] / len(seen.sampled)
    cores = len(os.sched_getaffinity(0))
    return JobEstimate(
        ingest_seconds=seen.seconds * share * _PYRAMID,
        segment_seconds=voxels / 1e6 / (MEGAPIXELS_PER_SECOND_PER_CORE * cores),
        volume_bytes=round(seen.compressed * share * _PYRAMID),
        # A byte of probability for each voxel, which compresses by nobody knows how much; masks are small beside it.
        run_bytes=round(voxels * _PYRAMID),
        free_bytes=free_bytes(workspace),
    )


def free_bytes(workspace: Workspace) -> int:
    """Return how much is free on the disk of a workspace, which need not exist."""
    place = workspace.root
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
