"""What a net makes of a tile, beside what it makes of the whole section."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def tile_errors(net: nn.Module, stride_px: int, halos_px: Sequence[int], channels: int = 1) -> list[float]:
    """Return, for each halo, the largest relative error of a core's logits when only the halo around it is seen."""
    net, widest = net.double().eval(), max(halos_px)
    size = 4 * stride_px + 2 * widest
    start, stop = stride_px + widest, 2 * stride_px + widest
    x = torch.randn(1, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = net(x)[..., start:stop, start:stop]
        errors = []
        for halo in halos_px:
            tile = x[..., start - halo : stop + halo, start - halo : stop + halo]
            core = net(tile)[..., halo : halo + stride_px, halo : halo + stride_px]
            errors.append(float((core - whole).abs().max() / whole.abs().max()))
    return errors


def losses(net: nn.Module, steps: int = 15, learning_rate: float = 1e-3, size: int = 64) -> list[float]:
    """Return the losses of a few steps on one crop whose dark half is membrane."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 1, size, size)
    truth[..., size // 2 :] = 1
    x = truth * -2 + 1 + 0.3 * torch.randn(truth.shape, generator=generator)
    optimizer, found = torch.optim.AdamW(net.train().parameters(), learning_rate), []
    for _ in range(steps):
        loss = nn.functional.binary_cross_entropy_with_logits(net(x), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found
