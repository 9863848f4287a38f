"""torch-em's blocks with a halo; a block is one section deep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from contenders.case import Case, Stack
from segem.kernels.normalize import zscore

LOGITS = "logits.zarr"
"""What `zarr_to_zarr` writes."""


def blocks(block_px: int | None, halo_px: int, fast: bool = False) -> Callable[[Case], Callable[[Stack, Path], Any]]:
    """Return a contender with blocks of this edge; the whole section when None."""

    def start(case: Case) -> Callable[[Stack, Path], Any]:
        run = _predictor(case.optimised_net() if fast else case.net(), block_px, halo_px)

        def predict(stack: Stack, _: Path) -> NDArray[np.float32]:
            image = stack.input[:, 0].numpy()
            logits = np.zeros((1, *image.shape), np.float32)
            run(image, output=logits, preprocess=None)
            return logits

        return predict

    return start


def zarr_to_zarr(case: Case) -> Callable[[Stack, Path], None]:
    """Read the sections from Zarr and write the logits to Zarr, so that memory stays bounded."""
    run = _predictor(case.net(), 512, 64)

    def predict(stack: Stack, folder: Path) -> None:
        raw = stack.volume.raw
        store = zarr.open_array(
            folder / LOGITS, mode="a", shape=(1, *raw.shape), chunks=(1, 1, 512, 512), dtype="float32"
        )
        run(raw, output=store, preprocess=partial(zscore, statistics=stack.statistics))

    return predict


def read(_: Stack, folder: Path) -> NDArray[np.float32]:
    """Return the probabilities that `zarr_to_zarr` has written."""
    logits = zarr.open_array(folder / LOGITS, mode="r")
    probability: NDArray[np.float32] = expit(np.asarray(logits[0], np.float32))
    return probability


def _predictor(net: nn.Module, block_px: int | None, halo_px: int) -> Callable[..., Any]:
    from torch_em.util.prediction import predict_with_halo

    def in_plane(net: nn.Module, x: Tensor) -> Tensor:
        return net(x[:, :, 0])[:, :, None]  # type: ignore[no-any-return]

    def run(image: Any, **settings: Any) -> None:
        height, width = image.shape[1:]
        block = (1, min(block_px or height, height), min(block_px or width, width))
        predict_with_halo(
            image,
            net,
            ["cpu"],
            block,
            (0, halo_px, halo_px),
            prediction_function=in_plane,
            disable_tqdm=True,
            **settings,
        )

    return run
