"""Compares the sliding window of 2012, patch by patch, with the same net evaluated at all pixels at once.

    .venv/bin/python benchmarks/patchnet.py [--data-root DIR] [--rounds 5]

Labels every pixel of one section of 512x512 with freshly initialised weights of `patchnet` (speed does not depend on
them): the first section of ISBI 2012 under DIR, or a synthetic one. Everything is computed by one thread, and torch has
every input channels last, which suits the patches best too. Inside the clock is what turns z-scores into logits, or
into probabilities where segem's engine does it; patches are cut beforehand, which favours them. The time of the
patches is that of 2048 of them, drawn over the section, times 512 * 512 / 2048. In each round everything is measured
once, so that what disturbs a machine for a while disturbs all alike; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import provenance
from numpy.typing import NDArray
from torch import Tensor

from segem.config import RuntimeName, SynthConfig
from segem.io.readers import open_stack
from segem.kernels.normalize import IntensityStatistics, histogram, zscore
from segem.kernels.synth import draw_sections
from segem.learn.engine import Engine
from segem.learn.models.mirror import mirrored
from segem.learn.models.patchnet import BORDER_PX, PATCH_PX, PatchNet
from segem.learn.runtimes.openvino import installed
from segem.learn.speed import gemm_gflops

SIZE_PX = 512
SAMPLE = 2048
BATCH = 256
AGREEMENT = 1e-4


def main() -> None:
    """Print a line for each way to evaluate the net, and how many times quicker than patches the dense ones are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder that holds isbi2012/")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(provenance(), f"torch {torch.__version__}", sep="; ")
    torch.set_num_threads(1)
    print(f"GEMM before: {gemm_gflops(1):.0f} Gflop/s")

    torch.manual_seed(0)
    net = PatchNet().eval().to(memory_format=torch.channels_last)
    z = section(arguments.data_root)
    x = torch.from_numpy(z)[None, None].contiguous(memory_format=torch.channels_last)
    pixels, patches = sample(x)
    engines = {name: Engine(net, torch.device("cpu"), threads=1, runtime=name) for name in runtimes()}
    patchwise = {
        "patches one by one": lambda: torch.cat([net.logits_of_patches(one) for one in torch.split(patches, 1)]),
        f"patches by {BATCH}": lambda: torch.cat([net.logits_of_patches(some) for some in torch.split(patches, BATCH)]),
    }
    dense = {
        "dense, fragments, torch": lambda: net.logits_fragments(x),
        "dense, kernels with gaps, torch": lambda: net.logits_atrous(x),
    } | {
        f"dense, engine, {name}": lambda engine=engine: torch.from_numpy(engine.probability(z[np.newaxis])).logit()
        for name, engine in engines.items()
    }

    seconds: dict[str, list[float]] = {}
    with torch.inference_mode():
        expected = net.logits_of_patches(patches).flatten()
        for name, way in dense.items():
            # Once before the clock starts; and a quick answer has to be the right one.
            off = float((way().reshape(SIZE_PX, SIZE_PX)[pixels] - expected).abs().max())
            if not off < AGREEMENT * max(1.0, float(expected.abs().max())):
                raise SystemExit(f"{name} is {off:.2g} off the patches")
        for _ in range(arguments.rounds):
            for name, way in (patchwise | dense).items():
                scale = SIZE_PX**2 / SAMPLE if name in patchwise else 1.0
                seconds.setdefault(name, []).append(scale * timed(way))
    for engine in engines.values():
        engine.close()

    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        line = f"{name}: {median[name]:.2f} s ({min(values):.2f} to {max(values):.2f})"
        if name in dense:
            line += "".join(f", {median[slow] / median[name]:.0f} times quicker than {slow}" for slow in patchwise)
        print(line)
    print(f"GEMM after: {gemm_gflops(1):.0f} Gflop/s")


def section(data_root: Path | None) -> NDArray[np.float32]:
    """Return z-scores (512, 512) of a real section, or of a drawn one."""
    if data_root is None:
        (drawn,) = draw_sections(SynthConfig(shape=(1, SIZE_PX, SIZE_PX)))
        image = drawn.image
    else:
        with open_stack(data_root / "isbi2012" / "train-volume.tif") as stack:
            image = stack.section(0)[:SIZE_PX, :SIZE_PX]
    return zscore(image, IntensityStatistics.from_histogram(histogram(image)))


def sample(x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return pixels drawn at random, as rows and columns, and the patches around them."""
    rows, columns = torch.randint(SIZE_PX, (2, SAMPLE), generator=torch.Generator().manual_seed(0))
    windows = mirrored(x, BORDER_PX, (BORDER_PX, BORDER_PX))[0, 0].unfold(0, PATCH_PX, 1).unfold(1, PATCH_PX, 1)
    patches = windows[rows, columns][:, None].contiguous(memory_format=torch.channels_last)
    return (rows, columns), patches


def runtimes() -> list[RuntimeName]:
    """Return the runtimes that are installed here."""
    return ["torch", "openvino"] if installed("openvino") else ["torch"]


def timed(way: Callable[[], Tensor]) -> float:
    """Return the seconds one evaluation takes."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
