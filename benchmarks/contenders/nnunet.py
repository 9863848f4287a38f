"""nnU-Net's predictor around a net that it did not train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from contenders.case import Case, Stack


def patches(patch_px: int) -> Callable[[Case], Callable[[Stack, Path], Tensor]]:
    """Return a contender that predicts patches of this edge."""

    def start(case: Case) -> Callable[[Stack, Path], Tensor]:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.network = case.net()
        predictor.configuration_manager = SimpleNamespace(patch_size=(patch_px, patch_px))
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)

        def predict(stack: Stack, _: Path) -> Tensor:
            # It takes (channel, z, y, x), and goes through z by itself when the patch has two axes.
            logits: Tensor = predictor.predict_sliding_window_return_logits(stack.input.movedim(0, 1))
            return logits

        return predict

    return start
