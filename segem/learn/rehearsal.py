"""Rehearsal: a net that is fine-tuned on new tissue shall give on old tissue what its base model gave."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


def compute_distillation(base: Callable[[Tensor], Tensor], image: Tensor, logits: Tensor, rehearsed: Tensor) -> Tensor:
    """Return how far the answers to the rehearsed crops of a batch are from those of the base model.

    Parameters
    ----------
    base : callable
        The base model, (B, C, H, W) to (B, 1, H, W) logits, without gradients.
    image : (B, C, H, W) float32
        Z-scores.
    logits : (B, 1, H, W)
        What the net gives now.
    rehearsed : (B,) bool
        Which crops are of tissue that the base model has learned.

    Returns
    -------
    () float32 Tensor
        The mean divergence (Kullback-Leibler) of a pixel in nats, where other crops count as 0; 0 when nothing is
        forgotten.

    Notes
    -----
    Li and Hoiem (2016), Learning without forgetting, doi:10.1007/978-3-319-46493-0_37, keep the answers of the old net
    to new images; here they are those to old images, as in the dark experience replay of Buzzega et al. (2020),
    arXiv:2004.07211. Labels say on which side of a border a pixel lies; the base model says also how near.

    Examples
    --------
    >>> import torch
    >>> images, which = torch.zeros(2, 1, 4, 4), torch.tensor([True, False])
    >>> compute_distillation(torch.zeros_like, images, torch.zeros(2, 1, 4, 4), which).item()
    0.0
    """
    if not rehearsed.any():
        return logits.new_zeros(())
    then, now = base(image[rehearsed]).float(), logits[rehearsed].float()
    probability, surprise = then.sigmoid(), F.binary_cross_entropy_with_logits
    return rehearsed.float().mean() * (surprise(now, probability) - surprise(then, probability))


def freeze_batch_norm(net: nn.Module) -> None:
    """Keep the statistics of batch norm as they are: those of a batch of two tissues would be neither's."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
