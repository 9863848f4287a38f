"""How fast this machine multiplies matrices: what convolutions can reach at best."""

from __future__ import annotations

import time

import torch


def gemm_gflops(threads: int | None = None, size: int = 2048, repeats: int = 5) -> float:
    """Return the best rate of several multiplications of two square float32 matrices.

    A figure taken before and after a measurement tells whether the machine was as quiet at the end as at the start:
    other programs on it lower the figure.

    Parameters
    ----------
    threads : int, optional
        Threads to multiply with; those of torch when absent.
    size : int
        Edge of the matrices.
    repeats : int
        Multiplications of which the fastest counts.

    Returns
    -------
    float
        In 10^9 floating-point operations per second.

    Examples
    --------
    >>> gemm_gflops(size=64, repeats=2) > 0
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        left, right = torch.rand(size, size), torch.rand(size, size)
        out = left @ right
        fastest = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            torch.mm(left, right, out=out)
            fastest = min(fastest, time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / fastest / 1e9
