"""Everything that is measured side by side: one small function for each contender, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contenders import bare, biapy, bioimageio, monai, nnunet, segem, torch_em
from contenders.case import Case, Stack

Predict = Callable[[Stack, Path], Any]
"""Segments a stack: returns logits of shape (N, H, W) after dropping axes of length 1, or writes to the folder."""


@dataclass(frozen=True)
class Contender:
    """One way to segment a stack.

    Parameters
    ----------
    name : str
        For the command line.
    about : str
        Settings, for the table.
    start : callable
        Everything before the first section: imports, weights, compiling. Returns what is timed.
    needs : str
        Package it belongs to, for its version.
    read : callable, optional
        Returns the probabilities, (N, H, W), that a contender who writes to disk has left there.
    quick : bool
        Part of the short comparison too.
    """

    name: str
    about: str
    start: Callable[[Case], Predict]
    needs: str
    read: Callable[[Stack, Path], NDArray[np.float32]] | None = None
    quick: bool = False


def _segem(name: str, about: str, quick: bool = True, **settings: Any) -> Contender:
    return Contender(name, about, lambda case: segem.start(case, **settings), "segem", segem.read, quick)


ALL = (
    Contender("bare-eager", "the net on whole sections, as PyTorch runs it", bare.eager, "torch", quick=True),
    Contender("bare-optimised", "the same, folded, channels last, memory kept", bare.optimised, "torch", quick=True),
    Contender("bare-openvino", "the same net compiled, fp32", bare.openvino, "openvino", quick=True),
    Contender("monai", "windows of 256, overlap 0.25 (its defaults)", monai.default, "monai", quick=True),
    Contender("monai-gaussian", "windows of 256, overlap 0.5, Gaussian", monai.gaussian, "monai"),
    Contender("monai-whole", "the whole section as one window", monai.whole, "monai", quick=True),
    Contender("nnunet-512", "patches of 512, step 0.5, no mirroring", nnunet.patches(512), "nnunetv2", quick=True),
    Contender("nnunet-1024", "patches of 1024, step 0.5, no mirroring", nnunet.patches(1024), "nnunetv2"),
    Contender("torch-em-64", "blocks of 512, halo 64", torch_em.blocks(512, 64), "torch_em", quick=True),
    Contender("torch-em-96", "blocks of 512, halo 96", torch_em.blocks(512, 96), "torch_em"),
    Contender("torch-em-whole", "the whole section, no halo", torch_em.blocks(None, 0), "torch_em"),
    Contender("torch-em-64-fast", "halo 64, optimised net", torch_em.blocks(512, 64, fast=True), "torch_em"),
    Contender(
        "torch-em-96-fast", "halo 96, optimised net", torch_em.blocks(512, 96, fast=True), "torch_em", quick=True
    ),
    Contender("torch-em-whole-fast", "whole, optimised net", torch_em.blocks(None, 0, fast=True), "torch_em"),
    Contender(
        "torch-em-zarr",
        "halo 64, Zarr in and out",
        torch_em.zarr_to_zarr,
        "torch_em",
        torch_em.read,
        quick=True,
    ),
    Contender("bioimageio", "blocks of 640 with halo 64", bioimageio.blockwise, "bioimageio.core"),
    Contender("biapy", "patches of 640 with padding 64", biapy.patches, "biapy"),
    _segem("segem", "whole pipeline, fp32"),
    _segem("segem-torch", "whole pipeline, fp32 in torch", runtime="torch"),
    _segem("segem-int8", "whole pipeline, int8", runtime="openvino-int8", int8_tolerance=1.0),
    _segem("segem-512", "whole pipeline, tiles of 512 with halo 96", quick=False, tile_px=512),
)
BY_NAME = {contender.name: contender for contender in ALL}
