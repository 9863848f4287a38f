"""Weights learned on ImageNet for the nets of the zoo that share their layers with a classifier of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from segem.errors import ModelError
from segem.learn.tensors import check_finite, read_tensors

Source = Path | Literal["imagenet"]
"""A file of weights in torchvision's names, or torchvision's own download."""


def torchvision_weights(source: Source, weights: str) -> dict[str, Tensor]:
    """Return the weights of a classifier of torchvision.

    Parameters
    ----------
    source : Path or "imagenet"
        A ``.safetensors`` file or a ``.pth`` file of tensors only; or torchvision's download, kept in torch's cache and
        checked by its hash.
    weights : str
        What to download, such as ``VGG16_Weights.IMAGENET1K_V1``.

    Raises
    ------
    ModelError
        When there is no network, no such file, the file holds something else or a weight is not finite.
    """
    state = _published(weights) if source == "imagenet" else read_tensors(source)
    check_finite(state, source)
    return state


def _published(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight

    weights = get_weight(name)
    try:
        return dict(weights.get_state_dict(check_hash=True))
    except Exception as error:
        # No network, a proxy that refuses, a file that is not the published one: each comes as another type of error.
        raise ModelError(
            "the ImageNet weights cannot be fetched",
            where=weights.url,
            found=error,
            fix="fetch that file where there is a network and give its path, as in --pretrained weights.pth",
        ) from None


def for_sections(weight: Tensor, sections: int) -> Tensor:
    """Return the weights of a first convolution on grey sections, made from those on three colours.

    The middle section gets the sum over the colours, so the layer gives for a grey image what it gave for the same
    image in all three channels; a mean would make all activations three times as small. The sections around it start at
    zero.

    Examples
    --------
    >>> import torch
    >>> for_sections(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1), 3).flatten().tolist()
    [0.0, 7.0, 0.0]
    """
    found = weight.new_zeros(len(weight), sections, *weight.shape[2:])
    found[:, sections // 2] = weight.sum(dim=1)
    return found


def filled(
    net: nn.Module,
    state: Mapping[str, Tensor],
    prefixes: tuple[str, ...],
    source: Source,
    first: str,
    left_out: tuple[str, ...] = (),
) -> None:
    """Copy weights into a net that must fill every layer under the given prefixes.

    `first` names the weights of the first convolution, which are made fit for grey sections.

    Raises
    ------
    ModelError
        When one is missing or has another shape.
    """
    own = net.state_dict()
    if first in state:
        state = {**state, first: for_sections(state[first], own[first].shape[1])}
    wanted = [key for key in own if key.startswith(prefixes) and not any(part in key for part in left_out)]
    for key in wanted:
        value = state.get(key)
        if value is None or value.shape != own[key].shape:
            raise ModelError(
                "the weights do not fit",
                where=source,
                expected=f"{key} {tuple(own[key].shape)}",
                found="nothing" if value is None else tuple(value.shape),
                fix="give the weights of the classifier that this net is built on",
            )
    net.load_state_dict({key: state[key] for key in wanted}, strict=False)
