"""How well a truth lies on its image: the correlation of labelled membrane with dark lines, also where it is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from segem.kernels.truth import is_known, is_membrane

Floats = NDArray[np.float32]

# Membranes are darker than what lies around them within so many pixels, at pixels of 4 to 10 nm.
_FINE_PX, _AROUND_PX = 1.5, 31
_MOST_DEVIATIONS = 2.5


@dataclass(frozen=True)
class Shift:
    """Where a truth correlates best with an image.

    Parameters
    ----------
    y_px, x_px : int
        How far the truth has to be moved.
    correlation : float
        There.
    """

    y_px: int
    x_px: int
    correlation: float


def measure_darkness(section: NDArray[Any]) -> Floats:
    """Return how dark each pixel is beside what lies around it.

    Parameters
    ----------
    section : (H, W) array
        Intensities.

    Returns
    -------
    (H, W) float32
        Of zero mean and unit norm, so that products with others like it are correlations; 0 in a section of one
        intensity.
    """
    fine = ndimage.gaussian_filter(section, _FINE_PX, output=np.float32)
    dark = ndimage.uniform_filter(fine, _AROUND_PX) - fine
    # Dirt, bars and edges of the canvas are darker than any membrane.
    limit = _MOST_DEVIATIONS * float(dark.std())
    return _normalised(np.clip(dark, -limit, limit))


def measure_membrane(truth: NDArray[np.uint8]) -> Floats:
    """Return where membrane is labelled, as numbers of zero mean and unit norm; 0 where the truth is unknown.

    Parameters
    ----------
    truth : (H, W) uint8
        1 = membrane, 0 = background, 2 = unknown.

    Returns
    -------
    (H, W) float32
        0 in a section of one class.
    """
    known = is_known(truth)
    membrane = is_membrane(truth).astype(np.float32)
    share = float(membrane[known].mean()) if known.any() else 0.0
    return _normalised(np.where(known, membrane - np.float32(share), np.float32(0)))


def correlate(one: Floats, other: Floats) -> float:
    """Return the correlation of two sections of zero mean and unit norm."""
    return float(np.vdot(one, other))


def correlate_shifted(membrane: Floats, dark: Floats, reach_px: int) -> Floats:
    """Return the correlation of a truth with an image for each shift of the truth.

    Parameters
    ----------
    membrane, dark : (H, W) float32
        As `measure_membrane` and `measure_darkness` give them.
    reach_px : int
        Largest shift along either axis, less than the section.

    Returns
    -------
    (2 * reach_px + 1, 2 * reach_px + 1) float32
        Its middle is the truth as it is.

    Examples
    --------
    >>> one, moved = np.zeros((2, 8, 8), np.float32)
    >>> one[2, 2] = moved[3, 4] = 1
    >>> find_best_shift(correlate_shifted(one, moved, 3))
    Shift(y_px=1, x_px=2, correlation=1.0)
    """
    # Padded, so that what leaves the section on one side does not come back on the other.
    shape = [fft.next_fast_len(n + reach_px, real=True) for n in dark.shape]
    product = fft.rfft2(dark, shape) * np.conj(fft.rfft2(membrane, shape))
    every = np.roll(fft.irfft2(product, shape), (reach_px, reach_px), (0, 1))
    side = 2 * reach_px + 1
    correlations: Floats = every[:side, :side].astype(np.float32)
    return correlations


def find_best_shift(correlations: Floats) -> Shift:
    """Return the shift of the largest correlation of a map that `correlate_shifted` made, or of a mean of such maps."""
    y, x = np.unravel_index(int(np.argmax(correlations)), correlations.shape)
    reach_px = correlations.shape[0] // 2
    return Shift(int(y) - reach_px, int(x) - reach_px, round(float(correlations[y, x]), 6))


def _normalised(values: NDArray[np.float32]) -> Floats:
    centred = values - values.mean()
    norm = float(np.linalg.norm(centred))
    return centred / np.float32(norm) if norm > 0 else np.zeros_like(centred)
