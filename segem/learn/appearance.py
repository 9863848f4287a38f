"""Teaches a net on sections that look as if another microscope had recorded them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import MapTransform, Randomizable

from segem.kernels.appearance import CHANGES, standardize_like


class RandAppearanced(Randomizable, MapTransform):
    """Changes staining, contrast, width of the membranes, sharpness and noise; each of them every second time.

    What a net of few tissues learns of grey levels does not hold in the next one. The truth stays as it is, and so do
    mean and spread of the sections, since at use every volume is standardised.

    Parameters
    ----------
    keys : sequence of str
        Entries that hold (C, H, W) z-scores of adjacent sections, all of which are changed alike.
    prob : float
        Probability that anything is changed.
    kinds : sequence of str, optional
        Changes to choose from: ``stain`` (other grey for the same stuff), ``shade`` (uneven from side to side),
        ``width`` (of what is dark), ``sharpness`` and ``noise``; all of them when absent.

    Notes
    -----
    Domain randomisation, Tobin et al. (2017), arXiv:1703.06907; for segmentation across scanners, Billot et al. (2023),
    doi:10.1016/j.media.2023.102789.

    Examples
    --------
    >>> sections = np.random.default_rng(0).normal(1, 2, (1, 32, 32)).astype(np.float32)
    >>> out = RandAppearanced(["image"], prob=1.0)({"image": sections})["image"]
    >>> bool(np.isclose(out.mean(), sections.mean(), atol=1e-4)), bool(np.isclose(out.std(), sections.std(), atol=1e-4))
    (True, True)
    """

    def __init__(self, keys: Sequence[str], prob: float, kinds: Sequence[str] | None = None) -> None:
        MapTransform.__init__(self, keys)
        self.prob, self.kinds = prob, tuple(kinds or CHANGES)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the data, changed or as they were."""
        out = dict(data)
        if self.R.random() >= self.prob:
            return out
        chosen, seed = self.R.random(len(self.kinds)) < 1 / 2, self.R.randint(2**31)
        # At least one change, so that `prob` is the share of the crops that are changed.
        chosen[self.R.randint(len(chosen))] = True
        for key in self.keys:
            sections, rng = np.asarray(out[key], np.float32), np.random.default_rng(seed)
            changed = sections
            # In this order: what is stained is then imaged, and what is imaged is noisy.
            for kind in (one for one, is_chosen in zip(self.kinds, chosen, strict=True) if is_chosen):
                changed = CHANGES[kind](changed, rng)
            out[key] = standardize_like(changed, sections)
        return out
