"""Synthetic serial-section electron micrographs of neural tissue, with the truth they were drawn from.

They look like transmission EM at 4 nm, and are difficult in the same way: a membrane is a dark line of about 20 nm, but
mitochondria, vesicles and stain are as dark, and the noise is half as large as the contrast. So intensity alone finds
membrane poorly, while a net that has learned shapes finds it well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.config import SynthConfig
from segem.kernels.tissue import Anatomy, Extent, Floats, Ints, PixelNm, Tissue, Waves, coarse, smooth_field

# Grey levels of what is drawn, before the microscope adds its blur and noise.
_CYTOPLASM, _MEMBRANE, _MITOCHONDRION = 152.0, 54.0, 94.0
# Size in nm of the patches in which a property of the section varies; see where each is used.
_PATCHES_NM = {"width": 120.0, "slant": 150.0, "stain": 500.0, "clouds": 260.0, "focus": 600.0, "dirt": 180.0}


@dataclass(frozen=True)
class SyntheticEM:
    """A synthetic volume.

    Parameters
    ----------
    image : (z, y, x) uint8
        Grey levels; membrane is dark.
    truth : (z, y, x) uint8
        1 = membrane.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class Section:
    """One section of a synthetic volume: image and truth, (y, x) uint8 each."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class _Speck:
    """A small round organelle, the depths below the cell's border at which it lies, and whether it comes in clouds."""

    radius_nm: float
    hollow: bool
    darkness: float
    per_um2: float
    clouded: bool
    least_depth_nm: float
    most_depth_nm: float = np.inf


_SPECKS = (
    _Speck(18, hollow=True, darkness=105, per_um2=400, clouded=True, least_depth_nm=28),  # synaptic vesicles
    _Speck(12, hollow=True, darkness=95, per_um2=160, clouded=False, least_depth_nm=25),  # microtubules
    _Speck(17, hollow=False, darkness=80, per_um2=30, clouded=True, least_depth_nm=30),  # dense-core vesicles
    _Speck(30, hollow=True, darkness=90, per_um2=18, clouded=False, least_depth_nm=42),  # reticulum
    _Speck(7, hollow=False, darkness=90, per_um2=130, clouded=False, least_depth_nm=20),  # ribosomes
    _Speck(24, hollow=False, darkness=60, per_um2=60, clouded=True, least_depth_nm=8, most_depth_nm=28),  # synapses
)


def synthesize(config: SynthConfig) -> SyntheticEM:
    """Draw a whole volume.

    Parameters
    ----------
    config : SynthConfig
        Shape in voxels, voxel size in nanometres and seed; the same configuration gives the same bytes.

    Returns
    -------
    SyntheticEM

    Examples
    --------
    >>> em = synthesize(SynthConfig(shape=(2, 64, 48), seed=3))
    >>> em.image.shape, em.image.dtype, np.unique(em.truth).tolist()
    ((2, 64, 48), dtype('uint8'), [0, 1])
    """
    drawn = list(draw_sections(config))
    return SyntheticEM(np.stack([s.image for s in drawn]), np.stack([s.truth for s in drawn]))


def draw_sections(config: SynthConfig) -> Iterator[Section]:
    """Draw a volume section by section, so that memory does not grow with the number of sections.

    A section depends on the seed and its own z alone: the first sections of a long volume are those of a short one.

    Parameters are those of `synthesize`.

    Examples
    --------
    >>> [section.truth.shape for section in draw_sections(SynthConfig(shape=(2, 16, 32)))]
    [(16, 32), (16, 32)]
    """
    (depth, height, width), (z_nm, y_nm, x_nm) = config.shape, config.voxel_nm
    specimen = Specimen.prepare((height, width), (y_nm, x_nm), config.seed)
    return (specimen.section(z, z * z_nm) for z in range(depth))


@dataclass(frozen=True)
class Specimen:
    """Stained tissue, ready to be sectioned.

    Parameters
    ----------
    seed : int
        Of the volume.
    tissue : Tissue
        Its anatomy.
    grey : (n,) float64
        Grey levels by which the cytoplasm of each cell differs from the mean.
    patches : dict of str to Waves
        How properties vary over the section and with depth.
    """

    seed: int
    tissue: Tissue
    grey: Floats
    patches: dict[str, Waves]

    @classmethod
    def prepare(cls, extent: Extent, pixel_nm: PixelNm, seed: int) -> Specimen:
        """Grow the tissue and stain it."""
        rng = np.random.default_rng([seed, 0])
        tissue = Tissue.grow(extent, pixel_nm, rng)
        count = len(tissue.cell)
        grey = rng.normal(0, 9, count) - 38 * (rng.random(count) < 0.08)
        patches = {
            name: Waves.draw(rng, coarse(extent, (size_nm / pixel_nm[0], size_nm / pixel_nm[1])), 1500.0)
            for name, size_nm in _PATCHES_NM.items()
        }
        return cls(seed, tissue, grey, patches)

    def section(self, z: int, z_nm: float) -> Section:
        """Cut the section with index `z` at its depth and take its image."""
        # Seeded by z, so that a section does not depend on how many were drawn before it.
        rng = np.random.default_rng([self.seed, 1, z])
        shift_y_nm, shift_x_nm = rng.normal(0, 3, 2)
        anatomy = self.tissue.at(z_nm, (shift_y_nm, shift_x_nm))
        patch = {name: smooth_field(waves.at(z_nm), self.tissue.extent) for name, waves in self.patches.items()}
        # Where a membrane runs obliquely through the section it is a wide pale band.
        slant = _sigmoid((patch["slant"] - 1.3) / 0.2)
        half_nm = np.clip(10.5 + 1.5 * patch["width"], 8, 15) + 8 * slant
        paint = self._cytoplasm(anatomy, patch, rng)
        self._add_mitochondria(paint, anatomy, z_nm, rng)
        opacity = (1 - 0.3 * slant) * np.clip(1 + 0.12 * _noise(rng, paint.shape, 4), 0.5, 1.3)
        opacity *= _sigmoid((half_nm - anatomy.depth_nm) / (2.5 + 4 * slant))
        paint += opacity * (_MEMBRANE - paint)
        # People who trace membranes include half of the blurred flanks.
        truth = anatomy.depth_nm <= half_nm + 0.8
        return Section(_photograph(paint, patch, rng), truth.astype(np.uint8))

    def _cytoplasm(self, anatomy: Anatomy, patch: dict[str, Floats], rng: np.random.Generator) -> Floats:
        extent, pixel_nm = self.tissue.extent, self.tissue.pixel_nm
        paint = _CYTOPLASM + self.grey[anatomy.cell] + 8 * patch["stain"] + 8 * _noise(rng, extent, 2.5)
        paint += 9 * _noise(rng, extent, 5) * np.clip(1 + 0.5 * patch["clouds"], 0.3, 2)
        area_um2 = float(np.prod(extent) * np.prod(pixel_nm)) * 1e-6
        ink = np.zeros(extent)
        for speck in _SPECKS:
            count = rng.poisson(area_um2 * speck.per_um2)
            y, x = rng.integers(0, extent, (count, 2)).T
            strength = rng.uniform(0.4, 1.0, count) * speck.darkness
            depth_nm = anatomy.depth_nm[y, x]
            fits = (depth_nm > speck.least_depth_nm) & (depth_nm < speck.most_depth_nm)
            if speck.clouded:
                fits &= patch["clouds"][y, x] > rng.normal(0.6, 0.4, count)
            _press(ink, y[fits], x[fits], strength[fits], _stamp(speck, pixel_nm))
        return paint - ink

    def _add_mitochondria(self, paint: Floats, anatomy: Anatomy, z_nm: float, rng: np.random.Generator) -> None:
        for mitochondrion in self.tissue.mitochondria(anatomy, z_nm):
            depth_nm = mitochondrion.depth_nm
            cristae = np.sin(2 * np.pi * mitochondrion.along_nm / 38 + 2.5 * _noise(rng, depth_nm.shape, 9))
            matter = _MITOCHONDRION + 20 * cristae + 10 * _noise(rng, depth_nm.shape, 2.5)
            # Its dark outer membrane, and the pale gap before its inner one.
            matter += 24 * np.exp(-(((depth_nm - 12) / 4) ** 2)) - 40 * np.exp(-(((depth_nm - 2) / 5) ** 2))
            part = paint[mitochondrion.window]
            part += _sigmoid(depth_nm / 3) * (matter - part)


def _photograph(paint: Floats, patch: dict[str, Floats], rng: np.random.Generator) -> NDArray[np.uint8]:
    stained = paint - 45 * _sigmoid((patch["dirt"] - 2) / 0.2)
    image = ndimage.gaussian_filter(stained, 0.8)
    image += np.clip(patch["focus"] - 1, 0, 1) * (ndimage.gaussian_filter(stained, 2.0) - image)
    # Shot noise grows with brightness; the detector spreads each electron over neighbouring pixels (2.9 undoes the
    # loss of variance).
    grain = 2.9 * ndimage.gaussian_filter(rng.standard_normal(image.shape), 0.8)
    image += 20 * np.sqrt(np.clip(image, 20, None) / _CYTOPLASM) * grain + 4 * rng.standard_normal(image.shape)
    contrast, brightness = rng.normal(1, 0.04), rng.normal(0, 4)
    grey = np.rint(128 + contrast * (image - 128) + brightness)
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


def _noise(rng: np.random.Generator, extent: Extent, scale_px: float) -> Floats:
    return smooth_field(rng.standard_normal(coarse(extent, (scale_px, scale_px))), extent)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))


def _stamp(speck: _Speck, pixel_nm: PixelNm) -> Floats:
    """Return a ring or a disc, 1 where darkest, of odd height and width."""
    reach = [int(np.ceil((speck.radius_nm + 8) / size)) for size in pixel_nm]
    y, x = (np.arange(-r, r + 1) * size for r, size in zip(reach, pixel_nm, strict=True))
    distance = np.hypot(y[:, None], x[None, :])
    if speck.hollow:
        return np.asarray(np.exp(-(((distance - speck.radius_nm + 4) / 4) ** 2)))
    return _sigmoid((speck.radius_nm - distance) / 2)


def _press(ink: Floats, y: Ints, x: Ints, strength: Floats, stamp: Floats) -> None:
    """Put the stamp on each place; where two overlap the darker one shows, and what falls off the edge is lost."""
    for (dy, dx), dark in np.ndenumerate(stamp):
        rows, columns = y + dy - stamp.shape[0] // 2, x + dx - stamp.shape[1] // 2
        on = (rows >= 0) & (rows < ink.shape[0]) & (columns >= 0) & (columns < ink.shape[1])
        np.maximum.at(ink, (rows[on], columns[on]), strength[on] * dark)
