"""Sections of one tissue that are made to look like another tissue, stain or microscope."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Sections = NDArray[np.float32]
"""(C, H, W) z-scores of adjacent sections."""


def _stain(sections: Sections, rng: np.random.Generator) -> Sections:
    """Map grey levels by a random rising curve through their quantiles: dark stays darker than bright."""
    levels = np.quantile(sections, np.linspace(0, 1, 6))
    # Steps of the curve between none and three times the usual one; both ends are kept.
    heights = np.concatenate([[0.0], np.cumsum(rng.uniform(0.05, 1.0, len(levels) - 1))])
    heights = levels[0] + heights / heights[-1] * (levels[-1] - levels[0])
    # Tissue of one grey has no curve.
    if levels[0] == levels[-1]:
        return sections
    stained: Sections = np.interp(sections, levels, heights).astype(np.float32)
    return stained


def _shade(sections: Sections, rng: np.random.Generator) -> Sections:
    """Add a slope, and stretch contrast along another one, as of a beam that is not centred."""
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in sections.shape[-2:])
    slopes = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
    added, stretched = (a * y[:, np.newaxis] + b * x for a, b in slopes)
    shaded: Sections = sections * np.exp(stretched * np.float32(0.3)) + added * np.float32(0.5)
    return shaded


def _width(sections: Sections, rng: np.random.Generator) -> Sections:
    """Make what is dark up to a pixel wider or narrower on each side."""
    extreme = ndimage.minimum_filter if rng.random() < 1 / 2 else ndimage.maximum_filter
    share = np.float32(rng.uniform(0.2, 1.0))
    changed: Sections = sections + share * (extreme(sections, size=(1, 3, 3)) - sections)
    return changed


def _sharpness(sections: Sections, rng: np.random.Generator) -> Sections:
    """Blur, or sharpen by taking what a blur loses once more."""
    sigma = rng.uniform(0.5, 2.0)
    blurred: Sections = ndimage.gaussian_filter(sections, (0, sigma, sigma))
    return blurred if rng.random() < 2 / 3 else sections + np.float32(rng.uniform(0.3, 1.0)) * (sections - blurred)


def _noise(sections: Sections, rng: np.random.Generator) -> Sections:
    """Add noise, of single pixels or, as after an interpolation, of small patches."""
    noise = rng.standard_normal(sections.shape, np.float32)
    grain = rng.uniform(0, 1.0)
    noise = ndimage.gaussian_filter(noise, (0, grain, grain))
    noisy: Sections = sections + noise * np.float32(rng.uniform(0.1, 0.8) / noise.std())
    return noisy


CHANGES: dict[str, Callable[[Sections, np.random.Generator], Sections]] = {
    "stain": _stain,
    "shade": _shade,
    "width": _width,
    "sharpness": _sharpness,
    "noise": _noise,
}
"""Each change by its name."""


def standardize_like(changed: Sections, before: Sections) -> Sections:
    """Return changed sections with the mean and spread of those before; those before where nothing is left of them."""
    spread = changed.std()
    if not spread:
        return before
    scaled: Sections = (changed - changed.mean()) * (before.std() / spread) + before.mean()
    return scaled
