"""Doubts about labels that do not lie on their image: moved, mirrored, of other sections, or inverted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box
from segem.kernels.alignment import (
    Floats,
    correlate,
    correlate_shifted,
    find_best_shift,
    measure_darkness,
    measure_membrane,
)

Read = Callable[[Box], NDArray[Any]]

# What is compared: the middle of a few sections; and how far labels are sought.
_SECTIONS, _SIDE_PX, _REACH_PX = 5, 512, 64
_STEPS = {-2: "two sections before", -1: "one section before", 1: "one section after", 2: "two sections after"}
_TURNS: dict[str, Callable[[Floats], Floats]] = {
    "mirrored in x": lambda section: section[:, ::-1],
    "mirrored in y": lambda section: section[::-1],
    "turned by 180 degrees": lambda section: section[::-1, ::-1],
    "with x and y exchanged": lambda section: section.T,
    "turned by 90 degrees": lambda section: np.rot90(section),
    "turned by 270 degrees": lambda section: np.rot90(section, 3),
}
# Labels in their place correlate with dark lines by 0.2 to 0.6, and by a fifth less when they are moved by 3 px. What
# chance gives elsewhere is below 0.03 in five sections, and five times that is asked for, however few the pixels are.
_LEAST, _LEAST_PER_ROOT_PX = 0.1, 50
_LEAST_GAIN = 0.1
"""Share of the correlation that a change must be better by."""
# Labels are drawn by hand, so a pixel or two is no fault.
_LEAST_SHIFT_PX = 3


def doubt_alignment(image: Read, truth: Read, shape: ZYX, labelled: Sequence[int]) -> Iterator[str]:
    """Yield in words, where labels do not lie on their image, how they would.

    Parameters
    ----------
    image, truth : callable
        Return the voxels of a box: intensities; 1 = membrane, 0 = background, 2 = unknown.
    shape : tuple of int
        Extent of both along (z, y, x).
    labelled : sequence of int
        Sections whose truth holds membrane and background, in order.

    Yields
    ------
    str
        At most one warning.
    """
    margins = [max(0, (n - _SIDE_PX) // 2) for n in shape[1:]]
    (y0, x0), (y1, x1) = margins, (n - margin for n, margin in zip(shape[1:], margins, strict=True))

    def middle(read: Read, z: int) -> NDArray[Any]:
        section: NDArray[Any] = read(Box((z, y0, x0), (z + 1, y1, x1)))[0]
        return section

    last = shape[0] - 1
    picked = {labelled[round(at)] for at in np.linspace(0, len(labelled) - 1, _SECTIONS)} if labelled else set()
    near = {z + step for z in picked for step in (0, *_STEPS)} & set(range(shape[0]))
    dark = {z: measure_darkness(middle(image, z)) for z in sorted(near)}
    opposite = {last - z for z in picked} & set(labelled)
    membrane = {z: measure_membrane(middle(truth, z)) for z in sorted(picked | opposite)}
    # The middle of a section may show one class, or one grey level, where the whole does not.
    as_is = {z: correlate(membrane[z], dark[z]) for z in sorted(picked) if dark[z].any() and membrane[z].any()}
    if not as_is:
        return
    now = float(np.mean(list(as_is.values())))
    least = max(_LEAST, _LEAST_PER_ROOT_PX / math.sqrt(sum(dark[z].size for z in as_is)))
    if now < -least:
        yield (
            f"labelled membrane is brighter than what lies around it (correlation with dark lines {now:.2f}): check "
            "the polarity; where membrane is bright in the image, invert the image"
        )
        return
    found: dict[str, list[tuple[float, float]]] = {}
    for how, z, correlation in _change(dark, membrane, list(as_is), last):
        found.setdefault(how, []).append((correlation, as_is[z]))
    convincing = {how: np.mean(pairs, 0) for how, pairs in found.items() if _convinces(np.array(pairs), least)}
    if convincing:
        how = max(convincing, key=lambda one: float(convincing[one][0]))
        there, here = convincing[how]
        yield (
            f"the labels fit the image better {how} (correlation with dark lines {there:.2f}, as they are {here:.2f}): "
            "check how image and labels were cut, turned and numbered"
        )


def _change(
    dark: Mapping[int, Floats], membrane: Mapping[int, Floats], chosen: Sequence[int], last: int
) -> Iterator[tuple[str, int, float]]:
    """Yield changes of the labels in words, with a section and its correlation then."""
    reach_px = min(_REACH_PX, *(n // 4 for n in dark[chosen[0]].shape))
    moved = {z: correlate_shifted(membrane[z], dark[z], reach_px) for z in chosen}
    shift = find_best_shift(np.mean(list(moved.values()), 0))
    for z in chosen:
        if math.hypot(shift.y_px, shift.x_px) >= _LEAST_SHIFT_PX:
            where = f"moved by {shift.y_px:+d} px in y and {shift.x_px:+d} px in x"
            yield where, z, float(moved[z][shift.y_px + reach_px, shift.x_px + reach_px])
        for step, where in _STEPS.items():
            if z + step in dark:
                yield where, z, correlate(membrane[z], dark[z + step])
        for where, turn in _TURNS.items():
            turned = turn(membrane[z])
            if turned.shape == dark[z].shape:
                yield where, z, correlate(turned, dark[z])
        if last - z in membrane and last - z != z:
            yield "in reverse order", z, correlate(membrane[last - z], dark[z])


def _convinces(pairs: NDArray[np.float64], least: float) -> bool:
    """Return whether correlations after a change, beside those before it, leave no doubt that it is better."""
    there, here = pairs.T
    gain = there.mean() - here.mean()
    return bool(there.mean() > least and gain > _LEAST_GAIN * there.mean() and (there > here).mean() > 0.5)
