"""The anatomy of synthetic neural tissue at any depth, in nanometres: cells, their borders, their mitochondria."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Extent = tuple[int, int]
PixelNm = tuple[float, float]

# Radius of a profile in nm and how many are tried per square micrometre: somata first, thin axons in the gaps.
_PROFILES = ((330.0, 1.0), (210.0, 4.0), (130.0, 9.0), (80.0, 22.0), (48.0, 120.0))
# Distortions of space that curve the borders: size, amplitude and period in z, in nm.
_BENDS = ((700.0, 120.0, 10000.0), (200.0, 40.0, 3500.0), (80.0, 10.0, 1200.0))
_MARGIN_NM = 500.0
_BRANCHING = 0.15
_LEAST_HOST_NM = 100.0


@dataclass(frozen=True)
class Waves:
    """Random numbers of unit variance that drift with depth: each is a sine with a phase and a period of its own.

    Parameters
    ----------
    phase, turn : arrays of float64, same shape
        Phase at depth 0 in radians, and how fast it turns with depth in radians per nanometre.
    """

    phase: Floats
    turn: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...], period_nm: float) -> Waves:
        """Draw waves whose periods lie around `period_nm`."""
        return cls(rng.uniform(0, 2 * np.pi, shape), rng.uniform(0.6, 1.4, shape) * 2 * np.pi / period_nm)

    def at(self, z_nm: float) -> Floats:
        """Return the numbers at a depth."""
        return np.asarray(np.sqrt(2) * np.sin(self.phase + self.turn * z_nm))


def coarse(extent: Extent, scale_px: PixelNm) -> Extent:
    """Return the shape of the grid from which `smooth_field` makes details of `scale_px` (at least 2) pixels."""
    rows, columns = (int(np.ceil(n / max(s, 2.0))) + 4 for n, s in zip(extent, scale_px, strict=True))
    return rows, columns


def smooth_field(grid: Floats, extent: Extent) -> Floats:
    """Interpolate a coarse grid of unit-variance numbers by cubic B-splines.

    Parameters
    ----------
    grid : (rows, columns) float64
        Of the shape that `coarse` gives.
    extent : tuple of int
        Pixels along (y, x).

    Returns
    -------
    (y, x) float64
        A smooth field of about unit variance.

    Examples
    --------
    >>> field = smooth_field(np.ones(coarse((6, 8), (3.0, 4.0))), (6, 8))
    >>> field.shape, bool(np.ptp(field) < 1e-9)
    ((6, 8), True)
    """
    rows, columns = (_spline_basis(n, k) for n, k in zip(extent, grid.shape, strict=True))
    # 0.479 is the mean sum of squared weights of two crossed cubic B-splines, so the variance becomes 1.
    return np.asarray((columns @ (rows @ grid).T).T) / 0.479


@dataclass(frozen=True)
class Anatomy:
    """What lies in one section; every array is (y, x).

    Parameters
    ----------
    y_nm, x_nm : float64
        Position of each pixel in the undistorted space in which the cells were packed.
    profile, cell : int64
        The profile each pixel belongs to, and the cell of that profile.
    depth_nm : float64
        Distance to the nearest border with another cell.
    """

    y_nm: Floats
    x_nm: Floats
    profile: Ints
    cell: Ints
    depth_nm: Floats


@dataclass(frozen=True)
class Mitochondrion:
    """One mitochondrion in a section.

    Parameters
    ----------
    window : tuple of slice
        The part of the section that holds it, h by w pixels.
    depth_nm, along_nm : (h, w) float64
        Distance below its outer membrane (negative outside), and position along its axis.
    """

    window: tuple[slice, slice]
    depth_nm: Floats
    along_nm: Floats


@dataclass(frozen=True)
class Tissue:
    """Neuropil without end in z; arrays hold one row for each profile.

    Parameters
    ----------
    extent, pixel_nm : tuples
        Pixels along (y, x) and their size.
    home_nm : (n, 2) float64
        Mean position of a profile.
    radius_nm : (n,) float64
        Its radius.
    cell : (n,) int64
        The cell it belongs to; the branches of a cell are profiles of their own.
    sway : Waves, (n, 2)
        How its position varies with depth.
    host : (n, 7) float64
        Its mitochondrion: period in z (nm), phase, angle (radians), half length, half width and offset along (y, x),
        in units of the radius.
    bends : tuple of Waves, (2, rows, columns) each
        How space is distorted, one for each entry of ``_BENDS``.
    """

    extent: Extent
    pixel_nm: PixelNm
    home_nm: Floats
    radius_nm: Floats
    cell: Ints
    sway: Waves
    host: Floats
    bends: tuple[Waves, ...]

    @classmethod
    def grow(cls, extent: Extent, pixel_nm: PixelNm, rng: np.random.Generator) -> Tissue:
        """Pack a section full of cells, large and small.

        Examples
        --------
        >>> tissue = Tissue.grow((64, 64), (4.0, 4.0), np.random.default_rng(0))
        >>> tissue.at(0.0).depth_nm.shape
        (64, 64)
        """
        home_nm, radius_nm = _pack((extent[0] * pixel_nm[0], extent[1] * pixel_nm[1]), rng)
        count = len(home_nm)
        cell = np.arange(count)
        _, nearest = cKDTree(home_nm).query(home_nm, k=2)
        branching = rng.random(count) < _BRANCHING
        cell[branching] = nearest[branching, 1]
        low, high = np.array([(800, 0, 0, 0.4, 0.28, -0.35, -0.35), (2500, 1, np.pi, 0.8, 0.42, 0.35, 0.35)])
        bends = tuple(
            Waves.draw(rng, (2, *coarse(extent, (size_nm / pixel_nm[0], size_nm / pixel_nm[1]))), period_nm)
            for size_nm, _, period_nm in _BENDS
        )
        sway, host = Waves.draw(rng, (count, 2), 2500.0), rng.uniform(low, high, (count, 7))
        return cls(extent, pixel_nm, home_nm, radius_nm, cell, sway, host, bends)

    def at(self, z_nm: float, shift_nm: tuple[float, float] = (0.0, 0.0)) -> Anatomy:
        """Cut the tissue at a depth; the section is displaced by `shift_nm`."""
        y, x = (np.arange(n) * size + s for n, size, s in zip(self.extent, self.pixel_nm, shift_nm, strict=True))
        y, x = np.meshgrid(y, x, indexing="ij")
        for (_, reach_nm, _), waves in zip(_BENDS, self.bends, strict=True):
            along_y, along_x = waves.at(z_nm)
            y += reach_nm * smooth_field(along_y, self.extent)
            x += reach_nm * smooth_field(along_x, self.extent)
        # A power diagram by nearest neighbours: the third coordinate keeps small profiles further away.
        lift = np.sqrt(self.radius_nm.max() ** 2 - self.radius_nm**2)
        tree = cKDTree(np.column_stack([self._centres_nm(z_nm), lift]))
        _, profile = tree.query(np.stack([y, x, np.zeros_like(y)], axis=-1))
        cell = self.cell[profile]
        return Anatomy(y, x, profile, cell, _depth_nm(cell, self.pixel_nm))

    def mitochondria(self, anatomy: Anatomy, z_nm: float) -> Iterator[Mitochondrion]:
        """Yield the mitochondria that a section at this depth cuts."""
        centres_nm = self._centres_nm(z_nm) + self.host[:, 5:] * self.radius_nm[:, None]
        period_nm, phase, angle = self.host[:, :3].T
        # Each profile has one mitochondrion after the other along z, with a gap between them.
        height = 1 - (2.4 * ((z_nm / period_nm + phase) % 1 - 0.5)) ** 2
        half_nm = self.host[:, 3:5] * self.radius_nm[:, None] * np.sqrt(np.maximum(height, 0))[:, None]
        for index, window in enumerate(ndimage.find_objects(anatomy.profile + 1)):
            if window is None or self.radius_nm[index] < _LEAST_HOST_NM or height[index] < 0.05:
                continue
            y, x = anatomy.y_nm[window] - centres_nm[index, 0], anatomy.x_nm[window] - centres_nm[index, 1]
            cosine, sine = np.cos(angle[index]), np.sin(angle[index])
            along, across = cosine * y + sine * x, cosine * x - sine * y
            long_nm, wide_nm = half_nm[index]
            depth_nm = (1 - np.hypot(along / long_nm, across / wide_nm)) * wide_nm
            room_nm = np.where(anatomy.cell[window] == self.cell[index], anatomy.depth_nm[window] - 16, -_MARGIN_NM)
            yield Mitochondrion(window, np.minimum(depth_nm, room_nm), along)

    def _centres_nm(self, z_nm: float) -> Floats:
        return self.home_nm + np.minimum(0.3 * self.radius_nm, 40.0)[:, None] * self.sway.at(z_nm)


def _pack(size_nm: tuple[float, float], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Drop circles at random, the largest first, and keep those that hardly overlap any before them."""
    low, high = np.full(2, -_MARGIN_NM), np.array(size_nm) + _MARGIN_NM
    kept: list[tuple[Floats, float]] = []
    for radius_nm, per_um2 in _PROFILES:
        tried = rng.uniform(low, high, (int(np.prod(high - low) * 1e-6 * per_um2), 2))
        for centres, other_nm in kept:
            distance, _ = cKDTree(centres).query(tried)
            tried = tried[distance > 0.9 * (radius_nm + other_nm)]
        if len(tried):
            rejected = np.zeros(len(tried), bool)
            for first, second in sorted(cKDTree(tried).query_pairs(1.8 * radius_nm)):
                rejected[second] |= not rejected[first]
            kept.append((tried[~rejected], radius_nm))
    homes = np.concatenate([centres for centres, _ in kept])
    radii = np.concatenate([np.full(len(centres), radius_nm) for centres, radius_nm in kept])
    return homes, radii * rng.uniform(0.85, 1.15, len(radii))


def _depth_nm(cell: Ints, pixel_nm: PixelNm) -> Floats:
    border = np.zeros(cell.shape, bool)
    for one, other in (np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1]):
        differs = cell[one] != cell[other]
        border[one] |= differs
        border[other] |= differs
    if not border.any():
        return np.full(cell.shape, _MARGIN_NM)
    # The border runs between pixels, half a pixel from the nearest ones.
    return np.asarray(ndimage.distance_transform_edt(~border, sampling=pixel_nm)) + min(pixel_nm) / 2


def _spline_basis(n: int, knots: int) -> sparse.csr_matrix:
    position = np.arange(n) * ((knots - 4) / n)
    first = np.floor(position).astype(np.int64)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    columns = first[:, None] + np.arange(4)
    return sparse.csr_matrix((weights.ravel(), columns.ravel(), np.arange(0, 4 * n + 1, 4)), shape=(n, knots))
