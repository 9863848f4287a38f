"""BiaPy's patches with padding, cut and merged by its own functions; its workflow around them is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contenders.case import Case, Stack

PATCH_PX, PADDING_PX = 640, 64


def patches(case: Case) -> Callable[[Stack, Path], NDArray[np.float32]]:
    """Cut patches that include their padding, predict them one by one, and merge what is inside the padding."""
    from biapy.data.data_2D_manipulation import crop_data_with_overlap, merge_data_with_overlap

    net = case.net()
    padding = (PADDING_PX, PADDING_PX)

    def predict(stack: Stack, _: Path) -> NDArray[np.float32]:
        image = stack.input.movedim(1, -1).numpy()
        edge = min(PATCH_PX, image.shape[1])
        cut, *_coordinates = crop_data_with_overlap(image, (edge, edge, 1), padding=padding, verbose=False)
        logits = np.empty_like(cut)
        with torch.inference_mode():
            for i, patch in enumerate(cut):
                logits[i] = net(torch.from_numpy(patch).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
        merged: NDArray[np.float32] = merge_data_with_overlap(logits, image.shape, padding=padding, verbose=False)
        return merged

    return predict
