"""What a section shows of its quality, and how two sections lie to each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from segem.geometry import ceil_div
from segem.kernels.normalize import histogram

SAMPLE_PX = 1024
"""Longest side of the middle of a section, of which all measures are taken."""

_LEAST_PX = 16
"""A side shorter than this has no structure to measure."""
_LEAST_INSIDE = 0.05
"""With less tissue than this share, a section counts as empty."""
_LEAST_COMMON = 0.03
"""With less of its slopes in common between rows, a section is noise."""
_LEAST_POWER = 1e-3
"""Of the structure that is compared, in squared intensities."""
_COMPARED_PX = 256
"""Longest side of what is compared with other sections: more would find the same shifts, in more time."""
_PRINT_PX = 48
"""Side of a fingerprint: two unrelated ones correlate by about 1 / 48."""
_LEAST_QUARTER_PX = 64
"""A shorter side of a quarter of what is compared shows too little to say where it lies."""
_ASTRAY_PX = 10
"""How far a quarter may lie from where the whole does, in pixels of what is compared; what correlates further away is
other structure."""
_FEW = 4e-6
"""Share of the pixels that may be darker than the darkest level, or brighter than the brightest: hot pixels."""
# Wavelengths between, in pixels of what is compared: longer ones are uneven light, shorter ones are noise.
_LONGEST_PX, _SHORTEST_PX = 40.0, 5.0


@dataclass(frozen=True)
class Measures:
    """What is measured of one section, see `measure_section`."""

    sharpness: float | None
    contrast: float | None
    brightness: float | None
    noise: float | None
    outside: float
    darkest: float | None = None
    brightest: float | None = None


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of a section to compare it with others, see `trace_section`."""

    spectrum: NDArray[np.complex64]
    """Of a correlation of 1 with itself."""
    quarters: NDArray[np.complex64]
    """The same of each quarter of the section; none where it is small."""
    shape: tuple[int, int]
    factor: int
    """Pixels of the section for one of what is compared."""
    fingerprint: NDArray[np.int8]
    """Fine structure at `_PRINT_PX` points along each side."""


@dataclass(frozen=True)
class Comparison:
    """How a section lies to another one, see `compare_traces`."""

    shift_y_px: float
    shift_x_px: float
    similarity: float
    opposite: float = 0.0


def measure_section(section: NDArray[Any], outside: NDArray[np.bool_] | None = None) -> Measures:
    """Measure sharpness, contrast, brightness and noise of a section.

    Parameters
    ----------
    section : (y, x) uint8 or uint16
        Intensities.
    outside : (y, x) bool, optional
        Pixels that show no tissue; they count for nothing.

    Returns
    -------
    Measures
        Sharpness is the strength of the edges relative to the contrast, from slopes in rows beside each other, so that
        noise, which differs from row to row, adds nothing. Contrast is the span between the 5th and 95th percentile,
        brightness the median, and noise the standard deviation by Immerkær's method, all in intensities, as are the
        darkest and brightest level (see `find_ends`). None where there is too little tissue.

    References
    ----------
    Immerkær, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996),
    doi:10.1006/cviu.1996.0060.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> measured = measure_section(np.rint(rng.normal(100, 10, (256, 256))).astype(np.uint8))
    >>> round(measured.noise), round(measured.brightness), round(measured.contrast)
    (10, 100, 32)
    """
    hidden = outside is not None and bool(outside.any())
    inside = None if outside is None or not hidden else ~outside
    share = 0.0 if inside is None else 1 - float(inside.mean())
    if section.size == 0 or 1 - share < _LEAST_INSIDE:
        return Measures(None, None, None, None, share)
    counts = histogram(section if inside is None else section[inside])
    low, middle, high = _percentiles(counts, (5, 50, 95))
    contrast = float(high - low)
    darkest, brightest = find_ends(counts)
    if min(section.shape) < _LEAST_PX:
        return Measures(None, contrast, float(middle), None, share, darkest, brightest)
    image = section.astype(np.float32)
    edges = _edge_strength(image, inside)
    sharpness = edges / contrast if edges is not None and contrast else None
    return Measures(sharpness, contrast, float(middle), _noise(image, inside), share, darkest, brightest)


def find_ends(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the darkest and the brightest level of a section, as they would be had nothing been cut off.

    Pixels that were cut off are piled up in the last level that is left. How far they reached is estimated from how
    many there are, as if the levels beyond thinned out evenly from what those before have, and reached no further than
    what the section shows is wide.

    Parameters
    ----------
    counts : (n,) int64
        How many pixels have each level; at least one has any.

    Returns
    -------
    tuple of float
        In intensities; but for 4 pixels in a million, all lie between them.

    Examples
    --------
    >>> find_ends(np.array([0, 0, 5, 5, 5, 5, 5, 0]))
    (2.0, 6.0)
    >>> find_ends(np.array([20, 5, 5, 5, 5, 5, 0]))
    (-5.0, 5.0)
    """
    dark = _find_end(counts)
    return dark, counts.size - 1 - _find_end(counts[::-1])


def _find_end(counts: NDArray[np.int64]) -> float:
    running = np.cumsum(counts)
    at = int(np.searchsorted(running, max(1, round(_FEW * int(running[-1])))))
    levels = np.flatnonzero(counts)
    last, beside = int(levels[0]), levels[1:5]
    if at != last or beside.size < 4:
        return float(at)
    # Of data of 12 bits that fill 16, only every sixteenth level is used.
    usual = float(counts[beside].mean())
    # Of a triangle, the base is twice the area over the height.
    hidden = 2 * (float(counts[last]) / usual - 1) * (int(beside[-1]) - last) / beside.size
    return at - min(max(hidden, 0.0), float(levels[-1] - last))


def trace_section(section: NDArray[Any], outside: NDArray[np.bool_] | None = None) -> Trace | None:
    """Return what it takes to compare a section with others; None where it shows nothing.

    Parameters
    ----------
    section : (y, x) uint8 or uint16
        Intensities.
    outside : (y, x) bool, optional
        Pixels that show no tissue.

    Returns
    -------
    Trace or None
        A few hundred kilobytes at most, whatever the size of the section.

    Examples
    --------
    >>> trace_section(np.zeros((64, 64), np.uint8)) is None
    True
    """
    if min(section.shape) < _LEAST_PX:
        return None
    image = section.astype(np.float32)
    if outside is not None and outside.any():
        if 1 - outside.mean() < _LEAST_INSIDE:
            return None
        # The border of the tissue would be the strongest structure of all.
        image[outside] = np.median(image[~outside])
    factor = ceil_div(max(section.shape), _COMPARED_PX)
    small = _pool(image, factor)
    if min(small.shape) < _LEAST_PX:
        return None
    spectrum, power = _transform(small)
    fingerprint = _fingerprint(image)
    # Less than rounding leaves of a section of one intensity.
    if power < _LEAST_POWER or fingerprint is None:
        return None
    return Trace(spectrum, _transform_quarters(small), (small.shape[0], small.shape[1]), factor, fingerprint)


def compare_traces(before: Trace, after: Trace) -> Comparison:
    """Find how far a section is shifted against another one, and how much both are alike where they overlap best.

    Parameters
    ----------
    before, after : Trace
        Of two sections of one shape.

    Returns
    -------
    Comparison
        Shift in pixels of the section, positive where the second lies further down and to the right: the median of
        those of the whole and of its quarters, since tissue changes in places, while a section moves as a whole. The
        correlation of their structure where the whole overlaps best, and that with the negative of the second one.

    References
    ----------
    Kuglin and Hines, "The phase correlation image alignment method", IEEE Conf. Cybernetics and Society (1975); here
    in one band of wavelengths, without whitening, which would give noise the weight of structure.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tissue = np.kron(rng.integers(0, 255, (40, 40)), np.ones((8, 8))).astype(np.uint8)
    >>> found = compare_traces(trace_section(tissue[:256, :256]), trace_section(tissue[6:262, :256]))
    >>> round(found.shift_y_px), round(found.shift_x_px)
    (-6, 0)
    """
    height, width = before.shape
    cross = scipy.fft.irfft2(np.conj(before.spectrum) * after.spectrum, s=before.shape)
    # Beyond a quarter of the side, too little overlaps to tell.
    whole, similarity = _find_peak(cross, (0, 0), (height // 4, width // 4))
    _, opposite = _find_peak(-cross, (0, 0), (height // 4, width // 4))
    shifts = [whole]
    start = round(whole[0]), round(whole[1])
    overlap = abs(start[0]) <= height // 8 and abs(start[1]) <= width // 8
    if before.quarters.size and after.quarters.size and overlap:
        crosses = scipy.fft.irfft2(np.conj(before.quarters) * after.quarters, s=(height // 2, width // 2))
        shifts += [_find_peak(quarter, start, (_ASTRAY_PX, _ASTRAY_PX))[0] for quarter in crosses]
    y, x = np.median(shifts, axis=0)
    return Comparison(float(y) * before.factor, float(x) * before.factor, similarity, opposite)


def _find_peak(
    cross: NDArray[np.float32], around: tuple[int, int], reach: tuple[int, int]
) -> tuple[tuple[float, float], float]:
    """Return where a correlation is largest, and its value there."""
    rows, columns = (np.arange(at - n, at + n + 1) for at, n in zip(around, reach, strict=True))
    near = cross[np.ix_(rows % cross.shape[0], columns % cross.shape[1])]
    at_y, at_x = (int(n) for n in np.unravel_index(int(near.argmax()), near.shape))
    y, x = rows[at_y] + _summit(near[:, at_x], at_y), columns[at_x] + _summit(near[at_y], at_x)
    return (float(y), float(x)), float(near[at_y, at_x])


def correlate_fingerprints(prints: NDArray[np.int8], others: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return how the fine structure of sections correlates with that of others.

    Parameters
    ----------
    prints, others : (n, k) and (m, k) int8
        Fingerprints, a row each.

    Returns
    -------
    (n, m) float32
        From -1 to 1.

    Examples
    --------
    >>> one = np.array([[3, -3, 1, -1]], np.int8)
    >>> correlate_fingerprints(one, np.concatenate([one, -one])).round(3).tolist()
    [[1.0, -1.0]]
    """
    a, b = (_unit(each.astype(np.float32)) for each in (prints, others))
    return np.asarray(a @ b.T, np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


def _percentiles(counts: NDArray[np.int64], percents: tuple[int, ...]) -> tuple[int, ...]:
    running = np.cumsum(counts)
    ranks = [-(-percent * int(running[-1]) // 100) for percent in percents]
    return tuple(int(n) for n in np.searchsorted(running, ranks))


def _edge_strength(image: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> float | None:
    """Return the root mean square slope, in intensities a pixel, that neighbouring rows and columns have in common."""
    across, down = image[:, 2:] - image[:, :-2], image[2:] - image[:-2]
    if inside is not None:
        across *= inside[:, 2:] & inside[:, :-2]
        down *= inside[2:] & inside[:-2]
    common = _sum_products(across[1:], across[:-1]) + _sum_products(down[:, 1:], down[:, :-1])
    if common <= _LEAST_COMMON * (_sum_products(across, across) + _sum_products(down, down)):
        return None
    pixels = image.size if inside is None else int(np.count_nonzero(inside))
    return sqrt(common / (2 * pixels)) / 2


def _sum_products(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij->", a, b))


def _noise(image: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> float:
    bent = image[2:] + image[:-2]
    bent -= 2 * image[1:-1]
    twice = bent[:, 2:] + bent[:, :-2]
    twice -= 2 * bent[:, 1:-1]
    np.abs(twice, out=twice)
    if inside is None:
        mean = float(twice.mean())
    else:
        rows = inside[2:] & inside[1:-1] & inside[:-2]
        whole = rows[:, 2:] & rows[:, 1:-1] & rows[:, :-2]
        mean = float(twice[whole].mean()) if whole.any() else 0.0
    # The mask [1 -2 1] along both axes has the norm 6, and the mean of |n| is sqrt(2 / pi) deviations.
    return float(np.sqrt(np.pi / 2) / 6 * mean)


def _pool(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = (n // factor for n in image.shape)
    rows = image[: height * factor].reshape(height, factor, -1).sum(axis=1)
    columns = rows[:, : width * factor].reshape(height, width, factor).sum(axis=2)
    return np.asarray(columns / factor**2, np.float32)


def _transform(image: NDArray[np.float32]) -> tuple[NDArray[np.complex64], float]:
    """Return the spectrum of the band of wavelengths that is compared, of a correlation of 1, and the power it had."""
    shape = (image.shape[0], image.shape[1])
    window, band = _window_and_band(shape)
    spectrum = scipy.fft.rfft2((image - image.mean()) * window) * band
    columns = (spectrum.real**2 + spectrum.imag**2).sum(axis=0, dtype=np.float64)
    # By Parseval's theorem; of a real image, only the first column, and of an even width the last, has no mirror image.
    once = columns[0] + (columns[-1] if shape[1] % 2 == 0 else 0.0)
    power = float(2 * columns.sum() - once) / image.size
    return (spectrum / np.sqrt(max(power, _LEAST_POWER))).astype(np.complex64), power


def _transform_quarters(image: NDArray[np.float32]) -> NDArray[np.complex64]:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    if min(height, width) < _LEAST_QUARTER_PX:
        return np.empty((0, 0, 0), np.complex64)
    quarters = (image[top:, left:][:height, :width] for top in (0, height) for left in (0, width))
    return np.stack([_transform(quarter)[0] for quarter in quarters])


@lru_cache(maxsize=4)
def _window_and_band(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the taper of a section's edges, and the weight of each frequency."""
    # Without its ends, which are 0 and would leave nothing of a narrow section.
    rows, columns = (np.hanning(n + 2)[1:-1] for n in shape)
    y, x = scipy.fft.fftfreq(shape[0]), scipy.fft.rfftfreq(shape[1])
    squared = y[:, None] ** 2 + x**2
    band = (1 - np.exp(-squared * _LONGEST_PX**2)) * np.exp(-squared * _SHORTEST_PX**2)
    return np.outer(rows, columns).astype(np.float32), band.astype(np.float32)


def _fingerprint(image: NDArray[np.float32]) -> NDArray[np.int8] | None:
    # In pairs of pixels, since compression changes single ones most.
    pooled = _pool(image, 2 if min(image.shape) >= 2 * _PRINT_PX else 1)
    step_y, step_x = (ceil_div(n - 2, _PRINT_PX) for n in pooled.shape)
    rows, columns = slice(1, -1, step_y), slice(1, -1, step_x)
    fine = (
        4 * pooled[rows, columns]
        - pooled[:-2:step_y, columns]
        - pooled[2::step_y, columns]
        - pooled[rows, :-2:step_x]
        - pooled[rows, 2::step_x]
    ).ravel()
    spread = float(fine.std())
    if spread < 1e-3:
        return None
    return np.asarray(np.clip(np.rint(fine / spread * 32), -127, 127), np.int8)


def _summit(line: NDArray[np.float32], at: int) -> float:
    """Return how far the top of the parabola through three points lies from the middle one."""
    if not 0 < at < line.size - 1:
        return 0.0
    left, top, right = (float(n) for n in line[at - 1 : at + 2])
    curve = left - 2 * top + right
    return 0.0 if curve >= 0 else (left - right) / (2 * curve)
