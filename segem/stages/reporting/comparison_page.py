"""Writes the page that shows several runs side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segem.geometry import Box
from segem.io.files import disk_errors, locked, new_directory, sweep_partials, write_text
from segem.io.layers import read_section
from segem.io.workspace import Workspace
from segem.kernels.pictures import draw_membrane, find_shrink_factor, stretch_contrast
from segem.records.comparison import ComparedMask, ComparedVolume, Comparison, ScoreDifference
from segem.records.intervals import Interval, TooFew
from segem.stages.reporting.compare import Compared, OpenVolume, compare
from segem.stages.reporting.drawing import (
    GRID,
    MANY,
    Chart,
    Key,
    LineStyle,
    Reading,
    Table,
    drawn,
    name_lines,
    number_sections,
    thin,
)
from segem.stages.reporting.page import PAGE, load_template
from segem.stages.reporting.pictures import LARGE_PX, PICTURES, Picture, Shown, draw_found, save_picture
from segem.stages.reporting.words import NOTHING, count, say_score, say_share

INDEX, JSON = "index.html", "comparison.json"
SCORES = {"iou": "IoU", "v_rand": "V_rand", "v_info": "V_info"}
"""Of the table on the page; the file has more."""
SECTIONS = 2
"""Sections that changed most, of each volume, that are shown."""
_STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.")
_LINES = Reading(
    shown="Membrane IoU of each section, a line for each run or method.",
    good="One line above the others everywhere: the difference does not hang on a few sections.",
    bad="Lines that cross: which one is better depends on the section.",
    do="Look at the sections that changed most before you choose.",
)
_VOLUMES = Reading(
    shown="How much more membrane IoU than the first run, with the 95 % interval of a paired block bootstrap.",
    good="An interval that lies wholly to the right of 0: better, and not by chance.",
    bad="An interval across 0: the difference may be chance. Wholly to the left: worse.",
    do="Where intervals cross 0, label more sections or look at the pictures; do not choose by the last digit.",
)
_PICTURES = Reading(
    shown="The sections and regions in which the masks differ most.",
    good="The new mask closes gaps, or drops lines that are no membrane.",
    bad="New gaps or new lines in places that were right before.",
    do="If it is better here and not worse elsewhere, use it. If it is only thicker or thinner, move the threshold.",
)


@dataclass(frozen=True)
class ComparisonResult:
    """Where a comparison lies."""

    index: Path
    json: Path


@dataclass(frozen=True)
class Part:
    """What the page says of one volume."""

    volume: ComparedVolume
    chart: Chart | None
    shown: tuple[Shown, ...]


def write_comparison(runs: tuple[str, ...], workspace: Workspace) -> ComparisonResult:
    """Compare runs and write a page that shows them side by side; an older one of the same runs is replaced.

    Parameters
    ----------
    runs : tuple of str
        Two or more; the others are compared with the first one.
    workspace : Workspace
        Where they live.

    Returns
    -------
    ComparisonResult

    Raises
    ------
    SegemError
        When there is no such run, they have no volume in common, or the disk refuses.
    """
    found = compare(runs, workspace)
    folder = workspace.comparison(runs)
    with locked(folder.with_name(f".{folder.name}.lock"), wait=True):
        sweep_partials(folder.parent, folder.name)
        with new_directory(folder) as partial:
            with disk_errors(partial):
                (partial / PICTURES).mkdir()
            parts = [_describe(volume, found, partial) for volume in found.result.volumes]
            text = json.dumps(found.result.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
            write_text(partial / JSON, text)
            write_text(partial / INDEX, _render(found.result, parts))
    return ComparisonResult(folder / INDEX, folder / JSON)


def _render(result: Comparison, parts: list[Part]) -> str:
    return load_template("comparison.html.j2").render(
        page=PAGE,
        result=result,
        headline=list(summarise(result)),
        overview=draw_differences(result),
        parts=parts,
        reading_of_pictures=_PICTURES,
        say_difference=say_difference,
        shown_scores=SCORES,
    )


def summarise(result: Comparison) -> Iterator[str]:
    """Yield for each mask but the first how it fares against that, in a sentence."""
    for place, mask in enumerate(result.masks[1:], 1):
        known = [one["iou"] for volume in result.volumes if "iou" in (one := volume.differences[place])]
        if not known:
            yield f"{mask.name}: nothing was measured, for want of truth."
            continue
        ends = [one.interval for one in known]
        better = sum(isinstance(one, Interval) and one.low > 0 for one in ends)
        worse = sum(isinstance(one, Interval) and one.high < 0 for one in ends)
        same = sum(one.value == 0 and one.interval is not None and _is_point(one.interval) for one in known)
        counts = {"better": better, "worse": worse, "the same": same, "not clear": len(known) - better - worse - same}
        told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        beside = f"{mask.name}, beside {result.masks[0].name}"
        yield f"{beside}: IoU on {count(len(known), 'labelled volume')}: {told}."


def _is_point(interval: Interval | TooFew) -> bool:
    return isinstance(interval, Interval) and interval.low == interval.high == 0


def say_difference(one: ScoreDifference | None) -> str:
    """Return a difference with its interval, or why there is none.

    Examples
    --------
    >>> say_difference(ScoreDifference(value=0.0123, interval=Interval(low=-0.001, high=0.02, method="")))
    '+0.012 (-0.001 to +0.020)'
    >>> say_difference(ScoreDifference(value=0.0123, interval=TooFew(too_few="2 sections")))
    '+0.012 (too few: 2 sections)'
    """
    if one is None:
        return NOTHING
    match one.interval:
        case Interval(low=low, high=high):
            return f"{one.value:+.3f} ({low:+.3f} to {high:+.3f})"
        case TooFew(too_few=why):
            return f"{one.value:+.3f} (too few: {why})"
    return f"{one.value:+.3f}"


def draw_differences(result: Comparison) -> Chart | None:
    """Draw the difference of each mask to the first, on each volume; None where nothing was measured."""
    rows = [
        (volume.name, mask, place, volume.differences[place]["iou"])
        for volume in result.volumes
        for place, mask in enumerate(result.masks)
        if "iou" in volume.differences[place]
    ]
    if not rows:
        return None
    names = [volume if n == 0 or rows[n - 1][0] != volume else "" for n, (volume, *_) in enumerate(rows)]
    left = 18 + 6.6 * min(20, max(map(len, names)))
    shown = sorted({place for _, _, place, _ in rows})
    with drawn("differences", 78 + 17 * len(shown) + 18 * len(rows), left_px=left, top_px=16 + 17 * len(shown)) as (
        (axes,),
        svg,
    ):
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        axes.axvline(0, color=GRID, linewidth=2)
        for at, (_, _, place, one) in enumerate(rows):
            colour = MANY[place % len(MANY)]
            if isinstance(one.interval, Interval):
                axes.plot([one.interval.low, one.interval.high], [at, at], "-", color=colour)
            axes.plot([one.value], [at], "o", color=colour, markersize=5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [_shorten(name) for name in names])
        axes.margins(x=0.08)
        axes.set_xlabel(f"IoU less that of {_shorten(result.masks[0].name, 40)}")
        name_lines(axes, [Key(_shorten(result.masks[p].name, 50), MANY[p % len(MANY)]) for p in shown], columns=1)
    table = tuple((volume, mask.name, say_difference(one)) for volume, mask, _, one in rows)
    return Chart(
        "differences",
        "Differences on each volume",
        " ".join(summarise(result)),
        svg[0],
        _VOLUMES,
        Table(("Volume", "Mask", "Difference in IoU"), table),
        _say_seen(result),
    )


def draw_sections(volume: ComparedVolume, masks: tuple[ComparedMask, ...]) -> Chart | None:
    """Draw the IoU of each section, a line a mask; None where fewer than two were scored."""
    lines = [
        (place, mask, [one.ious[place] for one in volume.sections])
        for place, mask in enumerate(masks)
        if sum(one.ious[place] is not None for one in volume.sections) > 1
    ]
    if not lines:
        return None
    with drawn(f"{volume.name}-compared", 218 + 17 * len(lines), top_px=12 + 17 * len(lines)) as ((axes,), svg):
        kept = thin(len(volume.sections))
        names: list[Key] = []
        for place, mask, values in lines:
            colour, style = MANY[place % len(MANY)], _STYLES[place % len(_STYLES)]
            axes.plot(kept, [math.nan if (value := values[z]) is None else value for z in kept], style, color=colour)
            names.append(Key(_shorten(mask.name, 50), colour, style))
        axes.set_ylim(-0.03, 1.03)
        number_sections(axes, 0, len(volume.sections) - 1)
        name_lines(axes, names, columns=1)
    rows = tuple(
        (str(one.section), *(say_score(one.ious[place]) for place, _, _ in lines), say_share(one.changed))
        for one in volume.sections
    )
    return Chart(
        "sections",
        "IoU along z",
        f"Membrane IoU of each section of {volume.name}.",
        svg[0],
        _LINES,
        Table(("Section", *(mask.name for _, mask, _ in lines), "Changed"), rows),
    )


def choose_sections(volume: ComparedVolume) -> list[tuple[int, str]]:
    """Return the sections that changed most, and by how much."""
    ranked = sorted(volume.sections, key=lambda one: (-one.changed, one.section))[:SECTIONS]
    return [(one.section, f"{say_share(one.changed)} of its voxels differ") for one in ranked if one.changed]


def _describe(volume: ComparedVolume, found: Compared, folder: Path) -> Part:
    opened, masks = found.volumes[volume.name], found.result.masks
    _, height, width = opened.source.shape
    places = [(f"Section {z}", why, Box((z, 0, 0), (z + 1, height, width))) for z, why in choose_sections(volume)]
    for share, box in found.regions[volume.name]:
        z, y, x = box.start
        title = f"Section {z}, rows {y} to {box.stop[1] - 1}, columns {x} to {box.stop[2] - 1}"
        places.append((title, f"{say_share(share)} of its voxels differ", box))
    shown = tuple(
        Shown(title, why, tuple(_draw(volume.name, opened, masks, box, folder))) for title, why, box in places
    )
    return Part(volume, draw_sections(volume, masks), shown)


def _draw(name: str, volume: OpenVolume, masks: tuple[ComparedMask, ...], box: Box, folder: Path) -> Iterator[Picture]:
    z, y, x = box.start
    cut = box.slices[1:]
    truth, found = volume.read_truth(z), volume.read_masks(z)
    truth = None if truth is None else truth[cut]
    pixels = read_section(volume.source.raw, z)[cut]
    factor = find_shrink_factor(pixels.shape, LARGE_PX)
    contrast = volume.source.statistics.percentiles
    raw = stretch_contrast(pixels, contrast["1"], contrast["99"], factor)
    size = f"{box.shape[1]}x{box.shape[2]}"
    file, where = f"{name}-{z:04d}-y{y}-x{x}-{size}", f"{name}, section {z}"
    yield save_picture(folder, f"{file}-raw", "Raw", f"{where}: raw image", raw)
    if truth is not None:
        what = f"{where}: membrane by the truth, dark on white"
        yield save_picture(folder, f"{file}-truth", "Truth", what, draw_membrane(truth, factor))
    for place, (mask, one) in enumerate(zip(masks, found, strict=True)):
        if one is not None:
            kind = "membrane" if truth is None else "errors"
            what = f"{where}: {kind} of {mask.name} in colour over the raw image"
            empty = "" if one.any() else " (empty)"
            picture = draw_found(raw, truth, one[cut], factor)
            yield save_picture(folder, f"{file}-{place}", f"{mask.name}{empty}", what, picture)


def _say_seen(result: Comparison) -> str:
    used: dict[str, list[str]] = {}
    for volume in result.volumes:
        for place, seen in enumerate(volume.seen):
            if seen and any(volume.differences):
                used.setdefault(result.masks[place].name, []).append(volume.name)
    said = "; ".join(f"{mask} has used sections of {', '.join(names)}" for mask, names in used.items())
    return f"{said}: scores there do not show how it does on new data." if used else ""


def _shorten(name: str, longest: int = 20) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
