"""Patches for nets that classify the pixel in the middle of a window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segem.kernels.truth import is_known
from segem.learn.augment import LABEL


class PatchClassifier(Protocol):
    """A net that is trained on patches."""

    def logits_of_patches(self, patches: Tensor) -> Tensor:
        """Return the logits (B, 1, 1, 1) of the centres of patches (B, C, edge, edge)."""


def cut_patch(
    layers: Mapping[str, NDArray[np.float32]], edge_px: int, membrane: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Cut a patch whose centre is of the class asked for, from all layers of a section.

    Parameters
    ----------
    layers : mapping of str to (C, H, W) float32
        Image, truth and weights; beyond their borders they are mirrored.
    edge_px : int
        Edge of the patch, odd.
    membrane : {0, 1}
        Class of the centre; any pixel that is known is taken where the section has none of it.
    rng : Generator
        Chooses among all pixels of the class.

    Returns
    -------
    dict of str to (C, edge_px, edge_px) float32

    Examples
    --------
    >>> truth = np.array([[[0.0, 0.0, 1.0]]], np.float32)
    >>> cut_patch({"label": truth}, 3, membrane=1, rng=np.random.default_rng(0))["label"][0, 1].tolist()
    [0.0, 1.0, 0.0]
    """
    truth = layers[LABEL][0]
    of_class = np.flatnonzero(truth == membrane)
    centre = rng.choice(of_class if len(of_class) else np.flatnonzero(is_known(truth)))
    windows = [
        np.pad(np.arange(size), edge_px // 2, mode="reflect")[start : start + edge_px]
        for size, start in zip(truth.shape, np.unravel_index(centre, truth.shape), strict=True)
    ]
    rows, columns = np.ix_(*windows)
    return {key: layer[:, rows, columns] for key, layer in layers.items()}
