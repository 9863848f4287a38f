"""The fully connected CRF of two classes, by mean field: it makes a probability follow the edges of the image.

Every pair of pixels of a section is joined. A labelling x (1 = membrane) costs::

    E(x) = sum_i -log P_i(x_i)  +  sum_{i<j} [x_i != x_j] k_ij

    k = w1 N(exp(-|p_i - p_j|^2 / 2 sa^2 - |I_i - I_j|^2 / 2 sb^2))  +  w2 N(exp(-|p_i - p_j|^2 / 2 sg^2))

with positions p, grey levels I and the symmetric normalisation N(K) = D^-1/2 K D^-1/2, D = diag(K 1), so that w1 and w2
are about the total weight of all other pixels on one of them, whatever the sigmas. Mean field looks for the product
distribution Q that minimises the free energy::

    F(Q) = sum_i sum_l Q_i(l) (log Q_i(l) - log P_i(l))  +  1/2 sum_ij k_ij (1 - sum_l Q_i(l) Q_j(l))

Its second sum includes i = j. That changes no labelling's energy (a pixel never differs from itself) and makes k
positive semidefinite, so that the second sum is concave in Q. All pixels may then be updated at once without damping:
each update minimises F with the concave part replaced by its tangent, and F never rises (Kraehenbuehl & Koltun 2013).
Without the diagonal it may. With two classes, s = 2 Q(1) - 1 describes Q completely, and an update is::

    logit Q(1) = logit P - logit t + k s

where t is the operating point, the probability at which a pixel favours neither label: the threshold of the model,
one half by default.

`k s` is two Gaussian filters: one in the plane, and one on the lattice (y, x, grey level) of a bilateral grid (Paris &
Durand 2006), onto which pixels are spread, and from which they are read, by linear interpolation.

References
----------
P. Kraehenbuehl, V. Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials", NIPS 2011,
arXiv:1210.5644; "Parameter learning and convergent inference for dense random fields", ICML 2013. S. Paris, F. Durand,
"A fast approximation of the bilateral filter using a signal processing approach", ECCV 2006, doi:10.1007/11744085_44.
L.-C. Chen et al. use it in DeepLab, arXiv:1412.7062 and 1606.00915.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.special import expit, logit

from segem.config import CrfConfig
from segem.errors import InputError
from segem.geometry import round_up

Floats = NDArray[np.float64]

LEAST_PROBABILITY = 0.5 / 255
"""Probabilities are clipped here from 0 and 1: stored in 8 bits, they are known to half a step."""
TRUNCATE_SIGMAS = 4.0
"""Where Gaussians are cut; 6e-5 of their weight lies beyond."""
GREY_LEVELS = 256
HALO_SIGMAS = 5
"""Context with which a tile differs from the whole section by at most one step of 255, measured on ISBI 2012 and the
Drosophila VNC with seven settings; with four, one setting differed by two. It is never exact: all pixels are joined."""
BYTES_A_PIXEL, CELL_COPIES = 250, 3
"""Measured peak: the eight grid weights of each pixel with their indices, and copies of the grid."""


def refine(
    probability: NDArray[np.float32], image: NDArray[np.uint8], config: CrfConfig, operating_point: float = 0.5
) -> NDArray[np.float32]:
    """Return the mean-field probability of membrane of one section.

    Parameters
    ----------
    probability : (y, x) array of float32
        Of membrane, in 0..1.
    image : (y, x) array of uint8
        Grey levels of the same section.
    config : CrfConfig
        Weights, sigmas and number of iterations.
    operating_point : float
        Probability at which a pixel favours neither label, above 0 and below 1: the threshold of the model. For a net
        with a threshold of 0.2, a probability of 0.3 is evidence for membrane; with 0.5 it would count against it, and
        lines would be lost.

    Returns
    -------
    (y, x) array of float32
        In 0..1; membrane is the more likely label from 0.5 on.

    Raises
    ------
    InputError
        When the two differ in shape, or a probability is not a number from 0 to 1.

    Examples
    --------
    A pixel that a net has missed on a dark line is recovered:

    >>> image = np.full((16, 16), 200, np.uint8)
    >>> image[:, 8] = 50
    >>> probability = np.where(image < 100, np.float32(0.9), np.float32(0.1))
    >>> probability[8, 8] = 0.3
    >>> refined = refine(probability, image, CrfConfig(w1=4, sa_px=8, sb_grey=10, w2=0))
    >>> bool((refined[:, 8] > 0.9).all()), bool((refined[:, 7] < 0.1).all())
    (True, True)
    """
    crf = MeanField.of(probability, image, config, operating_point)
    logits = crf.unary
    for _ in range(config.iterations):
        logits = crf.updated(logits)
    refined: NDArray[np.float32] = expit(logits).astype(np.float32)
    return refined


@dataclass(frozen=True)
class MeanField:
    """The CRF of one section.

    Parameters
    ----------
    unary : (y, x) float64
        log P(1) - log P(0).
    pairwise : callable
        Multiplies a (y, x) array by k.
    """

    unary: Floats
    pairwise: Callable[[Floats], Floats]

    @classmethod
    def of(
        cls,
        probability: NDArray[np.float32],
        image: NDArray[np.uint8],
        config: CrfConfig,
        operating_point: float = 0.5,
    ) -> MeanField:
        """Build the CRF of a section; parameters and errors as of `refine`."""
        if probability.shape != image.shape or probability.ndim != 2:
            raise InputError(
                "probability and image must be one section of the same shape",
                expected=image.shape,
                found=probability.shape,
                fix="give the section that the probability was computed from",
            )
        # Written so that NaN, which compares as false, is refused too.
        if not ((probability >= 0) & (probability <= 1)).all():
            raise InputError("not a probability", expected="numbers from 0 to 1", fix="look for NaN in the input")
        # A probability of exactly 0 or 1 has an infinite logit, which no neighbour could ever outweigh.
        certain = np.clip(probability.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        kernels: list[Callable[[Floats], Floats]] = []
        if config.w1:
            grid = BilateralGrid.over(image, config.sa_px, config.sb_grey)
            kernels.append(normalized(grid.filtered, config.w1, image.shape))
        if config.w2:
            kernels.append(normalized(lambda s: gaussian(s, config.sg_px), config.w2, image.shape))
        unary = logit(certain) - logit(operating_point)
        return cls(unary, lambda s: sum((kernel(s) for kernel in kernels), np.zeros(s.shape)))

    def updated(self, logits: Floats) -> Floats:
        """Return logit Q(1) after one update of all pixels at once; the free energy does not rise."""
        # tanh(logit / 2) is s = 2 Q(1) - 1.
        return self.unary + self.pairwise(np.tanh(logits / 2))

    def free_energy(self, logits: Floats) -> float:
        """Return F(Q) of the distribution with these logits of membrane."""
        s = np.tanh(logits / 2)
        # sum_l Q(l) (log Q(l) - log P(l)), with log Q(1) = -log(1 + exp(-logit)).
        q = expit(logits)
        relative = q * (logits - self.unary) + np.logaddexp(0, self.unary) - np.logaddexp(0, logits)
        disagreement = self.pairwise(np.ones(s.shape)) - s * self.pairwise(s)
        return float(relative.sum() + disagreement.sum() / 4)


def normalized(kernel: Callable[[Floats], Floats], weight: float, shape: tuple[int, ...]) -> Callable[[Floats], Floats]:
    """Return ``weight * D^-1/2 K D^-1/2`` of a kernel K with row sums D."""
    # The row sums of K are K applied to ones. Each pixel counts itself, so no sum is 0.
    scale = 1 / np.sqrt(kernel(np.ones(shape)))
    return lambda s: weight * scale * kernel(scale * s)


def gaussian(values: Floats, sigma: float | tuple[float, ...]) -> Floats:
    """Return sums weighted by exp(-d^2 / 2 sigma^2); nothing lies outside the array.

    Examples
    --------
    >>> gaussian(np.array([0.0, 1.0, 0.0]), 1.0).round(4).tolist()
    [0.6065, 1.0, 0.6065]
    """
    sigmas = sigma if isinstance(sigma, tuple) else (sigma,) * values.ndim
    for axis, width in enumerate(sigmas):
        # Not normalised, unlike ndimage's own filter, and cut to the array, beyond which everything is 0.
        reach = min(int(np.ceil(TRUNCATE_SIGMAS * width)), values.shape[axis] - 1)
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
        values = ndimage.correlate1d(values, weights, axis, mode="constant")
    return values


@dataclass(frozen=True)
class BilateralGrid:
    """exp(-|p_i - p_j|^2 / 2 sa^2 - |I_i - I_j|^2 / 2 sb^2) between all pixels of a section, approximately.

    Parameters
    ----------
    spread : (cells, pixels) sparse matrix
        How much of each pixel goes to each cell of the lattice.
    shape : tuple of int, length 3
        Cells along (y, x, grey level).
    sigmas : tuple of float, length 3
        Of the blur on the lattice, in cells.
    """

    spread: sparse.csc_array
    shape: tuple[int, int, int]
    sigmas: tuple[float, float, float]

    @classmethod
    def over(cls, image: NDArray[np.uint8], sa_px: float, sb_grey: float) -> BilateralGrid:
        """Build the lattice for a section."""
        steps = (spacing(sa_px), spacing(sa_px), spacing(sb_grey))
        # One cell beyond the last pixel, for the upper neighbour of the interpolation.
        shape = tuple((n - 1) // step + 2 for n, step in zip((*image.shape, GREY_LEVELS), steps, strict=True))
        at = np.stack([*np.indices(image.shape, np.int32), image.astype(np.int32)]).reshape(3, -1)
        # Axis by axis, each pixel's share is split between the two nearest cells: 2, 4, then 8 corners.
        cell, part = np.zeros((image.size, 1), np.int32), np.ones((image.size, 1))
        for position, step, cells in zip(at, steps, shape, strict=True):
            low, rest = np.divmod(position[:, None], np.int32(step))
            share = rest / step
            cell = np.concatenate([cell * cells + low, cell * cells + low + 1], axis=1)
            part = np.concatenate([part * (1 - share), part * share], axis=1)
        corners = cell.shape[1]
        # Every column has the same number of entries, so the sparse matrix is made of its arrays, without sorting.
        starts = np.arange(0, corners * image.size + 1, corners)
        spread = sparse.csc_array((part.ravel(), cell.ravel(), starts), (int(np.prod(shape)), image.size))
        # Spreading and reading by linear interpolation each blur by a variance of (step^2 - 1) / 6 on average, so the
        # lattice is blurred by that much less.
        sigmas = tuple(
            np.sqrt(sigma**2 - (step**2 - 1) / 3) / step
            for sigma, step in zip((sa_px, sa_px, sb_grey), steps, strict=True)
        )
        return cls(spread, shape, sigmas)

    @cached_property
    def read(self) -> sparse.csr_array:
        """The transpose of `spread`."""
        return self.spread.T

    def filtered(self, values: Floats) -> Floats:
        """Return the sum over all pixels weighted by the kernel, for each pixel."""
        cells = (self.spread @ values.ravel()).reshape(self.shape)
        filtered: Floats = (self.read @ gaussian(cells, self.sigmas).ravel()).reshape(values.shape)
        return filtered


def spacing(sigma: float) -> int:
    """Return the step of the lattice along an axis: the largest power of two up to half of sigma, at least 1.

    A power of two divides the edge of a block, so all tiles of a section can share one lattice.

    Examples
    --------
    >>> [spacing(sigma) for sigma in (1, 4, 50, 67)]
    [1, 2, 16, 32]
    """
    return 1 << max(0, int(np.floor(np.log2(sigma / 2))))


def halo_px(config: CrfConfig) -> int:
    """Return the context around a tile with which its core is that of the whole section to one step of 255."""
    reach = max(config.sa_px if config.w1 else 0, config.sg_px if config.w2 else 0)
    return round_up(int(np.ceil(HALO_SIGMAS * reach)), spacing(config.sa_px))


def bytes_per_pixel(config: CrfConfig) -> float:
    """Return how much memory `refine` takes for each pixel of a section at its peak."""
    cells = (GREY_LEVELS / spacing(config.sb_grey) + 1) / spacing(config.sa_px) ** 2
    return BYTES_A_PIXEL + CELL_COPIES * 8 * cells
