"""How far the tissue of a volume, and what a model makes of it, lie from the sections that estimates were fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, log2, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import skeletonize

from segem.kernels.threshold import threshold_probability
from segem.kernels.tiles import tile_starts

TOO_FAR = 2.0
"""Distance from which an estimate is not made: see `measure_distance`."""
PIECE_PX = 512
"""About the edge of a piece: traits are measured on whole pieces, so that ranges of few sections hold many values."""

_LEAST_TISSUE = 0.5
"""Share of a piece that must be tissue."""
_SCALES = 5
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


@dataclass(frozen=True)
class Trait:
    """Something that is measured of a piece of tissue, or of the membrane that a model found in it.

    Parameters
    ----------
    name : str
        As in the records.
    unit : float
        How much it changes from one end of a stack to the other, for log traits in octaves. Of the stacks that the
        defaults were chosen on (`benchmarks/expected.py`), so that one section is enough to fit a model's reference.
    log : bool
        Whether the ratio of two values is compared, and not their difference.
    text : str
        What it is, for people.
    measured_in : str
        Unit of the values, for people.
    of : {"image", "membrane"}
        What it shows.
    """

    name: str
    unit: float
    log: bool
    text: str
    measured_in: str
    of: Literal["image", "membrane"]

    def exceed(self, value: float, low: float, high: float) -> float:
        """Return how far a value lies beyond a range, in units of the trait."""
        if self.log:
            value, low, high = (log2(max(number, 1e-6)) for number in (value, low, high))
        return max(0.0, low - value, value - high) / self.unit


TRAITS: tuple[Trait, ...] = (
    Trait("brightness", 0.3, False, "the median intensity", "standard deviations of the volume", "image"),
    Trait("contrast", 0.3, False, "the span of intensities", "standard deviations of the volume", "image"),
    Trait("asymmetry", 0.1, False, "the asymmetry of intensities", "", "image"),
    Trait("detail_1px", 0.5, True, "the share of structure of 1 to 2 px", "", "image"),
    Trait("detail_2px", 0.3, True, "the share of structure of 2 to 4 px", "", "image"),
    Trait("detail_4px", 0.3, True, "the share of structure of 4 to 8 px", "", "image"),
    Trait("detail_8px", 0.25, True, "the share of structure of 8 to 16 px", "", "image"),
    Trait("detail_16px", 0.3, True, "the share of structure of 16 to 32 px", "", "image"),
    Trait("membrane", 0.4, True, "the share of membrane", "", "membrane"),
    Trait("doubt", 0.2, True, "what is in doubt, for each pixel of membrane", "px", "membrane"),
    Trait("width_px", 0.15, True, "the width of membranes", "px", "membrane"),
    Trait("ends", 0.5, True, "loose ends of membranes, for 1000 px of their length", "", "membrane"),
    Trait("darkness", 0.25, False, "how much darker membrane is", "standard deviations of the volume", "membrane"),
    Trait("cells", 0.5, True, "closed cells, for a million pixels", "", "membrane"),
)

Traits = Mapping[str, float]
"""A value for each of `TRAITS` that was measured, by its name."""
Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value of traits, by name."""


@dataclass(frozen=True)
class Distance:
    """How far the traits of a volume lie from a reference.

    Parameters
    ----------
    value : float
        Root of the summed squares of what every trait exceeds its range by, in its unit.
    excess : mapping of str to float
        The parts of it that are not 0.
    """

    value: float
    excess: Mapping[str, float]

    @property
    def too_far(self) -> bool:
        """Whether nothing that was fitted on the reference can be relied on."""
        return self.value > TOO_FAR


def choose_evenly(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of `count` numbers from 0, spread evenly from the first to the last.

    Examples
    --------
    >>> choose_evenly(10, 4), choose_evenly(2, 4)
    ((0, 3, 6, 9), (0, 1))
    """
    return tuple(round(k) for k in np.linspace(0, count - 1, min(count, most)).tolist())


def measure_image(image: NDArray[np.floating], inside: NDArray[np.bool_] | None = None) -> dict[str, float] | None:
    """Measure what a piece of tissue looks like.

    Parameters
    ----------
    image : (y, x) float
        Intensities in standard deviations of the whole volume, as a net sees them.
    inside : (y, x) bool, optional
        Pixels that show tissue.

    Returns
    -------
    dict of str to float or None
        The traits of images in `TRAITS`; None where less than half of the piece is tissue, or it has one intensity.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = measure_image(rng.normal(size=(256, 256)))
    >>> round(found["detail_1px"], 2), round(found["detail_2px"], 2)
    (0.75, 0.19)
    """
    z = np.asarray(image, np.float64)
    if inside is not None and not inside.all():
        if inside.mean() < _LEAST_TISSUE:
            return None
        # Padding would be structure of its own; a grey of the tissue's mean adds least.
        z = np.where(inside, z, z[inside].mean())
    low, middle, high = np.percentile(z if inside is None else z[inside], (5, 50, 95))
    variances = _variances(z)
    if high <= low or variances[0] <= 0:
        return None
    details = {
        f"detail_{2**k}px": float((variances[k] - variances[k + 1]) / variances[0]) for k in range(len(variances) - 1)
    }
    return {
        "brightness": float(middle),
        "contrast": float(high - low),
        "asymmetry": float((high + low - 2 * middle) / (high - low)),
    } | details


def measure_membrane(
    image: NDArray[np.floating],
    stored: NDArray[np.uint8],
    threshold: float,
    inside: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Measure what a model makes of a piece of tissue.

    Parameters
    ----------
    image : (y, x) float
        Intensities in standard deviations of the whole volume.
    stored : (y, x) uint8
        Probability of membrane, 255 = certain.
    threshold : float
        Probability from which a pixel is membrane.
    inside : (y, x) bool, optional
        Pixels that show tissue.

    Returns
    -------
    dict of str to float
        The traits of membranes in `TRAITS`. All are finite: without any membrane its width is 0.

    Examples
    --------
    A line of 3 px with two loose ends:

    >>> stored = np.zeros((64, 64), np.uint8)
    >>> stored[30:33, 10:50] = 255
    >>> found = measure_membrane(np.where(stored > 0, -1.0, 1.0), stored, 0.5)
    >>> round(found["width_px"], 1), found["darkness"], found["doubt"]
    (3.0, 2.0, 0.0)
    """
    tissue = np.ones(stored.shape, np.bool_) if inside is None else inside
    membrane = (threshold_probability(stored, threshold) != 0) & tissue
    pixels, found = int(np.count_nonzero(tissue)), int(np.count_nonzero(membrane))
    counts = np.bincount(stored[tissue], minlength=256)
    p = np.arange(256) / 255
    lines = skeletonize(membrane)
    length = int(np.count_nonzero(lines))
    ends = lines & (ndimage.convolve(lines.astype(np.uint8), _NEIGHBOURS, mode="constant") == 1)
    background = tissue & ~membrane
    darkness = float(image[background].mean() - image[membrane].mean()) if 0 < found < pixels else 0.0
    # One more of each, so that a piece without membrane has finite values too, far from those of any tissue.
    return {
        "membrane": (found + 1) / (pixels + 1),
        "doubt": float(counts @ np.minimum(p, 1 - p)) / (float(counts @ p) + 1),
        "width_px": found / (length + 1),
        "ends": 1000 * (int(np.count_nonzero(ends)) + 1) / (length + 30),
        "darkness": darkness,
        "cells": 1e6 * (int(label(background, connectivity=1).max()) + 1) / max(pixels, 1),
    }


@dataclass(frozen=True)
class Piece:
    """What was measured of one piece of a section.

    Parameters
    ----------
    rows, columns : slice
        Where it lies.
    traits : mapping of str to float
        Those of its image; with a probability those of its membrane too.
    """

    rows: slice
    columns: slice
    traits: Traits


def measure_pieces(
    image: NDArray[np.floating],
    stored: NDArray[np.uint8] | None = None,
    threshold: float = 0.5,
    inside: NDArray[np.bool_] | None = None,
) -> list[Piece]:
    """Measure a section piece by piece; those that are mostly no tissue are left out.

    Parameters
    ----------
    image : (y, x) float
        Intensities in standard deviations of the whole volume.
    stored : (y, x) uint8, optional
        Probability of membrane, 255 = certain; without it only the image is measured.
    threshold : float
        Probability from which a pixel is membrane.
    inside : (y, x) bool, optional
        Pixels that show tissue.

    Returns
    -------
    list of Piece
        Of about 512 x 512 pixels each.
    """
    ends = [[*(int(n) for n in tile_starts(length, PIECE_PX)), length] for length in image.shape]
    found = []
    for rows, columns in product(*(map(slice, edges[:-1], edges[1:]) for edges in ends)):
        tissue = None if inside is None else inside[rows, columns]
        traits = measure_image(image[rows, columns], tissue)
        if traits is not None and stored is not None:
            traits |= measure_membrane(image[rows, columns], stored[rows, columns], threshold, tissue)
        if traits is not None:
            found.append(Piece(rows, columns, traits))
    return found


def measure_section(
    image: NDArray[np.floating],
    stored: NDArray[np.uint8],
    threshold: float,
    inside: NDArray[np.bool_] | None = None,
) -> dict[str, float] | None:
    """Return the traits of a section, the mean over its pieces; None where it is mostly no tissue.

    Parameters are those of `measure_pieces`.
    """
    pieces = measure_pieces(image, stored, threshold, inside)
    return mean_traits([piece.traits for piece in pieces]) if pieces else None


def mean_traits(pieces: Sequence[Traits]) -> dict[str, float]:
    """Return the mean of each trait over pieces, geometric for those that are compared by ratio.

    Examples
    --------
    >>> mean_traits([{"brightness": 0.0, "ends": 1.0}, {"brightness": 1.0, "ends": 4.0}])
    {'brightness': 0.5, 'ends': 2.0}
    """
    found = {}
    for trait in TRAITS:
        values = [piece[trait.name] for piece in pieces if trait.name in piece]
        if values:
            logs = np.log2(np.maximum(values, 1e-6)) if trait.log else np.asarray(values)
            found[trait.name] = float(2 ** logs.mean() if trait.log else logs.mean())
    return found


def range_traits(pieces: Sequence[Traits]) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest value of each trait over pieces.

    Examples
    --------
    >>> range_traits([{"ends": 1.0, "cells": 50.0}, {"ends": 4.0}])
    {'ends': (1.0, 4.0), 'cells': (50.0, 50.0)}
    """
    found = {}
    for trait in TRAITS:
        values = [piece[trait.name] for piece in pieces if trait.name in piece]
        if values:
            found[trait.name] = (min(values), max(values))
    return found


def measure_distance(traits: Traits, ranges: Ranges) -> Distance:
    """Measure how far traits lie from the ranges of a reference.

    Parameters
    ----------
    traits : mapping of str to float
        What was measured.
    ranges : mapping of str to (float, float)
        Of the reference. A trait that one of them lacks makes the distance infinite: nothing is known of it.

    Returns
    -------
    Distance

    Examples
    --------
    >>> ranges = {trait.name: (1.0, 2.0) for trait in TRAITS}
    >>> traits = {trait.name: 1.5 for trait in TRAITS}
    >>> measure_distance(traits, ranges).value
    0.0

    Twice as many loose ends as ever are an octave, which is two of the units of that trait:

    >>> measure_distance(traits | {"ends": 4.0}, ranges).value
    2.0
    """
    excess: dict[str, float] = {}
    for trait in TRAITS:
        if trait.name not in traits or trait.name not in ranges:
            excess[trait.name] = inf
            continue
        beyond = trait.exceed(traits[trait.name], *ranges[trait.name])
        if beyond > 0:
            excess[trait.name] = beyond
    return Distance(sqrt(sum(beyond**2 for beyond in excess.values())), excess)


def explain_distance(distance: Distance, traits: Traits, ranges: Ranges, most: int = 3) -> tuple[str, ...]:
    """Return in words which traits lie furthest beyond a reference, the furthest first.

    Examples
    --------
    >>> ranges = {trait.name: (1.0, 2.0) for trait in TRAITS}
    >>> traits = {trait.name: 1.5 for trait in TRAITS} | {"width_px": 3.0}
    >>> explain_distance(measure_distance(traits, ranges), traits, ranges)
    ('the width of membranes is 3 px, and 1 to 2 px where the estimate was fitted',)
    """
    texts = {trait.name: trait for trait in TRAITS}
    worst = sorted(distance.excess, key=lambda name: -distance.excess[name])[:most]
    return tuple(_explain(texts[name], traits.get(name), ranges.get(name)) for name in worst)


def _explain(trait: Trait, value: float | None, known: tuple[float, float] | None) -> str:
    if value is None or known is None:
        return f"{trait.text} is not known"
    unit = f" {trait.measured_in}" if trait.measured_in else ""
    low, high, here = (f"{number:.2g}" if number < 100 else f"{number:.0f}" for number in (*known, value))
    return f"{trait.text} is {here}{unit}, and {low} to {high}{unit} where the estimate was fitted"


def _variances(image: NDArray[np.float64]) -> list[float]:
    """Return the variance of an image, and of its means over 2, 4, 8, 16 and 32 pixels."""
    found = [float(image.var())]
    for _ in range(_SCALES):
        height, width = (n // 2 * 2 for n in image.shape)
        if not height or not width:
            found.append(0.0)
            continue
        rows = image[0:height:2, :width] + image[1:height:2, :width]
        image = (rows[:, 0::2] + rows[:, 1::2]) / 4
        found.append(float(image.var()))
    return found
