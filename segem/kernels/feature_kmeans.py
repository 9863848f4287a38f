"""K-means on filter features, which describe the surroundings of a voxel and not only its intensity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from segem.errors import InputError

_BATCH = 4096
_MAX_EPOCHS = 10


@dataclass(frozen=True)
class FeatureClusters:
    """The clusters of a volume's filter features.

    Parameters
    ----------
    mean, scale : (features,) float32
        Each feature is shifted and divided by these before distances are taken.
    centres : (clusters, features) float32
        Centres of the clusters, in scaled features; the first is membrane.
    dark, bright : float
        Mean intensity of the sampled voxels of the membrane cluster, and of all others.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    centres: NDArray[np.float32]
    dark: float
    bright: float


def fit_feature_clusters(
    samples: NDArray[np.float32], intensities: NDArray[np.uint8 | np.uint16], clusters: int, seed: int
) -> FeatureClusters:
    """Cluster sampled voxels by their features; the cluster with the darkest mean intensity is membrane.

    Parameters
    ----------
    samples : (voxels, features) float32
        Features of voxels drawn from the whole volume.
    intensities : (voxels,) uint8 or uint16
        Intensities of the same voxels.
    clusters : int
        Number of clusters.
    seed : int
        Seed of the first centres and of the batches.

    Returns
    -------
    FeatureClusters
        Where all voxels are equal there is one cluster, and nothing is membrane.

    Raises
    ------
    InputError
        When there is no voxel.

    Notes
    -----
    Mini-batch K-means of Sculley (2010), doi:10.1145/1772690.1772862, by scikit-learn, from one k-means++ start. It
    runs a fixed number of steps: the sum by which it could stop early depends on the number of threads, so another
    machine would stop at another step. Each feature is scaled to zero mean and unit deviation over the sample, so that
    no feature dominates by its unit.

    Examples
    --------
    >>> samples = np.array([[0, 5], [0, 6], [9, 5], [9, 6]], np.float32)
    >>> found = fit_feature_clusters(samples, np.array([200, 210, 40, 50], np.uint8), clusters=2, seed=0)
    >>> found.dark, found.bright, found.centres[:, 0].round().tolist()
    (45.0, 205.0, [1.0, -1.0])
    """
    if not samples.size:
        raise InputError("no voxels to cluster", expected="at least one voxel", found="none", fix="give a volume")
    mean, scale = samples.mean(axis=0, dtype=np.float64), samples.std(axis=0, dtype=np.float64)
    # A constant feature carries no information; divided by almost 0, its rounding errors would decide.
    scale = np.where(scale > 1e-6, scale, np.inf)
    scaled = (samples - mean) / scale
    found = min(clusters, len(np.unique(scaled, axis=0)))
    fitted = MiniBatchKMeans(
        n_clusters=found,
        n_init=1,
        batch_size=_BATCH,
        max_iter=_MAX_EPOCHS,
        # No early stop, see Notes.
        max_no_improvement=None,
        init_size=3 * _BATCH,
        # scikit-learn takes 32 bits of a seed.
        random_state=seed % 2**32,
    ).fit(scaled)
    labels = fitted.labels_
    voxels = np.bincount(labels, minlength=found)
    brightness = np.bincount(labels, weights=intensities, minlength=found) / np.maximum(voxels, 1)
    # A cluster without voxels has no intensity, so it must not count as the darkest.
    order = np.argsort(np.where(voxels > 0, brightness, np.inf), kind="stable")
    inside = labels == order[0]
    dark = float(np.mean(intensities[inside]))
    return FeatureClusters(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        centres=fitted.cluster_centers_[order].astype(np.float32),
        dark=dark,
        bright=dark if inside.all() else float(np.mean(intensities[~inside])),
    )


def mark_membrane_cluster(features: Iterable[NDArray[np.float32]], clusters: FeatureClusters) -> NDArray[np.uint8]:
    """Return 1 where a voxel is nearest to the membrane cluster, else 0.

    Parameters
    ----------
    features : iterable of (y, x) float32
        The features in the order in which they were clustered; one at a time is in memory.
    clusters : FeatureClusters
        Of the whole volume.

    Returns
    -------
    (y, x) uint8, 0 or 1
        All 0 where there is only one cluster. A voxel exactly half-way counts as background.

    Examples
    --------
    >>> centres = np.array([[-1.0], [1.0]], np.float32)
    >>> clusters = FeatureClusters(np.zeros(1, np.float32), np.ones(1, np.float32), centres, 10.0, 90.0)
    >>> mark_membrane_cluster([np.array([[-3, 0, 0.5]], np.float32)], clusters).tolist()
    [[1, 0, 0]]
    """
    # Feature by feature, so that a tile's features are never all in memory.
    distances: list[NDArray[np.float32]] = []
    for feature, mean, scale, at in zip(features, clusters.mean, clusters.scale, clusters.centres.T, strict=True):
        scaled = (feature - mean) / scale
        squares = [(scaled - centre) ** 2 for centre in at]
        distances = [total + more for total, more in zip(distances, squares, strict=True)] if distances else squares
    membrane, *others = distances
    if not others:
        return np.zeros(membrane.shape, np.uint8)
    mask: NDArray[np.uint8] = (membrane < np.minimum.reduce(others)).astype(np.uint8)
    return mask
