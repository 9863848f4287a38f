"""Distillation: a net learns the output of another one, of its base model on old tissue or of a teacher everywhere."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


def compute_distillation(other: Callable[[Tensor], Tensor], image: Tensor, logits: Tensor, which: Tensor) -> Tensor:
    """Return how far the output on some crops of a batch is from that of another model.

    Parameters
    ----------
    other : callable
        The base model or the teacher, (B, C, H, W) to (B, 1, H, W) logits, without gradients.
    image : (B, C, H, W) float32
        Z-scores.
    logits : (B, 1, H, W)
        Output of the net in training.
    which : (B,) bool
        The crops that count: of tissue that the base model was trained on, or all of them for a teacher.

    Returns
    -------
    () float32 Tensor
        Kullback-Leibler divergence of a pixel in nats, the mean over the batch, where other crops count as 0; 0 when
        both give the same.

    Notes
    -----
    Li and Hoiem (2016), Learning without forgetting, doi:10.1007/978-3-319-46493-0_37, keep the output of the old net
    on new images; here it is kept on old images, as in the dark experience replay of Buzzega et al. (2020),
    arXiv:2004.07211. Labels say on which side of a border a pixel lies; the other model also says how near. A teacher
    is shown the very crop that the net sees, augmented alike, as Beyer et al. (2022), doi:10.1109/CVPR52688.2022.01065,
    found best.

    Examples
    --------
    >>> import torch
    >>> images, which = torch.zeros(2, 1, 4, 4), torch.tensor([True, False])
    >>> compute_distillation(torch.zeros_like, images, torch.zeros(2, 1, 4, 4), which).item()
    0.0
    """
    if not which.any():
        return logits.new_zeros(())
    then, now = other(image[which]).float(), logits[which].float()
    probability, surprise = then.sigmoid(), F.binary_cross_entropy_with_logits
    # Cross-entropy minus the other model's own entropy, which has no gradient but makes a perfect match 0.
    return which.float().mean() * (surprise(now, probability) - surprise(then, probability))


def freeze_batch_norm(net: nn.Module) -> None:
    """Keep the statistics of batch norm as they are: those of a batch of two tissues fit neither."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
