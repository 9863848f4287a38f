"""Which sections and regions of a volume a reader should see."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from segem.geometry import Box, ceil_div
from segem.records.error_map import ErrorMap
from segem.records.expected import Abstains
from segem.records.scores import VolumeScores
from segem.stages.reporting.words import say_share

REGIONS = 3
"""How many regions of a volume are shown."""
_MOST_LEAFED, _MOST_VOXELS = 1000, 2**34
"""Sections, and voxels of them, that are drawn to be leafed through; of larger volumes every n-th section is."""


def choose_sections(volume: VolumeScores) -> dict[int, str]:
    """Return which sections a reader should see, and why: the worst, the median and the best by IoU.

    Without scores they are those with most, median and least expected errors; without these the first, the middle and
    the last. The first section that stands out is one of them.

    Examples
    --------
    >>> choose_sections(VolumeScores(name="a", state="complete", sections=5))
    {0: 'first', 2: 'middle', 4: 'last'}
    """
    if volume.sections is None:
        return {}
    whose = "the model" if volume.scores.model else "the baseline"
    values = ((one.iou_model if volume.scores.model else one.iou_baseline, one.section) for one in volume.per_section)
    ranked = sorted((iou, z) for iou, z in values if iou is not None)
    scored = {z: iou for iou, z in ranked}
    if ranked:
        named = _name_ends([z for _, z in ranked], ("lowest", "median", "highest"))
        return {z: f"{_enumerate(names)} IoU of {whose}: {scored[z]:.3f}" for z, names in named.items()}
    doubted = sorted((-one.expected, one.section) for one in volume.errors if one.expected is not None)
    if doubted:
        what = "doubt" if isinstance(volume.expected, Abstains) else "expected errors"
        chosen = _name_ends([z for _, z in doubted], (f"most {what}", f"median {what}", f"least {what}"))
    else:
        chosen = _name_ends(range(volume.sections), ("first", "middle", "last"))
    if volume.flags:
        chosen.setdefault(volume.flags[0].section, []).append("stands out")
    return {z: ", ".join(why) for z, why in chosen.items()}


def _name_ends(ranked: Sequence[int], names: tuple[str, str, str]) -> dict[int, list[str]]:
    """Return the first, the middle and the last of ranked sections with their names."""
    chosen: dict[int, list[str]] = {}
    for place, name in zip((0, (len(ranked) - 1) // 2, len(ranked) - 1), names, strict=True):
        chosen.setdefault(ranked[place], []).append(name)
    return chosen


def _enumerate(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def choose_regions(errors: ErrorMap) -> Iterator[tuple[Box, str]]:
    """Yield the regions where most errors are expected, the worst of each section, and why they are shown.

    Examples
    --------
    >>> from segem.records.error_map import SectionErrors
    >>> strip = tuple(SectionErrors(section=z, expected=0.1, worst=worst) for z, worst in enumerate((0.18, 0.2)))
    >>> found = ErrorMap(volume="fly", region_px=256, y_px=(0, 256), x_px=(0, 256, 512), sections=strip,
    ...     expected=(((0.02, 0.18),), ((None, 0.2),)))
    >>> [(box.start, why) for box, why in choose_regions(found)]
    [((1, 0, 256), 'most errors expected: 20.0 %'), ((0, 0, 256), 'most errors expected: 18.0 %')]
    """
    # Sections no larger than a region are shown as such.
    if len(errors.y_px) == len(errors.x_px) == 2:
        return
    known = [(worst, n) for n, one in enumerate(errors.sections) if (worst := one.worst) is not None]
    # Only grids of sections that are shown are looked at: a large volume has millions of regions.
    for worst, n in heapq.nlargest(REGIONS, known, key=lambda one: one[0]):
        section, grid = errors.sections[n].section, errors.expected[n]
        places = [(value, j, i) for j, row in enumerate(grid) for i, value in enumerate(row) if value is not None]
        _, j, i = max(places, key=lambda one: one[0])
        why = "most doubt of its section" if errors.abstains else f"most errors expected: {say_share(worst)}"
        start, stop = (section, errors.y_px[j], errors.x_px[i]), (section + 1, errors.y_px[j + 1], errors.x_px[i + 1])
        yield Box(start, stop), why


def choose_leafed(sections: int, pixels: int) -> tuple[int, ...]:
    """Return which sections are drawn to be leafed through: all, but for very many or very large ones.

    Examples
    --------
    >>> choose_leafed(4, 1024 * 1024), len(choose_leafed(2500, 1024 * 1024))
    ((0, 1, 2, 3), 834)
    """
    step = max(ceil_div(sections, _MOST_LEAFED), ceil_div(sections * pixels, _MOST_VOXELS))
    return tuple(range(0, sections, step))
