"""What a net gave before it went on learning: on tissue it knows already, it is to give that still."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


class Memory:
    """A net as it was before it went on learning.

    Parameters
    ----------
    before : callable
        (B, C, H, W) to (B, 1, H, W) logits, without gradients.
    weight : float
        How much a forgotten crop counts, beside what its truth counts.

    Notes
    -----
    Li and Hoiem (2016), Learning without forgetting, doi:10.1007/978-3-319-46493-0_37, keep the answers of the old net
    to new images; here they are those to old images, as in the dark experience replay of Buzzega et al. (2020),
    arXiv:2004.07211. Labels say on which side of a border a pixel lies; the old net says also how near.
    """

    def __init__(self, before: Callable[[Tensor], Tensor], weight: float) -> None:
        self.before, self.weight = before, weight

    def forgotten(self, image: Tensor, logits: Tensor, rehearsed: Tensor) -> Tensor:
        """Return how far the answers to the rehearsed crops of a batch are from what they were.

        Parameters
        ----------
        image : (B, C, H, W) float32
            Z-scores.
        logits : (B, 1, H, W)
            What the net gives now.
        rehearsed : (B,) bool
            Which crops are to be remembered.

        Returns
        -------
        () float32 Tensor
            The mean divergence (Kullback-Leibler) of a pixel in nats, where other crops count as 0; 0 when nothing is
            forgotten.
        """
        if not rehearsed.any():
            return logits.new_zeros(())
        before = self.before(image[rehearsed]).float()
        now = logits[rehearsed].float()
        probability = before.sigmoid()
        far = F.binary_cross_entropy_with_logits(now, probability) - F.binary_cross_entropy_with_logits(
            before, probability
        )
        return self.weight * rehearsed.float().mean() * far


def keep_statistics(net: nn.Module) -> None:
    """Keep the statistics of batch norm as they are: those of a batch of two tissues would be neither's."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
